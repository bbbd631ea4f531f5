from datetime import UTC, datetime, timedelta

import pytest

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key, parse_time, publication_time, zone
from segmenter_plugin.errors import ConfigError, CutoffError


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        ("2017-10-01", "UTC", datetime(2017, 10, 1, tzinfo=UTC)),
        ("2017-10-01", "America/New_York", datetime(2017, 10, 1, 4, tzinfo=UTC)),
        ("2017-12-01", "America/New_York", datetime(2017, 12, 1, 5, tzinfo=UTC)),
        ("2017-10-01T06:00:00+02:00", None, datetime(2017, 10, 1, 4, tzinfo=UTC)),
        ("2017-10-01T06:00:00Z", "Europe/Berlin", datetime(2017, 10, 1, 6, tzinfo=UTC)),
        (datetime(2017, 10, 1, 6), "Europe/Berlin", datetime(2017, 10, 1, 4, tzinfo=UTC)),  # noqa: DTZ001
    ],
)
def test_a_time_is_read_in_its_zone(text, timezone, expected):
    assert parse_time(text, timezone) == expected


@pytest.mark.parametrize("text", ["2017-13-01", "yesterday", "", "1506816000"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(CutoffError, match="is not a time"):
        parse_time(text, "UTC")


def test_a_naive_time_without_a_zone_is_refused_with_a_hint():
    with pytest.raises(CutoffError, match="names no zone") as caught:
        parse_time("2017-10-01")
    assert "timezone" in caught.value.hint


def test_an_unknown_zone_is_a_configuration_error():
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        zone("Mars/Olympus")


def test_a_cutoff_survives_its_folder_name():
    cutoff = datetime(2017, 10, 1, 4, 30, 5, tzinfo=UTC)
    assert parse_cutoff_key(cutoff_key(cutoff)) == cutoff
    assert parse_cutoff_key("manifest.json") is None


def test_the_publication_time_is_now_unless_it_is_given():
    before = datetime.now(tz=UTC)
    assert before <= publication_time() <= before + timedelta(minutes=1)
    assert publication_time("2020-01-01T00:00:00Z") == datetime(2020, 1, 1, tzinfo=UTC)

"""Which local files the configuration's events are."""

import pytest

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.files import local_files


def config_of(**events):
    columns = {"user_id": "u", "item_id": "i", "event_type": "t", "event_timestamp": "at"}
    return EventsConfig.model_validate({"columns": columns} | events)


@pytest.fixture
def folder(tmp_path):
    names = ["b.parquet", "a.parquet", "day=1/c.parquet", "_temporary/d.parquet", ".e.parquet", "f.csv", "notes.md"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("", "parquet", ["a.parquet", "b.parquet", "day=1/c.parquet"]),
        ("", "csv", ["f.csv"]),
        ("b.parquet", "parquet", ["b.parquet"]),
        ("[ab].parquet", "parquet", ["a.parquet", "b.parquet"]),
        ("day=*", "parquet", ["day=1/c.parquet"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_files_of_a_path(folder, path, kind, expected, scheme):
    files = local_files(config_of(path=f"{scheme}{folder / path}", format=kind))
    assert [str(file.relative_to(folder)) for file in files] == expected


def test_a_name_with_brackets_is_a_name_first(folder):
    (folder / "x[1].parquet").touch()
    assert local_files(config_of(path=str(folder / "x[1].parquet"))) == [folder / "x[1].parquet"]


def test_elsewhere_is_not_looked_at():
    assert local_files(config_of(path="s3://bucket/events")) is None
    assert local_files(config_of(table="lake.events")) is None


def test_no_file_is_an_error(folder):
    with pytest.raises(EventsError, match=r"names no parquet file") as caught:
        local_files(config_of(path=str(folder / "*.pq")))
    assert "glob" in caught.value.hint

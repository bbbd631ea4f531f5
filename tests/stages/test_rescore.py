"""Scoring whom an earlier cutoff's scores no longer stand for, and what comes after it on such a partition."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import signal_tables
from click.testing import CliRunner

from segmenter_plugin.data.behaviour_changes import is_age
from segmenter_plugin.data.partition import data_files, new_partition, read_batches, read_manifest
from segmenter_plugin.errors import ConfigError, CutoffError, MissingStageError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish
from segmenter_plugin.stages.rescore import RESCORED, Since
from segmenter_plugin.stages.score import score
from segmenter_plugin.stages.segment import segment
from segmenter_plugin.stages.train import finetune, pretrain

QUICK = {"pretrain": {"epochs": 0}, "finetune": {"probe_epochs": 1, "epochs": 0}, "segments": {"count": 3}}
DAY = timedelta(days=1)
START = signal_tables.LATER
USERS = signal_tables.users_of(60)


def aged(rows: pa.Table, days: int) -> pa.Table:
    """The same behaviour, some days later, with nothing new."""
    for place, field in enumerate(rows.schema):
        if is_age(field.name):
            rows = rows.set_column(place, field, pc.add(rows.column(place), float(days)))
        if field.name == "event_timestamp":
            later = pa.array([START + days * DAY] * len(rows), field.type)
            rows = rows.set_column(place, field, later)
    return rows


def whole_days(rows: pa.Table) -> pa.Table:
    """Ages that are whole microseconds, as those of real events are."""
    for place, field in enumerate(rows.schema):
        if is_age(field.name):
            rounded = np.round(rows.column(place).to_numpy(zero_copy_only=False))
            rows = rows.set_column(place, field, pa.array(rounded, from_pandas=True))
    return rows


def changed(rows: pa.Table, users: list[str]) -> pa.Table:
    """Other counts for some users."""
    place = rows.schema.get_field_index("event_count_7d")
    is_it = pc.is_in(rows["user_id"], pa.array(users, pa.string()))
    return rows.set_column(
        place, rows.schema.field(place), pc.if_else(is_it, pc.add(rows.column(place), 1), rows.column(place))
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, and the behaviour that they were trained on."""
    root = tmp_path_factory.mktemp("trained")
    config = signal_tables.signal_config(root, **QUICK)
    for cutoff in config.training_cutoffs:
        signal_tables.write_cutoff(config, cutoff, USERS)
    pretrain(config)
    finetune(config)
    return root


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> SimpleNamespace:
    """A shop scored whole as of `START`."""
    config = signal_tables.signal_config(tmp_path, **QUICK)
    shutil.copytree(trained / "artifacts", tmp_path / "artifacts")
    rows = whole_days(signal_tables.behaviour(config, START, USERS))
    layout = Layout.of(config)

    def build(days: int, change: list[str], left: str | None = None) -> None:
        table = changed(aged(rows, days), change)
        table = table if left is None else table.filter(pc.not_equal(table["user_id"], left))
        signal_tables.write_partition(
            layout.behaviour(START + days * DAY), tmp_path, table, f"behaviour {days} {change}"
        )

    def rescore(days: int, since: int, max_age_days: int = 28) -> dict:
        result = score(config, [START + days * DAY], since=Since(START + since * DAY, max_age_days))
        (entry,) = result["cutoffs"].values()
        return entry

    def scored(days: int) -> pa.Table:
        return pa.Table.from_batches(list(read_batches(layout.scores(START + days * DAY))))

    build(0, [])
    score(config, [START])
    return SimpleNamespace(config=config, layout=layout, build=build, rescore=rescore, scored=scored, root=tmp_path)


def users_in(table: pa.Table) -> list[str]:
    return table["user_id"].to_pylist()


def test_only_the_changed_are_scored_and_as_in_a_whole_run(shop):
    shop.build(1, [USERS[3], USERS[40]])
    entry = shop.rescore(1, since=0)
    assert entry["rows"] == 2
    assert {name: entry[RESCORED][name] for name in ("users", "changed", "aged")} == {
        "users": 60,
        "changed": 2,
        "aged": 0,
    }
    part = shop.scored(1)
    assert users_in(part) == [USERS[3], USERS[40]]
    score(shop.config, [START + DAY])
    whole = shop.scored(1)
    assert users_in(whole) == USERS
    same = whole.filter(pc.is_in(whole["user_id"], part["user_id"]))
    np.testing.assert_allclose(
        np.stack(part["embedding"].to_numpy()), np.stack(same["embedding"].to_numpy()), atol=1e-5
    )
    assert part.schema == whole.schema


def test_a_second_run_is_skipped_and_a_whole_one_is_left(shop, monkeypatch):
    shop.build(1, [USERS[3]])
    first = shop.rescore(1, since=0)
    again = shop.rescore(1, since=0)
    assert (again["skipped"], again["rows"], again[RESCORED]) == (True, 1, first[RESCORED])
    score(shop.config, [START + DAY])
    left = shop.rescore(1, since=0)
    assert left["skipped"]
    assert left["rows"] == 60


def test_who_is_new_is_scored_and_who_left_is_not(shop):
    shop.build(1, [], left=USERS[7])
    shop.rescore(1, since=0)
    shop.build(2, [], left=USERS[9])
    assert shop.rescore(2, since=1)["rows"] == 1
    assert users_in(shop.scored(2)) == [USERS[7]]


def test_scores_are_not_older_than_asked(shop):
    """Day 1 scores user 3, day 2 user 4; five days after the first all others are due, on the sixth user 3 too."""
    shop.build(1, [USERS[3]])
    shop.rescore(1, since=0, max_age_days=5)
    shop.build(2, [USERS[3], USERS[4]])
    assert users_in_after(shop, 2, 1) == [USERS[4]]
    shop.build(5, [USERS[3], USERS[4]])
    assert shop.rescore(5, since=2, max_age_days=5)[RESCORED]["aged"] == 0
    shop.build(6, [USERS[3], USERS[4]])
    entry = shop.rescore(6, since=5, max_age_days=5)
    # User 0 was scored on day 5, where nobody needed it.
    assert entry[RESCORED]["aged"] == 60 - 3
    assert not {USERS[3], USERS[4]} & set(users_in(shop.scored(6)))
    shop.build(7, [USERS[3], USERS[4]])
    assert shop.rescore(7, since=6, max_age_days=5)["rows"] == 1
    assert users_in(shop.scored(7)) == [USERS[3]]


def users_in_after(shop, days, since):
    shop.rescore(days, since, max_age_days=5)
    return users_in(shop.scored(days))


def test_other_files_than_before_cost_time_and_nothing_else(shop):
    rows = changed(aged(whole_days(signal_tables.behaviour(shop.config, START, USERS)), 1), [])
    with new_partition(
        shop.layout.behaviour(START + DAY), shop.root, {"stage": "test", "fingerprint": "one"}
    ) as staging:
        pq.write_table(rows, staging / "part-00000.parquet")
    assert shop.rescore(1, since=0)[RESCORED]["changed"] == 60


def test_where_nobody_needs_scores_one_row_is_written_all_the_same(shop):
    shop.build(1, [])
    entry = shop.rescore(1, since=0)
    assert (entry["rows"], entry[RESCORED]["changed"]) == (1, 0)
    segment(shop.config, [START, START + DAY])
    assert len(publish(shop.config, [START, START + DAY])["published"]) == 8


def test_segments_and_publishing_take_such_a_partition(shop):
    shop.build(1, USERS[10:20])
    shop.rescore(1, since=0)
    with pytest.raises(MissingStageError, match="hold only the users who changed"):
        segment(shop.config, [START + DAY])
    result = segment(shop.config, [START, START + DAY])
    assert [entry["users"] for entry in result["cutoffs"]] == [60, 10]
    publish(shop.config, [START, START + DAY])
    published = shop.root / "features"
    counts = {
        folder.name: [
            sum(pq.read_metadata(path).num_rows for path in data_files(part)) for part in sorted(folder.iterdir())
        ]
        for folder in published.iterdir()
    }
    some = [60, 10]
    assert counts == {
        "user_activity": [60, 60], "user_embedding_g1": some, "user_scores_g1": some, "user_segment_g1": some,
    }  # fmt: skip


def test_what_does_not_stand_is_not_gone_on_from(shop):
    shop.build(1, [USERS[3]])
    shop.rescore(1, since=0)
    shop.build(2, [USERS[3]])
    shop.build(1, [USERS[5]])  # built again since: late events, say
    with pytest.raises(MissingStageError, match="from other behaviour than there is now") as caught:
        shop.rescore(2, since=1)
    assert "segmenter score --cutoff 2024-06-02T00:00:00+00:00" in caught.value.hint
    assert shop.rescore(1, since=0)["rows"] == 1
    assert shop.rescore(2, since=1)["rows"] == 2
    shop.build(0, [USERS[8]])
    score(shop.config, [START])
    shop.build(3, [USERS[3]])
    with pytest.raises(MissingStageError, match=r"goes on from scores of 2024-06-01.* that have changed or are gone"):
        shop.rescore(3, since=2)


def test_times_that_make_no_sense_are_refused(shop):
    shop.build(1, [])
    with pytest.raises(CutoffError, match="is not before the cutoff"):
        shop.rescore(1, since=1)
    with pytest.raises(MissingStageError) as caught:
        score(shop.config, [START + DAY], since=Since(START - DAY, 5))
    assert caught.value.hint == "run `segmenter build --cutoff 2024-05-31T00:00:00+00:00` first."
    short = signal_tables.signal_config(shop.root, **QUICK, store={"ttl_days": 7, "root": str(shop.root)})
    with pytest.raises(ConfigError, match="--max-age-days 28 is not below"):
        score(short, [START + DAY], since=Since(START, 28))


def test_the_command_line_takes_both(shop, monkeypatch):
    from segmenter_plugin import cli
    from segmenter_plugin.commands import learn

    seen = {}
    monkeypatch.setattr("segmenter_plugin.stages.score.score", lambda *_, **named: seen.update(named) or {})
    monkeypatch.setattr(learn, "load", lambda *_: shop.config)
    arguments = ["score", "--cutoff", "2024-06-02", "--changed-since", "2024-06-01", "--max-age-days", "9"]
    assert CliRunner().invoke(cli.segmenter, arguments, catch_exceptions=False).exit_code == 0
    assert seen == {"since": Since(START, 9)}
    assert CliRunner().invoke(cli.segmenter, arguments[:3], catch_exceptions=False).exit_code == 0
    assert seen == {"since": None}


def test_the_manifest_tells_what_it_goes_on_from(shop):
    shop.build(1, [USERS[3]])
    shop.rescore(1, since=0)
    manifest = read_manifest(shop.layout.scores(START + DAY))
    base = read_manifest(shop.layout.scores(START))
    assert manifest[RESCORED]["base"] == base["fingerprint"]
    assert manifest[RESCORED]["changed_since"] == START.isoformat()

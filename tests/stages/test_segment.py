"""Segments on disk: fitted once for an encoder, reused later, skipped when unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scored_world

from segmenter_plugin.data.partition import current, new_partition, read_manifest
from segmenter_plugin.errors import ConfigError, CutoffError, MissingStageError
from segmenter_plugin.schemas import segments_schema
from segmenter_plugin.stages import segment as stage
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.segment import segment

NEXT = datetime(2017, 10, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def world():
    return scored_world


@pytest.fixture
def built(world, tmp_path):
    config = world.world_config(tmp_path)
    return config, world.build_world(config, users=300)


def add_cutoff(world, config, tables, cutoff, *, version="version-1", made_from="next"):
    """The same users a week on, some of them changed."""
    people = {name: np.roll(values, 100, axis=0) for name, values in tables["people"].items()}
    layout = Layout.of(config)
    scores = world.scores_table(config, cutoff, people, tables["ids"], trained_through=cutoff, version=version)
    world.put(config, layout.scores(cutoff), scores, f"scores {made_from}")
    behaviour = world.behaviour_table(config, cutoff, people, 9, tables["ids"])
    world.put(config, layout.behaviour(cutoff), behaviour, f"behaviour {made_from}")
    return scores


def read(config, cutoff):
    return pq.read_table(current(Layout.of(config).segments(cutoff)) / stage.DATA_FILE, partitioning=None)


def test_every_scored_user_gets_a_named_segment(built, world):
    config, tables = built
    result = segment(config, [world.LATER])
    rows = read(config, world.LATER)
    assert rows.schema == segments_schema(pa.string())
    assert sorted(rows.column("user_id").to_pylist()) == tables["ids"].to_pylist()
    assert set(rows.column("model_version").to_pylist()) == {"version-1"}
    assert set(rows.column("trained_through").to_pylist()) == {datetime(2017, 9, 15, tzinfo=UTC)}
    entry = result["cutoffs"][0]
    assert [profile["users"] for profile in entry["profile"]] == np.bincount(rows.column("segment_id")).tolist()
    names = {profile["segment_id"]: profile["name"] for profile in entry["profile"]}
    assert len(set(names.values())) == 3
    assert all(names.values())
    pairs = zip(rows.column("segment_id").to_pylist(), rows.column("segment_name").to_pylist(), strict=True)
    assert set(pairs) == set(names.items())
    assert names[0].startswith(("high spend", "very high spend", "frequent"))


def test_profiles_stand_in_the_result_and_the_manifest(built, world):
    config, _ = built
    result = segment(config, [world.LATER])
    json.dumps(result, allow_nan=False)
    manifest = read_manifest(Layout.of(config).segments(world.LATER))
    assert manifest["profile"] == result["cutoffs"][0]["profile"]
    (rows,) = result["tables"].values()
    assert [row["segment"] for row in rows] == [0, 1, 2]
    assert sum(row["users"] for row in rows) == 300


def test_unchanged_inputs_are_skipped(built, world):
    config, _ = built
    first = segment(config, [world.LATER])
    again = segment(config, [world.LATER])
    assert (first["skipped"], again["skipped"]) == (False, True)
    assert again["tables"] == first["tables"]
    assert again["cutoffs"][0]["profile"] == first["cutoffs"][0]["profile"]


def test_a_later_cutoff_reuses_the_segments_of_its_encoder(built, world):
    config, tables = built
    segment(config, [world.LATER])
    scores = add_cutoff(world, config, tables, NEXT)
    (entry,) = segment(config, [NEXT])["cutoffs"]
    assert entry["fitted_on"] == world.LATER.isoformat()
    before = dict(
        zip(*(read(config, world.LATER).column(name).to_pylist() for name in ("user_id", "segment_id")), strict=True)
    )
    after = dict(zip(*(read(config, NEXT).column(name).to_pylist() for name in ("user_id", "segment_id")), strict=True))
    users = scores.column("user_id").to_pylist()
    # User n is now what user n - 100 was, so it is now where that one was.
    assert [after[user] for user in users] == [before[user] for user in np.roll(users, 100)]


def test_the_first_given_cutoff_fits(built, world):
    config, tables = built
    add_cutoff(world, config, tables, NEXT)
    entries = segment(config, [NEXT, world.LATER])["cutoffs"]
    assert {entry["fitted_on"] for entry in entries} == {NEXT.isoformat()}


def test_another_encoder_gets_segments_of_its_own_and_the_old_ones_stay(built, world):
    config, tables = built
    first = segment(config, [world.LATER])
    add_cutoff(world, config, tables, NEXT, version="version-2")
    both = segment(config, [world.LATER, NEXT])["cutoffs"]
    assert [entry["skipped"] for entry in both] == [True, False]
    assert [entry["fitted_on"] for entry in both] == [world.LATER.isoformat(), NEXT.isoformat()]
    assert segment(config, [world.LATER])["cutoffs"] == [first["cutoffs"][0] | {"skipped": True}]


def test_segmenting_an_old_cutoff_again_does_not_displace_todays_segments(built, world):
    config, tables = built
    add_cutoff(world, config, tables, NEXT, version="version-2")
    segment(config, [world.LATER, NEXT])
    segment(config, [world.LATER])
    today = datetime(2017, 10, 15, tzinfo=UTC)
    add_cutoff(world, config, tables, today, version="version-2", made_from="today")
    assert segment(config, [today])["cutoffs"][0]["fitted_on"] == NEXT.isoformat()


@pytest.mark.parametrize("changed", ["scores", "behaviour"])
def test_changed_inputs_are_not_skipped(changed, built, world):
    config, tables = built
    segment(config, [world.LATER])
    world.put(config, getattr(Layout.of(config), changed)(world.LATER), tables[changed], "changed")
    (entry,) = segment(config, [world.LATER])["cutoffs"]
    assert not entry["skipped"]


def test_another_count_fits_again(built, world, tmp_path):
    config, _ = built
    segment(config, [world.LATER])
    more = world.world_config(tmp_path, segments={"count": 4})
    (entry,) = segment(more, [world.LATER])["cutoffs"]
    assert not entry["skipped"]
    assert len(entry["profile"]) == 4


def test_two_runs_give_the_same_rows(built, world, tmp_path_factory):
    config, _ = built
    other = world.world_config(tmp_path_factory.mktemp("other"))
    world.build_world(other, users=300)
    for each in (config, other):
        segment(each, [world.LATER])
    assert read(config, world.LATER).equals(read(other, world.LATER))


def test_batches_change_nothing(built, world, tmp_path_factory, monkeypatch):
    config, _ = built
    segment(config, [world.LATER])
    monkeypatch.setattr(stage, "READ_ROWS", 37)
    other = world.world_config(tmp_path_factory.mktemp("other"))
    world.build_world(other, users=300)
    result = segment(other, [world.LATER])
    assert read(config, world.LATER).equals(read(other, world.LATER))
    profile = read_manifest(Layout.of(config).segments(world.LATER))["profile"]
    for left, right in zip(profile, result["cutoffs"][0]["profile"], strict=True):
        assert right["lifts"] == pytest.approx(left["lifts"])


@pytest.mark.parametrize(("missing", "command"), [("scores", "score"), ("behaviour", "build")])
def test_a_missing_stage_names_its_command(missing, command, built, world):
    config, _ = built
    (getattr(Layout.of(config), missing)(world.LATER) / "manifest.json").unlink()
    with pytest.raises(MissingStageError) as caught:
        segment(config, [world.LATER])
    assert f"segmenter {command} --cutoff 2017-10-01" in caught.value.hint


def test_too_many_segments_leave_nothing_behind(built, world, tmp_path):
    config, tables = built
    world.put(config, Layout.of(config).scores(world.LATER), tables["scores"][:2], "two", files=1)
    with pytest.raises(ConfigError, match="only 2 users"):
        segment(config, [world.LATER])
    assert not Layout.of(config).segments(world.LATER).exists()
    assert not Layout.of(config).segment_model.exists()


def test_a_cutoff_without_users_is_told(built, world):
    config, tables = built
    segment(config, [world.LATER])
    scores = add_cutoff(world, config, tables, NEXT)
    with new_partition(Layout.of(config).scores(NEXT), config.root_path, {"stage": "x", "fingerprint": "y"}) as staging:
        pq.write_table(scores[:0], staging / "part-00000.parquet")
    with pytest.raises(CutoffError, match="no rows"):
        segment(config, [NEXT])


def test_integer_users_work(world, tmp_path):
    config = world.world_config(tmp_path)
    world.build_world(config, users=300, user_type=pa.int64())
    segment(config, [world.LATER])
    assert read(config, world.LATER).schema == segments_schema(pa.int64())

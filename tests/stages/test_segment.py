"""Segments on disk: fitted once for an encoder, reused later, skipped when unchanged."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scored_world

from segmenter_plugin.data.partition import current, new_partition, read_batches, read_manifest
from segmenter_plugin.errors import ConfigError, CutoffError, MissingStageError
from segmenter_plugin.schemas import segments_schema
from segmenter_plugin.stages import segment as stage
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.rescore import RESCORED
from segmenter_plugin.stages.segment import segment
from segmenter_plugin.stages.segment_identity import earlier_than

NEXT = datetime(2017, 10, 8, tzinfo=UTC)
SECTION = {"tiers": 1, "count": 3, "seed": 5}


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


def test_a_later_cutoff_reuses_the_segments_of_its_encoder(built, world, tmp_path):
    _, tables = built
    # Without margins nobody is held where it was.
    config = world.world_config(tmp_path, segments=SECTION | {"margin": 0.0, "tier_margin": 0.0})
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
    more = world.world_config(tmp_path, segments=SECTION | {"count": 4})
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


def ids_of(config, cutoff):
    rows = read(config, cutoff)
    return dict(zip(rows.column("user_id").to_pylist(), rows.column("segment_id").to_pylist(), strict=True))


def retrain(world, config, tables, cutoff, version, *, seed=3, users=None):
    """The same users, scored by an encoder whose embedding is turned and a little noisy."""
    random = np.random.default_rng(seed)
    people, ids = tables["people"], tables["ids"]
    rows = np.arange(len(ids)) if users is None else users
    people = {name: values[rows] for name, values in people.items()}
    scores = world.scores_table(
        config, cutoff, people, ids.take(pa.array(rows)), trained_through=cutoff, version=version
    )
    turn, _ = np.linalg.qr(random.normal(size=(8, 8)))
    embedding = np.stack(scores.column("embedding").to_pylist()) @ turn + random.normal(size=(len(rows), 8)) * 0.03
    place = scores.schema.get_field_index("embedding")
    scores = scores.set_column(place, "embedding", pa.array(list(embedding.astype(np.float32)), pa.list_(pa.float32())))
    world.put(config, Layout.of(config).scores(cutoff), scores, f"scores {version}")
    behaviour = world.behaviour_table(config, cutoff, tables["people"], 9, ids)
    world.put(config, Layout.of(config).behaviour(cutoff), behaviour, f"behaviour {version}")


@pytest.fixture
def crossed(world, tmp_path):
    config = world.world_config(tmp_path, segments={"tiers": 2, "count": 3, "seed": 5})
    return config, world.build_world(config, users=300)


@pytest.mark.parametrize("same_cutoff", [False, True])
def test_ids_and_names_survive_a_retrain(same_cutoff, crossed, world):
    config, tables = crossed
    first = segment(config, [world.LATER])["cutoffs"][0]
    before, cutoff = ids_of(config, world.LATER), world.LATER if same_cutoff else NEXT
    retrain(world, config, tables, cutoff, "version-2")
    other_seed = config.model_copy(update={"segments": config.segments.model_copy(update={"seed": 99})})
    (entry,) = segment(other_seed, [cutoff])["cutoffs"]
    after = ids_of(config, cutoff)
    assert np.mean([after[user] == before[user] for user in before]) >= 0.97
    assert entry["fitted_on"] == cutoff.isoformat()
    assert {p["segment_id"] for p in entry["profile"]} == {p["segment_id"] for p in first["profile"]}
    records = read_manifest(Layout.of(config).segment_history)["records"]
    assert [record["model_version"] for record in records] == ["version-1", "version-2"]
    assert records[1]["from"] == {"fit": records[0]["fit"], "cutoff": world.LATER.isoformat()}
    assert records[1]["shared_users"] == 300
    assert set(map(int, records[1]["kept"])) == set(records[0]["births"])
    assert segment(other_seed, [cutoff])["skipped"]
    assert ids_of(config, cutoff) == after


def test_the_past_is_never_the_future(crossed, world):
    config, tables = crossed
    retrain(world, config, tables, NEXT, "version-2")
    segment(config, [NEXT])
    (entry,) = segment(config, [world.LATER])["cutoffs"]
    records = read_manifest(Layout.of(config).segment_history)["records"]
    assert records[1]["from"] is None
    # Nothing earlier to continue, and none of the later fit's ids are taken.
    assert not set(records[0]["births"]) & {profile["segment_id"] for profile in entry["profile"]}


def test_users_are_held_by_the_partition_before_and_only_by_it(crossed, world, tmp_path):
    config, tables = crossed
    segment(config, [world.LATER])
    add_cutoff(world, config, tables, NEXT)
    segment(config, [NEXT])
    held = ids_of(config, NEXT)
    unheld = world.world_config(tmp_path, segments=config.segments.model_dump() | {"margin": 0.0, "tier_margin": 0.0})
    (entry,) = segment(unheld, [NEXT])["cutoffs"]
    assert entry["fitted_on"] == world.LATER.isoformat()  # margins do not fit anew
    free, before = ids_of(unheld, NEXT), ids_of(config, world.LATER)
    moved = [user for user in held if held[user] != free[user]]
    assert moved
    cells = read_manifest(Layout.of(config).segments(NEXT))["cells"]
    for user in moved:
        was, now, without = (cells[str(ids[user])] for ids in (before, held, free))
        assert any(then == kept != bare for then, kept, bare in zip(was, now, without, strict=True))


def test_a_partition_of_some_users_is_looked_past(crossed, world):
    config, tables = crossed
    segment(config, [world.LATER])
    layout, day = Layout.of(config), datetime(2017, 10, 15, tzinfo=UTC)
    retrain(world, config, tables, NEXT, "version-1", users=np.arange(50))
    manifest = {"stage": "test", "fingerprint": "some", RESCORED: {}}
    rows = pa.Table.from_batches(list(read_batches(layout.scores(NEXT))))
    with new_partition(layout.scores(NEXT), config.root_path, manifest) as staging:
        pq.write_table(rows, staging / "part-00000.parquet")
    segment(config, [NEXT])
    assert read_manifest(layout.segments(NEXT))["partial"]
    earlier = earlier_than(layout, day, read_manifest(layout.segments(NEXT))["fit"])
    assert earlier.is_whole
    known = dict(zip(*(earlier.table().column(name).to_pylist() for name in ("user_id", "segment_id")), strict=True))
    assert known == ids_of(config, world.LATER) | ids_of(config, NEXT)


def test_a_run_that_died_after_its_record_gives_the_same_ids(crossed, world):
    config, _ = crossed
    segment(config, [world.LATER])
    layout, first = Layout.of(config), ids_of(config, world.LATER)
    shutil.rmtree(layout.segment_model)
    shutil.rmtree(layout.segments(world.LATER))
    segment(config, [world.LATER])
    assert ids_of(config, world.LATER) == first
    assert len(read_manifest(layout.segment_history)["records"]) == 1


def test_names_of_a_file_are_published_and_a_wrong_one_is_told(crossed, world, tmp_path):
    config, _ = crossed
    segment(config, [world.LATER])
    path = tmp_path / "names.toml"
    named = config.model_copy(update={"segments": config.segments.model_copy(update={"names": str(path)})})
    path.write_text('[names]\n1 = "Families"\n', encoding="utf-8")
    (entry,) = segment(named, [world.LATER])["cutoffs"]
    assert not entry["skipped"]
    assert {p["name"] for p in entry["profile"] if p["segment_id"] == 1} == {"Families"}
    rows = read(config, world.LATER)
    assert set(rows.filter(pc.equal(rows.column("segment_id"), 1)).column("segment_name").to_pylist()) == {"Families"}
    assert segment(named, [world.LATER])["skipped"]
    for text, match in (
        ("[names]\n77 = 'x'", "77"),
        ("[names]\nx = 'x'", "entries"),
        ("other = 1", "alone"),
        ("[", "read"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=match):
            segment(named, [world.LATER])
    assert read(config, world.LATER).equals(rows)

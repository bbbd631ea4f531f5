"""Profiles against sums made row by row."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.segments.event_times import EventTimes
from segmenter_plugin.segments.profile import ProfileSums, behaviour_columns, profile_rows, trait_columns


@pytest.fixture
def profiled(scored):
    config, scores, behaviour = scored
    ids = np.random.default_rng(0).integers(0, 3, 300)
    sums = ProfileSums(config, 3)
    for start in range(0, 300, 50):
        sums.add_scores(scores[start : start + 50].combine_chunks().to_batches()[0], ids[start : start + 50])
        batch = behaviour.select(behaviour_columns(config))[start : start + 50].combine_chunks().to_batches()[0]
        sums.add_behaviour(batch, ids[start : start + 50])
    return config, scores, behaviour, ids, sums.profiles()


def test_shares_and_mean_scores(profiled):
    _, scores, _, ids, profiles = profiled
    money = np.asarray(scores.column("spend_14d_expected"), dtype=float)
    for segment, profile in enumerate(profiles):
        assert profile.users == (ids == segment).sum()
        assert profile.share == pytest.approx((ids == segment).mean())
        assert profile.expected["spend_14d_expected"] == pytest.approx(money[ids == segment].mean())
    assert set(profiles[0].expected) == {"purchase_14d_probability", "spend_14d_expected"}


def test_lifts_compare_typical_values_without_nulls(profiled):
    config, _, behaviour, ids, profiles = profiled
    for trait, column in trait_columns(config).items():
        values = behaviour.column(column).to_pylist()

        def typical(rows, values=values):
            return math.expm1(np.mean([math.log1p(values[row]) for row in rows if values[row] is not None]))

        for segment in range(3):
            expected = typical(np.flatnonzero(ids == segment)) / typical(range(300))
            assert profiles[segment].lifts[trait] == pytest.approx(expected), trait


def test_traits_read_the_longest_window(scored):
    config, *_ = scored
    traits = trait_columns(config)
    assert traits["spend"] == "purchase_sum_90d"
    assert traits["frequency"] == "order_count_90d"
    assert traits["recency"] == "purchase_recency_days"
    assert "returns" not in traits  # this shop has none


def test_who_never_bought_is_counted(profiled):
    _, _, behaviour, ids, profiles = profiled
    never = np.array([value is None for value in behaviour.column("purchase_recency_days").to_pylist()])
    assert never.any()
    for segment in range(3):
        assert profiles[segment].inactive_share == pytest.approx(never[ids == segment].mean())


def test_categories_count_purchases_only(scored):
    config, scores, behaviour = scored
    ids = np.minimum(np.arange(300) % 3, 2)
    sums = ProfileSums(config, 3)
    sums.add_scores(scores.combine_chunks().to_batches()[0], ids)
    sums.add_behaviour(behaviour.select(behaviour_columns(config)).combine_chunks().to_batches()[0], ids)
    counts = {segment: {} for segment in range(3)}
    kinds, categories = (behaviour.column(f"{name}_sequence").to_pylist() for name in ("event_type", "category"))
    for row, segment in enumerate(ids):
        for kind, category in zip(kinds[row], categories[row], strict=True):
            if kind == "purchase":
                counts[segment][category] = counts[segment].get(category, 0) + 1
    total = sum(sum(counter.values()) for counter in counts.values())
    for segment, profile in enumerate(sums.profiles()):
        for entry in profile.categories:
            share = counts[segment][entry.category] / sum(counts[segment].values())
            base = sum(counter[entry.category] for counter in counts.values()) / total
            assert entry.share == pytest.approx(share)
            assert entry.lift == pytest.approx(share / base)


def test_a_taste_is_found(world, scored):
    config, scores, behaviour = scored
    taste = world.latent(300, 1)["taste"]
    sums = ProfileSums(config, 3)
    sums.add_scores(scores.combine_chunks().to_batches()[0], taste)
    sums.add_behaviour(behaviour.select(behaviour_columns(config)).combine_chunks().to_batches()[0], taste)
    assert [profile.categories[0].category for profile in sums.profiles()] == list(world.CATEGORIES)


def test_an_empty_segment_is_told_and_json_able(scored):
    config, scores, behaviour = scored
    sums = ProfileSums(config, 4)
    ids = np.zeros(300, dtype=np.int64)
    sums.add_scores(scores.combine_chunks().to_batches()[0], ids)
    sums.add_behaviour(behaviour.select(behaviour_columns(config)).combine_chunks().to_batches()[0], ids)
    profiles = [profile.as_dict() for profile in sums.profiles()]
    assert [profile["users"] for profile in profiles] == [300, 0, 0, 0]
    json.dumps(profiles, allow_nan=False)
    assert len(profile_rows(json.loads(json.dumps(profiles)))) == 4


def test_one_line_a_segment(profiled):
    *_, profiles = profiled
    rows = profile_rows([profile.named("a name").as_dict() for profile in profiles])
    assert [row["segment"] for row in rows] == [0, 1, 2]
    assert all(row["name"] == "a name" for row in rows)
    assert all("mean spend_14d_expected" in row and " x" in row["against all users"] for row in rows)


def test_weekends_and_evenings_are_counted_in_the_events_zone(world, tmp_path):
    times = ["2024-03-01T23:30", "2024-03-02T12:00", "2024-03-04T12:00", "2024-03-04T18:00"]  # Friday, Saturday, Monday
    for timezone, weekend, evening in (
        ("UTC", [0, 1, 0, 0], [1, 0, 0, 1]),
        ("Europe/Berlin", [1, 1, 0, 0], [0, 0, 0, 1]),
    ):
        tree = world.world_config(tmp_path).model_dump(mode="json")
        config = parse_config(tree | {"events": tree["events"] | {"path": "e", "timezone": timezone}})
        lists = pa.array(
            [[np.datetime64(times[row], "us").astype(object)] * 100 for row in range(4)], pa.list_(TIMESTAMP)
        )
        counted = EventTimes(config, 4)
        counted.add(pa.RecordBatch.from_arrays([lists], names=["event_timestamp_sequence"]), np.arange(4))
        for name, hits in (("weekend", weekend), ("evening", evening)):
            base = sum(hits) / 4
            assert [counted.lifts(row)[name] for row in range(4)] == [hit / base for hit in hits], (timezone, name)


def test_the_median_stability_is_told(profiled):
    config, scores, *_ = profiled
    sums = ProfileSums(config, 2)
    sums.add_scores(scores[:6].combine_chunks().to_batches()[0], np.array([0, 0, 0, 1, 1, 1]))
    sums.add_stability(np.array([0.1, 0.9]), np.array([0, 1]))
    sums.add_stability(np.array([0.3, 0.2, 0.7, 0.8]), np.array([0, 0, 1, 1]))
    assert [profile.stability for profile in sums.profiles()] == [0.2, 0.8]

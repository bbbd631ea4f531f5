"""Ids go on with their users; births, deaths, splits and merges are each found on a made case."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.segments.fit import fit_segments
from segmenter_plugin.segments.identity import NONE, Past, continued_ids

FREE = 100


def continued(before, now, segments, points=None):
    before, now = np.asarray(before), np.asarray(now)
    points = np.zeros((len(now), 2)) if points is None else points
    return continued_ids(before, now, points, segments, FREE)


@settings(max_examples=50)
@given(data=st.data())
def test_relabelled_segments_keep_their_ids_whatever_the_order_of_users(data):
    count = data.draw(st.integers(1, 6))
    before = np.array(data.draw(st.permutations(list(range(count)) * 5)))
    relabelled = np.array(data.draw(st.permutations(range(count))))
    order = np.array(data.draw(st.permutations(range(len(before)))))
    ids, change = continued(before[order], relabelled[before[order]], count)
    assert [ids[relabelled[old]] for old in range(count)] == list(range(count))
    assert (change.births, change.deaths) == ((), ())
    assert set(change.kept.values()) == {1.0}


def test_the_first_fit_births_all():
    ids, change = continued([NONE] * 6, [0, 1, 2, 0, 1, 2], 3)
    assert ids == change.births == (100, 101, 102)
    assert (change.kept, change.deaths, change.splits, change.merges) == ({}, (), {}, {})


def test_a_birth_of_new_users():
    ids, change = continued([0] * 10 + [NONE] * 10, [0] * 10 + [1] * 10, 2)
    assert ids == (0, 100)
    assert (change.births, change.splits, change.deaths) == ((100,), {}, ())
    assert change.shared_users == 10


def test_a_death_whose_users_scatter():
    now = [0] * 10 + [1] * 10 + [2] * 10 + [0, 0, 1, 1, 2, 2]
    ids, change = continued([0] * 10 + [1] * 10 + [2] * 10 + [3] * 6, now, 3)
    assert ids == (0, 1, 2)
    assert (change.deaths, change.merges) == ((3,), {})


def test_a_split_keeps_the_id_in_the_larger_half():
    ids, change = continued([7] * 20, [1] * 12 + [0] * 8, 2)
    assert ids == (100, 7)
    assert change.splits == {7: (100,)}
    assert (change.births, change.deaths) == ((100,), ())


def test_a_merge_keeps_the_id_of_the_larger_part():
    ids, change = continued([4] * 12 + [5] * 8, [0] * 20, 1)
    assert ids == (4,)
    assert change.merges == {4: (5,)}
    assert (change.births, change.deaths) == ((), (5,))


def test_too_little_overlap_is_another_segment():
    before = [0] * 50 + [1] * 50
    now = [0] * 5 + [1] * 45 + [1] * 50
    ids, change = continued(before, now, 2)
    assert ids == (100, 1)
    assert change.deaths == (0,)
    assert change.merges == {1: (0,)}


def test_equal_overlaps_are_decided_by_where_the_shared_users_are():
    # Each old segment shares one user with each new one; the outer users decide where the means lie.
    before, now = [0, 0, 1, 1], [0, 1, 0, 1]
    straight = np.array([[0.0, 0], [4, 0], [4, 0], [9, 0]])
    crossed = straight[[1, 0, 3, 2]]
    assert continued(before, now, 2, straight)[0] == (0, 1)
    assert continued(before, now, 2, crossed)[0] == (1, 0)


def test_change_is_json_able_with_text_keys():
    _, change = continued([7] * 20, [1] * 12 + [0] * 8, 2)
    expected = {"kept": {"7": 0.6}, "births": [100], "deaths": [], "splits": {"7": [100]}, "merges": {}}
    assert change.as_dict() == expected | {"shared_users": 20}
    assert json.loads(json.dumps(change.as_dict())) == change.as_dict()


def past_of(model, scores, config, next_id=None):
    batch = scores.combine_chunks().to_batches()[0]
    found = model.assign(batch, config)
    free = max(model.ids) + 1 if next_id is None else next_id
    return Past(batch.column("user_id"), found.ids, model.cells, model.clusters.count, free)


@pytest.mark.parametrize("method", ["kmeans", "gaussian_mixture"])
def test_a_retrained_encoder_keeps_the_ids_of_users_that_stay(method, scored, world, tmp_path):
    _, scores, _ = scored
    sections = [{"tiers": 2, "count": 3, "method": method, "seed": seed} for seed in (5, 6)]
    first, second = (world.world_config(tmp_path, segments=section) for section in sections)
    model, _ = fit_segments(scores.to_batches(), first)
    past = past_of(model, scores, first)
    random = np.random.default_rng(8)
    turn, _ = np.linalg.qr(random.normal(size=(8, 8)))
    embedding = np.stack(scores.column("embedding").to_pylist()) @ turn + random.normal(size=(300, 8)) * 0.05
    place = scores.schema.get_field_index("embedding")
    later = scores.set_column(place, "embedding", pa.array(list(embedding.astype(np.float32)), pa.list_(pa.float32())))
    again, change = fit_segments(later.to_batches(), second, past)
    batch = later.combine_chunks().to_batches()[0]
    found = again.assign(batch, second, past.of(batch.column("user_id")))
    assert (found.ids == past.segments).mean() >= 0.97
    assert (change.births, change.deaths) == ((), ())
    assert change.shared_users == 300


def test_more_clusters_are_births_and_ids_of_the_dead_are_not_used_again(scored, world, tmp_path):
    _, scores, _ = scored
    few, many = (
        world.world_config(tmp_path, segments={"tiers": 1, "count": count, "minimum_share": 0.0}) for count in (3, 5)
    )
    model, _ = fit_segments(scores.to_batches(), few)
    grown, change = fit_segments(scores.to_batches(), many, past_of(model, scores, few, next_id=40))
    assert set(change.births) == {40, 41}
    assert set(grown.ids) == {0, 1, 2, 40, 41}
    shrunk, change = fit_segments(scores.to_batches(), few, past_of(grown, scores, many, next_id=42))
    assert len(shrunk.ids) == 3
    assert set(shrunk.ids) | set(change.deaths) == set(grown.ids)


def test_kept_ids_can_be_switched_off(scored, world, tmp_path):
    config, scores, _ = scored
    model, _ = fit_segments(scores.to_batches(), config)
    off = world.world_config(tmp_path, segments={"tiers": 1, "count": 3, "keep_ids": False})
    again, change = fit_segments(scores.to_batches(), off, past_of(model, scores, config, next_id=9))
    assert again.ids == change.births == (9, 10, 11)


def test_users_without_a_past_are_told_apart():
    past = Past(pa.array([5, 3]), np.array([1, 0]), {1: (0, 2), 0: (1, 0)}, 3, 2)
    found = past.of(pa.array([3, 4, 5], pa.int64()))
    assert found.tolist() == [0, NONE, 1]
    assert past.clusters_of(found).tolist() == [0, NONE, 2]

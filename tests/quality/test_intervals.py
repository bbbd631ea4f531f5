"""The bootstrap moves users, not rows, and pairs methods."""

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.quality import intervals
from segmenter_plugin.quality.intervals import bootstrap, interval, resample_count, resample_weights, user_codes


def mean_of(values):
    return lambda weights: weights @ values / weights.sum(axis=1)


def test_rows_of_one_user_move_together():
    users = user_codes(pa.chunked_array([["a", "b", "a"], ["c", "b", "a"]]))
    weights = np.concatenate(list(resample_weights(users, 50, seed=1)))
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 5]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()  # as many users are drawn as there are
    assert len(np.unique(weights[:, 0])) > 1


def test_chunks_do_not_change_the_resamples(monkeypatch):
    users = np.arange(40)
    whole = np.concatenate(list(resample_weights(users, 30, seed=2)))
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 90)
    parts = list(resample_weights(users, 30, seed=2))
    assert len(parts) > 1
    assert (np.concatenate(parts) == whole).all()


def test_the_seed_fixes_the_resamples():
    users = np.arange(40)
    first, again, other = (np.concatenate(list(resample_weights(users, 5, seed))) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(size=2000)
    samples = bootstrap({"mean": mean_of(values)}, np.arange(2000), 8000, seed=3)["mean"]
    low, high = interval(samples)
    error = values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_repeated_users_widen_the_interval():
    once = np.random.default_rng(0).normal(size=500)
    four_times = np.tile(once, 4)
    by_user = bootstrap({"mean": mean_of(four_times)}, np.tile(np.arange(500), 4), 1000, seed=1)["mean"]
    by_row = bootstrap({"mean": mean_of(four_times)}, np.arange(2000), 1000, seed=1)["mean"]
    assert by_user.std() == pytest.approx(2 * by_row.std(), rel=0.15)
    assert by_user.std() == pytest.approx(once.std() / np.sqrt(500), rel=0.1)


def test_paired_differences_are_narrow():
    random = np.random.default_rng(0)
    left = random.normal(size=400)
    right = left - 0.1 + random.normal(0, 0.05, 400)
    samples = bootstrap({"left": mean_of(left), "right": mean_of(right)}, np.arange(400), 500, seed=1)
    low, high = interval(samples["left"] - samples["right"])
    assert 0.08 < low < high < 0.12
    wide = interval(samples["left"])
    assert wide[1] - wide[0] > 5 * (high - low)


def test_resamples_without_a_value_are_left_out():
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan])))[0]


def test_large_data_gets_fewer_resamples():
    assert [resample_count(rows) for rows in (10, 50_000, 100_000, 10_000_000)] == [1000, 1000, 500, 200]

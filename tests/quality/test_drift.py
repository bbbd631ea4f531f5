"""Distances between two days, against plain formulas and known distributions."""

import numpy as np
import pytest
from scipy.stats import kstest

from segmenter_plugin.quality.drift import (
    ScoreMap,
    centroid_shift,
    cosines,
    dimension_spread,
    mmd,
    norm_change,
    psi,
    share_change,
    unexplained_growth,
)


@pytest.fixture
def random():
    return np.random.default_rng(5)


def plain_mmd(before, now):
    """Gretton et al. 2012, equation 3, pair by pair."""
    rows = [*before, *now]
    gaps = [np.sum((rows[i] - rows[j]) ** 2) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    width = np.median(gaps)

    def mean(left, right, *, same):
        values = [
            np.exp(-np.sum((a - b) ** 2) / width)
            for i, a in enumerate(left)
            for j, b in enumerate(right)
            if not (same and i == j)
        ]
        return np.mean(values)

    return mean(before, before, same=True) + mean(now, now, same=True) - 2 * mean(before, now, same=False)


def test_mmd_is_the_unbiased_estimate(random):
    before, now = random.normal(size=(12, 3)), random.normal(size=(9, 3)) + 0.5
    assert mmd(before, now, 10, 0).value == pytest.approx(plain_mmd(before, now), abs=1e-12)


def test_mmd_finds_what_is_different_and_nothing_else(random):
    before = random.normal(size=(200, 4))
    assert mmd(before, random.normal(size=(200, 4)) + 0.5, 200, 1).p_value == pytest.approx(1 / 201)
    assert mmd(before, before[::-1], 200, 1).p_value > 0.5


def test_p_values_of_equal_distributions_are_uniform(random):
    found = [mmd(random.normal(size=(30, 2)), random.normal(size=(30, 2)), 99, seed).p_value for seed in range(100)]
    assert kstest(found, "uniform").pvalue > 0.01


def test_mmd_is_the_same_for_the_same_seed(random):
    before, now = random.normal(size=(40, 3)), random.normal(size=(40, 3))
    assert mmd(before, now, 50, 3) == mmd(before, now, 50, 3)


def test_constant_embeddings_are_equal():
    assert mmd(np.ones((5, 2)), np.ones((6, 2)), 20, 0).value == pytest.approx(0.0)
    assert cosines(np.ones((5, 2)), np.ones((5, 2))).tolist() == [1.0] * 5
    assert centroid_shift(np.ones((5, 2)), np.ones((5, 2))) == 0.0
    assert centroid_shift(np.ones((5, 2)), np.zeros((5, 2))) == float("inf")


def test_the_centroid_moves_in_units_of_the_spread(random):
    before = random.normal(size=(20_000, 4)) * 3.0
    assert centroid_shift(before, before + np.array([6.0, 0.0, 0.0, 0.0])) == pytest.approx(1.0, rel=0.02)


def test_norms_change_by_a_ratio_either_way():
    rows = np.array([[3.0, 4.0], [0.0, 5.0]])
    assert norm_change(rows, 2 * rows) == pytest.approx(np.log(2))
    assert norm_change(2 * rows, rows) == pytest.approx(np.log(2))
    assert norm_change(rows, 0 * rows) == float("inf")


def test_a_dimension_that_collapsed_or_exploded_is_told_and_a_dead_one_is_not(random):
    before = random.normal(size=(500, 4))
    before[:, 3] = 7.0
    now = before.copy()
    now[:, 1] = 0.0
    now[:, 2] *= 4.0
    assert dimension_spread(before, now) == pytest.approx([1.0, 0.0, 0.25, 1.0])


def test_cosines_are_taken_from_the_centroid(random):
    before = random.normal(size=(400, 6)) + 50.0
    assert np.median(cosines(before, before[::-1])) < 0.3
    assert cosines(before, before).min() == pytest.approx(1.0)
    centre = before.mean(axis=0)
    assert cosines(before, 2 * centre - before).max() == pytest.approx(-1.0)


def test_psi_is_its_formula_and_bears_ties(random):
    before = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    now = np.repeat([0.0, 1.0, 2.0, 3.0], [50, 25, 15, 10])
    p, q = np.array([0.25] * 4), np.array([0.5, 0.25, 0.15, 0.1])
    assert psi(before, now) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi(before, before) == 0.0
    assert psi(np.zeros(50), np.zeros(50)) == 0.0
    values = random.normal(size=5000)
    assert psi(values, random.normal(size=5000)) < 0.02
    assert psi(values, values + 0.7) > 0.25


def test_shares_change_by_who_would_have_to_move():
    assert share_change(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])) == 0.25
    assert share_change(np.array([0, 0]), np.array([5, 5, 5])) == 1.0


def test_the_map_from_embedding_to_score_tells_strangers_and_other_weights(random):
    embedding = random.normal(size=(1000, 6))
    scores = np.column_stack([embedding @ random.normal(size=6), embedding @ random.normal(size=6) + 3])
    folds = np.arange(1000) % 2 == 0
    moved = embedding + 0.05 * random.normal(size=embedding.shape)
    told = moved @ np.linalg.lstsq(embedding, scores - scores.mean(0), rcond=None)[0] + scores.mean(0)
    same = unexplained_growth((embedding, scores), (moved, told), folds)
    strangers = unexplained_growth((embedding, scores), (moved, told[random.permutation(1000)]), folds)
    assert same.max() < 1.5
    assert strangers.min() > 20
    assert ScoreMap.fit(embedding, scores).unexplained(embedding, scores) == pytest.approx([0.0, 0.0], abs=1e-4)

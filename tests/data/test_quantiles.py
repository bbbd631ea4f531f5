from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.quantiles import QuantileSketch, to_eight_bits

FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)


def edges_of(values: np.ndarray, pieces: int = 8) -> list[float]:
    sketch = QuantileSketch()
    sketch.add(values)
    return sketch.edges(pieces).tolist()


def test_rounding_keeps_small_whole_numbers_and_moves_others_little() -> None:
    whole = np.arange(-256, 257, dtype=float)
    assert (to_eight_bits(whole) == whole).all()
    values = np.exp(np.random.default_rng(0).normal(0, 20, 5000))
    assert (np.abs(to_eight_bits(values) / values - 1) < 0.004).all()
    assert np.isfinite(to_eight_bits(np.array([1e300, -1e300]))).all()


@settings(max_examples=100)
@given(st.lists(FLOATS, max_size=60), st.lists(st.integers(0, 60), max_size=4), st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_cuts_between_batches_matter(values: list[float], cuts: list[int], rnd) -> None:
    whole = edges_of(np.array(values, dtype=float))
    rnd.shuffle(values)
    sketch = QuantileSketch()
    for part in np.split(np.array(values, dtype=float), sorted(cuts)):
        sketch.add(part)
    assert sketch.edges(8).tolist() == whole
    assert whole == sorted(set(whole))


def test_edges_of_a_smooth_column_are_its_quantiles() -> None:
    values = np.random.default_rng(1).lognormal(2, 1, 50_000)
    expected = np.quantile(values, np.linspace(0, 1, 9))
    np.testing.assert_allclose(edges_of(values), expected, rtol=0.02)


@pytest.mark.parametrize("heavy", [0.0, 1.0])
def test_a_value_that_most_rows_have_takes_one_piece(heavy: float) -> None:
    rare = np.random.default_rng(2).uniform(10, 1000, 1000)
    edges = edges_of(np.concatenate([np.full(50_000, heavy), rare]))
    assert edges[0] == heavy
    assert len(edges) >= 8
    counts = np.histogram(rare, edges[1:])[0]
    assert counts.max() < 2 * counts.min()


def test_without_spread_there_are_no_pieces() -> None:
    assert edges_of(np.array([])) == []
    assert edges_of(np.array([np.nan, np.inf])) == []
    assert edges_of(np.array([3.0, 3.0, -0.0 + 3.0])) == [3.0]
    assert edges_of(np.array([0.0, -0.0])) == [0.0]
    assert edges_of(np.array([0.0, 1.0, 1.0])) == [0.0, 1.0]

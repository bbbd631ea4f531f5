from __future__ import annotations

import numpy as np
import pytest

from segmenter_plugin.data.scaling import Moments, Scaler, signed_log
from segmenter_plugin.errors import ArtifactError


def test_streamed_moments_equal_those_of_the_whole() -> None:
    random = np.random.default_rng(0)
    values = np.exp(random.normal(5, 2, size=(1000, 3))) * random.choice([-1, 1], (1000, 3))
    values[random.random(values.shape) < 0.2] = np.nan
    moments = Moments(("a", "b", "c"))
    for part in np.split(values, [1, 10, 400]):
        moments.add(part)
    scaler = moments.scaler()
    np.testing.assert_allclose(scaler.mean, np.nanmean(signed_log(values), axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.std, np.nanstd(signed_log(values), axis=0), rtol=1e-12)


def test_absent_values_become_zero_with_an_indicator() -> None:
    scaler = Scaler(("a", "b"), (1.0, 0.0), (2.0, 1.0))
    scaled = scaler.transform(np.array([[np.e**5 - 1, np.nan], [np.inf, 0.0]]))
    assert scaled.tolist() == [[2.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    assert scaled.dtype == np.float32
    assert scaler.width == 4


def test_constant_and_empty_columns_stay_finite() -> None:
    moments = Moments(("constant", "empty"))
    moments.add(np.array([[3.0, np.nan], [3.0, np.nan]]))
    scaled = moments.scaler().transform(np.array([[3.0, 5.0], [1e9, np.nan]]))
    assert np.isfinite(scaled).all()
    assert abs(scaled).max() <= 8.0


def test_nothing_taken_in_gives_a_scaler_that_does_nothing() -> None:
    scaler = Moments(("a",)).scaler()
    assert (scaler.mean, scaler.std) == ((0.0,), (1.0,))
    assert Moments(()).scaler().transform(np.empty((3, 0))).shape == (3, 0)


def test_json_round_trip_is_exact() -> None:
    moments = Moments(("a",))
    moments.add(np.array([[0.1], [0.7], [1e-9]]))
    assert Scaler.from_json(moments.scaler().to_json()) == moments.scaler()


@pytest.mark.parametrize(
    "tree",
    [None, {}, {"names": ["a"], "mean": [0.0], "std": []}, {"names": ["a"], "mean": [0.0], "std": [0.0]}],
)
def test_a_foreign_tree_is_refused(tree: object) -> None:
    with pytest.raises(ArtifactError):
        Scaler.from_json(tree)

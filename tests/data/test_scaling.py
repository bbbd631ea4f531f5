from __future__ import annotations

import numpy as np
import pytest

from segmenter_plugin.data.scaling import Scaler, ScalerFit, signed_log
from segmenter_plugin.errors import ArtifactError


def test_streamed_fit_equal_those_of_the_whole() -> None:
    random = np.random.default_rng(0)
    values = np.exp(random.normal(5, 2, size=(1000, 3))) * random.choice([-1, 1], (1000, 3))
    values[random.random(values.shape) < 0.2] = np.nan
    fit = ScalerFit(("a", "b", "c"))
    for part in np.split(values, [1, 10, 400]):
        fit.add(part)
    scaler = fit.scaler()
    np.testing.assert_allclose(scaler.mean, np.nanmean(signed_log(values), axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.std, np.nanstd(signed_log(values), axis=0), rtol=1e-12)


def test_absent_values_become_zero_with_an_indicator() -> None:
    scaler = Scaler(("a", "b"), (1.0, 0.0), (2.0, 1.0), ((), ()))
    scaled = scaler.transform(np.array([[np.e**5 - 1, np.nan], [np.inf, 0.0]]))
    assert scaled.tolist() == [[2.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    assert scaled.dtype == np.float32
    assert scaler.width == 4


def test_constant_and_empty_columns_stay_finite() -> None:
    fit = ScalerFit(("constant", "empty"))
    fit.add(np.array([[3.0, np.nan], [3.0, np.nan]]))
    scaled = fit.scaler().transform(np.array([[3.0, 5.0], [1e9, np.nan]]))
    assert np.isfinite(scaled).all()
    assert abs(scaled).max() <= 8.0


def test_nothing_taken_in_gives_a_scaler_that_does_nothing() -> None:
    scaler = ScalerFit(("a",)).scaler()
    assert (scaler.mean, scaler.std, scaler.edges) == ((0.0,), (1.0,), ((),))
    assert ScalerFit(()).scaler().transform(np.empty((3, 0))).shape == (3, 0)


def test_edges_stand_where_transformed_values_do() -> None:
    random = np.random.default_rng(0)
    values = np.stack([random.lognormal(3, 1, 8000), np.where(random.random(8000) < 0.9, 0.0, 7.0)], axis=1)
    values[::7, 0] = np.nan
    fit = ScalerFit(("price", "flag"))
    for part in np.array_split(values, 9):
        fit.add(part)
    scaler = fit.scaler()
    price = scaler.transform(values)[::1, 0][np.isfinite(values[:, 0])]
    np.testing.assert_allclose(scaler.edges[0], np.quantile(price, np.linspace(0, 1, 17)), atol=0.02)
    np.testing.assert_allclose(scaler.edges[1], np.unique(scaler.transform(values)[:, 1]), rtol=1e-5)


def test_a_value_far_out_gives_no_edge_beyond_the_limit() -> None:
    fit = ScalerFit(("a",))
    fit.add(np.concatenate([np.full(100_000, 1.0), [1e30, 2e30]])[:, None])
    edges = fit.scaler().edges[0]
    assert max(edges) == 8.0
    assert len(edges) == 2


def test_json_round_trip_is_exact() -> None:
    fit = ScalerFit(("a",))
    fit.add(np.array([[0.1], [0.7], [1e-9]]))
    assert Scaler.from_json(fit.scaler().to_json()) == fit.scaler()


@pytest.mark.parametrize(
    "tree",
    [
        None,
        {},
        {"names": ["a"], "mean": [0.0], "std": [1.0]},
        {"names": ["a"], "mean": [0.0], "std": [], "edges": [[]]},
        {"names": ["a"], "mean": [0.0], "std": [0.0], "edges": [[]]},
        {"names": ["a"], "mean": [0.0], "std": [1.0], "edges": []},
        {"names": ["a"], "mean": [0.0], "std": [1.0], "edges": [[1.0, 1.0]]},
        {"names": ["a"], "mean": [0.0], "std": [1.0], "edges": [["x"]]},
    ],
)
def test_a_foreign_tree_is_refused(tree: object) -> None:
    with pytest.raises(ArtifactError):
        Scaler.from_json(tree)

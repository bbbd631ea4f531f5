import numpy as np
import pytest
from sklearn.metrics import auc

from segmenter_plugin.quality.metrics import auroc
from segmenter_plugin.quality.plots import MOST_POINTS, draw, gain_curve, ranking_curve, roc_curve, roc_points


@pytest.fixture
def ranked():
    random = np.random.default_rng(0)
    truth = random.random(5000) < 0.3
    return truth, np.round(truth + random.normal(size=5000), 1)


def test_the_area_under_the_drawn_roc_is_the_auroc(ranked):
    truth, score = ranked
    horizontal, vertical = roc_curve("purchase", truth, {"encoder": score}).points["encoder"]
    assert auc(horizontal, vertical) == pytest.approx(float(auroc(truth, score)))


def test_the_points_of_the_roc_are_few_and_hold_its_area(ranked):
    truth, score = ranked
    jittered = score + np.random.default_rng(1).normal(size=5000)
    points = np.array(roc_points(roc_curve("purchase", truth, {"encoder": jittered}))["encoder"])
    assert len(points) <= 101
    assert (points[0].tolist(), points[-1].tolist()) == ([0, 0], [1, 1])
    assert auc(*points.T) == pytest.approx(float(auroc(truth, jittered)), abs=1e-3)


def test_gain_runs_from_nothing_to_everything_in_few_points(ranked):
    truth, score = ranked
    jittered = score + np.random.default_rng(1).normal(size=5000)
    horizontal, vertical = gain_curve("spend", truth * 10.0, {"encoder": jittered}, "money").points["encoder"]
    assert (horizontal[0], vertical[0], horizontal[-1], vertical[-1]) == (0, 0, 1, 1)
    assert (np.diff(horizontal) > 0).all()
    assert len(horizontal) <= MOST_POINTS


def test_no_money_at_all_is_a_flat_line():
    assert ranking_curve(np.arange(3.0), np.ones(3), np.zeros(3))[1].tolist() == [0, 0, 0, 0]


def test_the_picture_is_a_png_and_the_same_twice(ranked, tmp_path):
    truth, score = ranked
    curves = [roc_curve("purchase", truth, {"encoder": score, "other": -score})]
    for name in ("first.png", "second.png"):
        draw(curves, tmp_path / name)
    first = (tmp_path / "first.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first == (tmp_path / "second.png").read_bytes()

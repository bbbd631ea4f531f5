"""Users stay where they are within the margins, and move beyond them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.segments.clusters import Clusters
from segmenter_plugin.segments.identity import NONE
from segmenter_plugin.segments.model import SegmentModel
from segmenter_plugin.segments.projection import Projection
from segmenter_plugin.segments.space import UserRows
from segmenter_plugin.segments.value_tiers import Tiers, fit_tiers

MARGINS = (0.1, 0.4)


def line_model(tiers: Tiers) -> SegmentModel:
    """Behaviour on a line with centroids at 0, 10 and 30; cell (tier 1, cluster 2) was too small."""
    projection = Projection(np.zeros(1), np.ones(1), np.zeros(0), np.ones(0), np.zeros((1, 1)), np.eye(1))
    clusters = Clusters(np.array([[0.0], [10.0], [30.0]]), np.empty((0, 1, 1)), np.zeros(3))
    cells = np.array([(tier, cluster) for tier in range(tiers.count) for cluster in range(3)][: 3 * tiers.count - 1])
    ids = tuple(range(50, 50 + len(cells)))
    return SegmentModel(projection, tiers, clusters, cells[:, 0], cells[:, 1], ids, ids and ("",) * len(ids))


def users(points, values):
    points, values = np.asarray(points, dtype=float), np.asarray(values, dtype=float)
    return UserRows(points[:, None], (1, 0), np.empty((len(points), 0)), values, values)


@pytest.fixture
def model():
    return line_model(fit_tiers(np.arange(1000.0), 2))


def place(model, points, values, before=None):
    before = np.full(len(points), NONE) if before is None else np.asarray(before)
    places, stability = model.place(users(points, values), before, MARGINS)
    return places.tolist(), stability.tolist()


def test_a_user_within_the_margin_stays_and_one_far_beyond_moves(model):
    # The border of clusters 0 and 1 is at 5; 0.4 of the way to 10 is 7.
    assert place(model, [4.9, 5.1, 6.9, 7.1], [0] * 4)[0] == [0, 1, 1, 1]
    assert place(model, [4.9, 5.1, 6.9, 7.1], [0] * 4, [0] * 4)[0] == [0, 0, 0, 1]
    assert place(model, [5.1, 4.9, 3.1, 2.9], [0] * 4, [1] * 4)[0] == [1, 1, 1, 0]


def test_a_tier_is_left_beyond_its_margin(model):
    # The edge is at 500; a tenth of all users further is 600.
    assert place(model, [0.0] * 3, [499, 501, 601])[0] == [0, 3, 3]
    assert place(model, [0.0] * 3, [499, 590, 610], [0] * 3)[0] == [0, 0, 3]
    assert place(model, [0.0] * 3, [501, 410, 390], [3] * 3)[0] == [3, 3, 0]


def test_who_changes_tier_keeps_the_cluster_where_there_is_one(model):
    assert place(model, [6.9, 6.9], [900, 900], [0, NONE])[0] == [3, 4]
    # Cluster 2 has no segment in tier 1: the nearest that there is.
    assert place(model, [30.0], [900], [2])[0] == [4]


def test_a_segment_that_is_gone_holds_nobody(model):
    assert model._places_of(np.array([50, 54, 99, NONE])).tolist() == [0, 4, NONE, NONE]


def test_stability_is_how_far_from_the_border(model):
    far = [1.0, 2.5, 5.0 - 1e-9, 6.0]
    _, stability = place(model, far, [0] * 4, [NONE, NONE, NONE, 0])
    # (d2 - d1) over the squared distance of the centroids: 0 at 5, 1 at 0; a user that is held is past the border.
    assert stability == pytest.approx([0.8, 0.5, 0.0, 0.0], abs=1e-6)
    _, stability = place(model, [-5.0] * 3, [0, 250, 499.4])
    assert stability == pytest.approx([1.0, 0.5, 0.0], abs=0.01)


@settings(max_examples=60)
@given(data=st.data())
def test_the_order_of_users_changes_nothing_and_nobody_moves_twice(data):
    model = line_model(fit_tiers(np.arange(1000.0), 3))
    count = data.draw(st.integers(1, 20))
    points = np.array(data.draw(st.lists(st.floats(-20, 60), min_size=count, max_size=count)))
    values = np.array(data.draw(st.lists(st.floats(-10, 1100), min_size=count, max_size=count)))
    before = np.array(data.draw(st.lists(st.integers(-1, 7), min_size=count, max_size=count)))
    order = np.array(data.draw(st.permutations(range(count))))
    places, stability = model.place(users(points, values), before, MARGINS)
    turned, turned_stability = model.place(users(points[order], values[order]), before[order], MARGINS)
    np.testing.assert_array_equal(places[order], turned)
    np.testing.assert_array_equal(stability[order], turned_stability)
    assert ((stability >= 0) & (stability <= 1)).all()
    # Assigned again, a user stays where it has just been put.
    np.testing.assert_array_equal(model.place(users(points, values), places, MARGINS)[0], places)
    # Who has no past, or is where it would be without one, is not held.
    plain, _ = model.place(users(points, values), np.full(count, NONE), MARGINS)
    assert ((plain == places) | (before != NONE)).all()


def test_a_mixture_is_borders_by_density():
    wide = Clusters(np.array([[0.0], [10.0]]), np.array([[[1.0]], [[0.2]]]), np.array([0.0, -2 * np.log(0.2)]))
    costs = wide.costs(np.array([[3.0], [4.9], [9.0]]))
    # Twice the negative log density of N(0, 1) and N(10, 5), up to the same constant.
    expected = [[x**2, ((x - 10) / 5) ** 2 + 2 * np.log(5)] for x in (3.0, 4.9, 9.0)]
    np.testing.assert_allclose(costs, expected)
    assert costs.argmin(axis=1).tolist() == [1, 1, 1]
    assert wide.separations[0, 1] == pytest.approx((100 + 4) / 2)


def test_ties_share_a_tier():
    tiers = fit_tiers(np.r_[np.zeros(700), np.arange(1.0, 301.0)], 3)
    assert tiers.count == 1
    tiers = fit_tiers(np.r_[np.zeros(400), np.arange(1.0, 601.0)], 3)
    assert tiers.count == 2
    assert tiers.of(np.array([0.0, -1.0, 600.0])).tolist() == [0, 0, 1]
    assert fit_tiers(np.zeros(5), 4).count == 1
    assert fit_tiers(np.zeros(5), 4).clarity(np.zeros(2), np.zeros(2, dtype=np.int64)).tolist() == [1.0, 1.0]

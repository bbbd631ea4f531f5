"""Blends: weights follow what members know, whatever the kind, and a useless member costs nothing."""

import numpy as np
import pytest

from segmenter_plugin.quality.blend import fit_blend
from segmenter_plugin.quality.deviance import deviance, link, unlink
from segmenter_plugin.quality.metrics import METRICS

KINDS = tuple(METRICS)


def members_of(kind, seed, rows=4000):
    """Truth, and two members that each see a different half of what it comes from."""
    random = np.random.default_rng(seed)
    if kind == "category":
        truth, *members = (np.stack(pair, axis=1) for pair in zip(*_ladders(seed, rows), strict=True))
        return truth, members
    shape = (rows,) if kind in ("binary", "value") else (rows, 3)
    halves = random.normal(0, 1.2, (2, *shape))
    if kind == "value":
        mean = np.exp(3 + halves.sum(axis=0))
        truth = np.where(random.random(rows) < 0.7, mean * random.gamma(2, 0.5, rows) / 0.7, 0.0)
        return truth, [np.exp(3 + half + 0.72) for half in halves]
    if kind == "multiclass":
        raised = np.exp(halves.sum(axis=0))
        chosen = (raised.cumsum(axis=1) / raised.sum(axis=1, keepdims=True) > random.random((rows, 1))).argmax(axis=1)
        return chosen, [np.exp(half) / np.exp(half).sum(axis=1, keepdims=True) for half in halves]
    truth = random.random(shape) < 1 / (1 + np.exp(-halves.sum(axis=0)))
    return truth, [1 / (1 + np.exp(-half)) for half in halves]


def _ladders(seed, rows):
    """Truth and members of two ladders."""
    for number in (seed, seed + 100):
        truth, members = members_of("multiclass", number, rows)
        yield truth, *members


@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_are_worth_more_than_either(kind):
    truth, members = members_of(kind, 0)
    later, judged = members_of(kind, 1)
    blend = fit_blend(members, truth, kind)
    joined = blend(judged)
    assert joined.shape == judged[0].shape
    assert deviance(later, joined, kind) < min(deviance(later, member, kind) for member in judged) - 0.02
    np.testing.assert_allclose(blend.weights, 1.0, atol=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_and_a_ranking_turned_around_get_no_weight(kind):
    truth, members = members_of(kind, 0)
    noise = np.random.default_rng(2).permutation(members[0])
    turned = unlink(-link(members[0], kind, 1e-9), kind)
    weights = fit_blend([*members, noise, turned], truth, kind).weights
    assert (weights >= 0).all()
    assert weights[:2].min() > 10 * weights[2:].max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_level_is_put_right(kind):
    truth, members = members_of(kind, 0)
    joined = fit_blend(members, truth, kind)(members)
    outcome = np.eye(3)[truth] if kind in ("multiclass", "category") else truth
    np.testing.assert_allclose(joined.mean(axis=0), outcome.mean(axis=0), rtol=0.06)


def test_equal_members_share_the_weight():
    truth, members = members_of("binary", 0)
    weights = fit_blend([members[0], members[0]], truth, "binary").weights
    assert weights[0] == pytest.approx(weights[1], abs=1e-3)

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_tweedie_deviance
from torch.nn.functional import softplus

from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.value_heads import (
    VALUE_LOSSES,
    LognormalHead,
    LogSquaredErrorHead,
    SquaredErrorHead,
    TweedieHead,
    ValueHead,
)
from segmenter_plugin.tasks import PERCENTILES, TaskConfig

SCALE = 20.0
VALUE = Target(TaskConfig(name="spend", kind="value", prediction_days=14), scale=SCALE)
COLUMNS = [f"spend_14d_p{percentile}" for percentile in PERCENTILES]


def head_of(kind: type[ValueHead]) -> ValueHead:
    return kind(VALUE, embedding_size=4, dropout=0.0)


def scores_of(*raw: float, kind: type[ValueHead] = LognormalHead) -> dict[str, float]:
    scores = head_of(kind).scores(torch.tensor([raw]), None)
    return {name: values.item() for name, values in scores.items()}


def test_the_loss_is_the_density_of_a_zero_inflated_lognormal() -> None:
    raw = torch.tensor([[0.3, 0.4, 0.5], [-0.2, 0.1, 0.9]])
    probability = torch.sigmoid(raw[:, 0]).numpy()
    sigma = softplus(raw[:, 2]).numpy()
    money = 35.0
    density = stats.lognorm(s=sigma[0], scale=SCALE * math.exp(0.4)).logpdf(money)
    # What does not depend on the model is left out of the loss: the Jacobian 1/y and the normal's constant.
    expected = [
        -math.log(probability[0]) - density - math.log(money) - 0.5 * math.log(2 * math.pi),
        -math.log(1 - probability[1]),
    ]
    losses = head_of(LognormalHead).losses(raw, torch.tensor([money, 0.0]), None)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)


def test_a_shared_logit_leaves_the_cross_entropy_to_its_owner() -> None:
    raw, label = torch.tensor([[0.3, 0.4, 0.5]]), torch.tensor([35.0])
    alone, shared = (head_of(LognormalHead).losses(raw, label, logit) for logit in (None, torch.tensor([2.0])))
    torch.testing.assert_close(alone - shared, softplus(-raw[:, 0]))


def many() -> tuple[dict[str, np.ndarray], np.ndarray, Any]:
    """Scores of outputs of all sizes, p, and the lognormal that they stand for; (N,) each."""
    raw = 12 * torch.rand(5000, 3, generator=torch.Generator().manual_seed(3)) - 6
    scores = {name: values.double().numpy() for name, values in head_of(LognormalHead).scores(raw, None).items()}
    sigma = softplus(raw[:, 2]).clamp(0.1, 2.0).double().numpy()
    amounts = stats.lognorm(s=sigma, scale=SCALE * np.exp(raw[:, 1].double().numpy()))
    return scores, torch.sigmoid(raw[:, 0].double()).numpy(), amounts


def test_the_expected_value_is_the_mean_of_the_distribution() -> None:
    scores, probability, amounts = many()
    np.testing.assert_allclose(scores["spend_14d_expected"], probability * amounts.mean(), rtol=1e-4)
    np.testing.assert_allclose(scores["spend_14d_probability"], probability, rtol=1e-5)


def test_percentiles_are_those_of_the_mixture() -> None:
    scores, probability, amounts = many()
    found = np.stack([scores[name] for name in COLUMNS])
    assert (np.diff(found, axis=0) >= 0).all()
    for percentile, quantile in zip(PERCENTILES, found, strict=True):
        share, zeros = percentile / 100, 1 - probability
        assert (quantile[zeros > share + 1e-5] == 0).all()
        above = zeros < share - 1e-3
        assert above.any()
        below = (zeros + probability * amounts.cdf(quantile))[above]
        np.testing.assert_allclose(below, share, atol=1e-4)


def test_percentiles_are_those_of_draws() -> None:
    raw = (0.8, 0.4, 0.3)
    probability, mu, sigma = 1 / (1 + math.exp(-raw[0])), raw[1], softplus(torch.tensor(raw[2])).item()
    random = np.random.default_rng(5)
    buys = random.random(400_000) < probability
    draws = np.where(buys, SCALE * np.exp(random.normal(mu, sigma, len(buys))), 0.0)
    scores = scores_of(*raw)
    assert scores["spend_14d_p10"] == 0
    for percentile in (50, 90):
        assert scores[f"spend_14d_p{percentile}"] == pytest.approx(np.percentile(draws, percentile), rel=0.02)
    assert scores["spend_14d_expected"] == pytest.approx(draws.mean(), rel=0.02)


def test_percentiles_use_the_shared_logit() -> None:
    raw = torch.tensor([[-5.0, 0.4, 0.3]])
    shared = head_of(LognormalHead).scores(raw, torch.tensor([5.0]))
    own = head_of(LognormalHead).scores(raw, None)
    assert shared["spend_14d_p10"] > 0
    assert own["spend_14d_p90"] == 0


def test_a_wild_sigma_is_clamped() -> None:
    wild, widest = (scores_of(0.0, 1.0, sigma)["spend_14d_expected"] for sigma in (50.0, 2.0))
    assert wild == pytest.approx(widest, rel=0.05)


def losses_of(kind: type[ValueHead], output: torch.Tensor, money: torch.Tensor) -> torch.Tensor:
    """Of the amount alone."""
    raw = torch.stack([torch.zeros_like(output), output], dim=1)
    return head_of(kind).losses(raw, money, torch.zeros_like(output))


MONEY = torch.tensor([0.0, 3.0, 250.0])
OUTPUT = torch.tensor([0.4, 1.2, -0.3])


def test_the_squared_error_is_of_money() -> None:
    torch.testing.assert_close(losses_of(SquaredErrorHead, OUTPUT, MONEY), (OUTPUT - MONEY / SCALE) ** 2)
    assert scores_of(0.0, 1.5, kind=SquaredErrorHead)["spend_14d_expected"] == pytest.approx(1.5 * SCALE)
    assert scores_of(0.0, -1.5, kind=SquaredErrorHead)["spend_14d_expected"] == 0


def test_the_squared_error_of_logarithms_is_taken_back() -> None:
    expected = (OUTPUT - torch.log1p(MONEY / SCALE)) ** 2
    torch.testing.assert_close(losses_of(LogSquaredErrorHead, OUTPUT, MONEY), expected)
    found = scores_of(0.0, math.log1p(1.5), kind=LogSquaredErrorHead)["spend_14d_expected"]
    assert found == pytest.approx(1.5 * SCALE)


def test_the_tweedie_loss_is_the_deviance() -> None:
    losses = losses_of(TweedieHead, OUTPUT, MONEY)
    for loss, output, money in zip(losses, OUTPUT, MONEY, strict=True):
        expected = mean_tweedie_deviance([money.item() / SCALE], [math.exp(output.item())], power=1.5)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert scores_of(0.0, 0.7, kind=TweedieHead)["spend_14d_expected"] == pytest.approx(math.exp(0.7) * SCALE)


@pytest.mark.parametrize("kind", [SquaredErrorHead, TweedieHead])
def test_the_best_constant_is_the_mean(kind: type[ValueHead]) -> None:
    output = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        losses_of(kind, output.expand(3), MONEY).mean().backward()
        optimizer.step()
    found = scores_of(0.0, output.item(), kind=kind)["spend_14d_expected"]
    assert found == pytest.approx(MONEY.mean().item(), rel=0.01)


@pytest.mark.parametrize("loss", sorted(set(VALUE_LOSSES) - {"ziln"}))
def test_a_head_without_a_spread_repeats_its_point(loss: str) -> None:
    scores = scores_of(0.4, 0.9, kind=VALUE_LOSSES[loss])
    assert {scores[name] for name in COLUMNS} == {scores["spend_14d_expected"]}
    assert scores["spend_14d_probability"] == pytest.approx(1 / (1 + math.exp(-0.4)))

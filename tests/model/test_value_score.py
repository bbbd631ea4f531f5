from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.value_score import value_score
from segmenter_plugin.tasks import TaskConfig

PURCHASE = TaskConfig(name="purchase", kind="binary", prediction_days=14)
SPEND = TaskConfig(name="spend", kind="value", prediction_days=14)
LADDER = TaskConfig(name="funnel", kind="multiclass", prediction_days=14, ladder=("view", "purchase"))
SHARE = st.floats(0, 1, width=32)
MONEY = st.floats(0, 2**40, width=32)


def score_of(probability: float, money: float, weights: tuple[float, float], scale: float = 20.0) -> float:
    targets = [
        Target(PURCHASE, value_weight=weights[0]),
        Target(LADDER, LADDER.classes),
        Target(SPEND, scale=scale, value_weight=weights[1]),
    ]
    scores = {
        "purchase_14d_probability": torch.tensor([probability]),
        "funnel_14d_probabilities": torch.tensor([[0.2, 0.3, 0.5]]),
        "spend_14d_expected": torch.tensor([money]),
    }
    found = value_score(targets, scores)
    assert found is not None
    return found.item()


def test_it_is_the_weighted_mean_of_the_parts() -> None:
    assert score_of(0.8, 60.0, (3.0, 1.0)) == pytest.approx((3 * 0.8 + 60 / 80) / 4)
    assert score_of(0.8, 60.0, (1.0, 0.0)) == pytest.approx(0.8)


def test_the_median_spender_is_worth_half() -> None:
    assert score_of(0.0, 20.0, (0.0, 1.0)) == pytest.approx(0.5)
    assert score_of(0.0, 0.0, (0.0, 1.0)) == 0


def test_weights_of_zero_count_the_same() -> None:
    assert score_of(0.8, 60.0, (0.0, 0.0)) == pytest.approx((0.8 + 0.75) / 2)


@settings(max_examples=50)
@given(probability=SHARE, money=MONEY, more=MONEY, weights=st.tuples(SHARE, SHARE))
def test_it_stays_in_range_and_grows_with_money(
    probability: float, money: float, more: float, weights: tuple[float, float]
) -> None:
    low, high = (score_of(probability, value, weights) for value in sorted((money, more)))
    assert 0 <= low <= high <= 1


def test_it_needs_a_task_that_rates_a_user() -> None:
    assert value_score([Target(LADDER, LADDER.classes)], {"funnel_14d_probabilities": torch.ones(1, 3)}) is None

from __future__ import annotations

import math

import pytest
import torch

from segmenter_plugin.model.task_weights import WEIGHTINGS, UncertaintyWeights

ALL = torch.ones(3, dtype=torch.bool)


def trained(weights: list[float], losses: torch.Tensor, known: torch.Tensor = ALL, steps: int = 600) -> list[float]:
    weighting = UncertaintyWeights(weights)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        weighting(losses, known).backward()
        optimizer.step()
    return weighting.weights().tolist()


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_every_weighting_starts_with_what_is_configured(name: str) -> None:
    weighting = WEIGHTINGS[name]([2.0, 0.0, 0.5])
    assert weighting.weights().tolist() == [2.0, 0.0, 0.5]
    total = weighting(torch.tensor([1.0, 7.0, 4.0]), ALL)
    assert total.item() == pytest.approx(2 * 1 + 0.5 * 4)


def test_learnt_weights_end_at_half_over_the_loss() -> None:
    # exp(-s) L + s / 2 is least where exp(-s) = 1 / (2 L).
    assert trained([1.0, 3.0, 0.2], torch.tensor([0.5, 2.0, 1.0])) == pytest.approx([1.0, 0.25, 0.5], rel=2e-2)


def test_a_task_of_the_weight_zero_stays_out() -> None:
    assert trained([0.0, 1.0, 1.0], torch.tensor([0.1, 0.5, 0.5]), steps=100)[0] == 0


def test_a_task_without_labels_in_the_batch_keeps_its_weight() -> None:
    known = torch.tensor([True, False, True])
    assert trained([1.0, 1.0, 1.0], torch.tensor([2.0, 0.0, 2.0]), known, steps=100)[1] == 1.0


def test_a_negative_loss_does_not_run_away() -> None:
    weighting, ones = UncertaintyWeights([1.0, 1.0, 1.0]), torch.ones(3)
    with torch.no_grad():
        weighting.shift.fill_(-50.0)
    assert weighting.weights().tolist() == pytest.approx([math.exp(3)] * 3)
    assert weighting(-ones, ALL).item() == pytest.approx(-3 * math.exp(3) - 3 * 1.5)
    weighting(-ones, ALL).backward()
    assert not weighting.shift.grad.any()


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_losses_are_judged_by_the_configured_weights(name: str) -> None:
    weighting = WEIGHTINGS[name]([2.0, 1.0, 0.0])
    with torch.no_grad():
        weighting.shift.copy_(torch.tensor([1.0, -1.0, 2.0]) * (name == "uncertainty"))
    assert weighting.eval()(torch.tensor([1.0, 3.0, 9.0]), ALL).item() == pytest.approx(2 * 1 + 3)

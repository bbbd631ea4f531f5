from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.heads import HEADS, TaskHeads, ValueHead
from segmenter_plugin.tasks import TaskConfig

BINARY = Target(TaskConfig(name="purchase", kind="binary", prediction_days=14))
VALUE = Target(TaskConfig(name="spend", kind="value", prediction_days=14), scale=20.0)
LADDER = Target(
    TaskConfig(name="funnel", kind="multiclass", prediction_days=14, ladder=("view", "purchase")),
    ("none", "view", "purchase"),
)
LIKED = Target(TaskConfig(name="liked", kind="multilabel", prediction_days=14, target="category"), ("a", "b"))
TARGETS = {"binary": BINARY, "value": VALUE, "multiclass": LADDER, "multilabel": LIKED}
NAN = math.nan
LABELS = {
    "binary": torch.tensor([1.0, 0.0, NAN]),
    "value": torch.tensor([35.0, 0.0, NAN]),
    "multiclass": torch.tensor([2.0, 0.0, NAN]),
    "multilabel": torch.tensor([[1.0, 0.0], [0.0, 0.0], [NAN, NAN]]),
}


def heads_of(*targets: Target, **weights: float) -> TaskHeads:
    torch.manual_seed(0)
    return TaskHeads(targets, embedding_size=4, dropout=0.0, weights=weights)


def embedding() -> torch.Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_every_registered_head_trains_and_scores(kind: str) -> None:
    target = TARGETS[kind]
    heads, label = heads_of(target), {target.task.label_column: LABELS[kind]}
    users = embedding()
    loss = heads.loss(users, label)
    loss.backward()
    assert torch.isfinite(users.grad).all()
    assert users.grad[:2].abs().sum() > 0
    # A censored label teaches nothing.
    assert users.grad[2].abs().sum() == 0
    scores = heads.scores(users)
    assert tuple(scores) == target.task.score_columns
    assert all(torch.isfinite(values).all() for values in scores.values())


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_all_censored_gives_a_loss_of_zero(kind: str) -> None:
    target = TARGETS[kind]
    users = embedding()
    loss = heads_of(target).loss(users, {target.task.label_column: torch.full_like(LABELS[kind], NAN)})
    loss.backward()
    assert loss.item() == 0
    assert users.grad.abs().sum() == 0


def test_probabilities_are_probabilities() -> None:
    scores = heads_of(BINARY, LADDER, LIKED).scores(embedding())
    assert (scores["purchase_14d_probability"] > 0).all()
    torch.testing.assert_close(scores["funnel_14d_probabilities"].sum(dim=1), torch.ones(3))
    assert scores["liked_14d_probabilities"].shape == (3, 2)


def test_the_value_loss_is_the_density_of_a_zero_inflated_lognormal() -> None:
    head = ValueHead(VALUE, embedding_size=4, dropout=0.0)
    raw = torch.tensor([[0.3, 0.4, 0.5], [-0.2, 0.1, 0.9]])
    probability = torch.sigmoid(raw[:, 0]).numpy()
    sigma = torch.nn.functional.softplus(raw[:, 2]).numpy()
    money = 35.0
    density = stats.lognorm(s=sigma[0], scale=VALUE.scale * math.exp(0.4)).logpdf(money)
    # What does not depend on the model is left out of the loss: the Jacobian 1/y and the normal's constant.
    expected = [
        -math.log(probability[0]) - density - math.log(money) - 0.5 * math.log(2 * math.pi),
        -math.log(1 - probability[1]),
    ]
    loss = head.loss(raw, torch.tensor([money, 0.0]), None)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_expected_value_is_the_mean_of_the_distribution() -> None:
    head = ValueHead(VALUE, embedding_size=4, dropout=0.0)
    raw = torch.tensor([[0.3, 0.4, 0.5]])
    sigma = torch.nn.functional.softplus(raw[0, 2]).item()
    scores = head.scores(raw, None)
    mean = stats.lognorm(s=sigma, scale=VALUE.scale * math.exp(0.4)).mean()
    probability = torch.sigmoid(raw[0, 0]).item()
    assert scores["spend_14d_expected"].item() == pytest.approx(probability * mean, rel=1e-5)
    assert scores["spend_14d_probability"].item() == pytest.approx(probability)


def test_a_wild_sigma_is_clamped() -> None:
    scores = ValueHead(VALUE, 4, 0.0).scores(torch.tensor([[0.0, 50.0, 50.0]]), None)
    assert torch.isfinite(scores["spend_14d_expected"]).all()


def test_purchase_and_spend_of_one_window_share_one_logit() -> None:
    heads, users = heads_of(BINARY, VALUE), embedding()
    scores = heads.scores(users)
    torch.testing.assert_close(scores["spend_14d_probability"], scores["purchase_14d_probability"])
    labels = {"purchase_14d_label": LABELS["binary"], "spend_14d_label": torch.tensor([0.0, 0.0, NAN])}
    # Nobody spends, so the value task alone adds nothing: its cross entropy is left to the binary task.
    torch.testing.assert_close(heads.loss(users, labels), heads_of(BINARY).loss(users, labels))


@pytest.mark.parametrize(
    "other",
    [
        {"prediction_days": 28},
        {"prediction_days": 14, "gap_days": 7},
        {"prediction_days": 14, "event_type": "view"},
    ],
)
def test_tasks_of_different_questions_share_nothing(other: dict[str, object]) -> None:
    scores = heads_of(Target(TaskConfig(name="asked", kind="binary", **other)), VALUE).scores(embedding())
    first, _, third = scores.values()
    assert not torch.allclose(first, third)


def test_weights_scale_a_tasks_loss() -> None:
    labels = {"purchase_14d_label": LABELS["binary"]}
    plain, doubled = (heads_of(BINARY, **weights).loss(embedding(), labels) for weights in ({}, {"purchase": 2.0}))
    torch.testing.assert_close(doubled, 2 * plain)
    assert heads_of(BINARY, purchase=0.0).loss(embedding(), labels).item() == 0

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.heads import HEADS, TaskHeads
from segmenter_plugin.model.value_heads import VALUE_LOSSES
from segmenter_plugin.tasks import TaskConfig

BINARY = Target(TaskConfig(name="purchase", kind="binary", prediction_days=14))
VALUE = Target(TaskConfig(name="spend", kind="value", prediction_days=14), scale=20.0)
LADDER = Target(
    TaskConfig(name="funnel", kind="multiclass", prediction_days=14, ladder=("view", "purchase")),
    ("none", "view", "purchase"),
)
LIKED = Target(TaskConfig(name="liked", kind="multilabel", prediction_days=14, target="category"), ("a", "b"))
LADDERS = replace(LADDER, task=LADDER.task.model_copy(update={"target": "category"}), values=("a", "b"))
TARGETS = {"binary": BINARY, "multiclass": LADDER, "multilabel": LIKED, "category": LADDERS} | {
    f"value {loss}": replace(VALUE, value_loss=loss) for loss in VALUE_LOSSES
}
NAN = math.nan
LABELS = {
    "binary": torch.tensor([1.0, 0.0, NAN]),
    "value": torch.tensor([35.0, 0.0, NAN]),
    "multiclass": torch.tensor([2.0, 0.0, NAN]),
    "multilabel": torch.tensor([[1.0, 0.0], [0.0, 0.0], [NAN, NAN]]),
    "category": torch.tensor([[2.0, 0.0], [0.0, 1.0], [NAN, NAN]]),
}
WEIGHTS = {
    "binary": ((0.5, 2.0),),
    "value": ((0.5, 2.0),),
    "multiclass": ((0.5, 1.0, 2.0),),
    "multilabel": ((0.5, 2.0), (0.7, 1.5)),
    "category": ((0.5, 1.0, 2.0), (0.7, 0.9, 1.5)),
}


def heads_of(*targets: Target, weighting: str = "fixed", **weights: float) -> TaskHeads:
    torch.manual_seed(0)
    return TaskHeads(targets, embedding_size=4, dropout=0.0, weights=weights, weighting=weighting)


def embedding() -> torch.Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)


def labels_of(*targets: Target) -> dict[str, torch.Tensor]:
    return {target.task.label_column: LABELS[target.task.form] for target in targets}


def test_every_registered_head_is_walked() -> None:
    assert {target.task.form for target in TARGETS.values()} == {*HEADS, "value"}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_censored_label_teaches_nothing(name: str) -> None:
    target, users = TARGETS[name], embedding()
    loss = heads_of(target).loss(users, labels_of(target))
    loss.backward()
    assert torch.isfinite(users.grad).all()
    assert users.grad[:2].abs().sum() > 0
    assert users.grad[2].abs().sum() == 0


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_all_censored_gives_a_loss_of_zero(name: str, weighting: str) -> None:
    target, users = TARGETS[name], embedding()
    nothing = {target.task.label_column: torch.full_like(LABELS[target.task.form], NAN)}
    heads = heads_of(target, weighting=weighting)
    loss = heads.loss(users, nothing)
    loss.backward()
    assert loss.item() == 0
    assert users.grad.abs().sum() == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in heads.parameters())


def separable(target: Target, count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Users whose first coordinate decides the label."""
    users = torch.randn(count, 4, generator=torch.Generator().manual_seed(2))
    high = users[:, 0] > 0
    label = {
        "binary": high.float(),
        "value": torch.where(high, 20.0 * torch.exp(users[:, 0]), 0.0),
        "multiclass": high.float() * 2,
        "multilabel": torch.stack([high.float(), 1 - high.float()], dim=1),
        "category": torch.stack([high.float() * 2, 2 - high.float() * 2], dim=1),
    }
    return users, label[target.task.form]


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "smoothed and weighted"])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_loss_falls_and_the_scores_follow(name: str, plain: bool) -> None:
    target = TARGETS[name]
    if not plain:
        target = replace(target, label_smoothing=0.1, class_weights=WEIGHTS[target.task.form])
    heads, (users, label) = heads_of(target), separable(target)
    labels = {target.task.label_column: label}
    optimizer = torch.optim.AdamW(heads.parameters(), lr=0.03)
    first = heads.loss(users, labels).item()
    for _ in range(50):
        optimizer.zero_grad()
        loss = heads.loss(users, labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < first - 0.25
    with torch.no_grad():
        score = heads.scores(users)[target.task.score_columns[0]]
    ranking = score if score.ndim == 1 else score[:, -1] * (1 if target.task.form == "multiclass" else -1)
    high = users[:, 0] > 0
    assert ranking[high].mean() > ranking[~high].mean() + 0.3


@pytest.mark.parametrize("extreme", [0.0, 1e4, -1e4, 1e30, -1e30])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_scores_are_finite_and_in_range_whatever_comes_out(name: str, extreme: float) -> None:
    target = TARGETS[name]
    heads = heads_of(target)
    last = heads.heads[target.task.window_name].layers[-1]
    with torch.no_grad():
        last.bias.fill_(extreme)
        scores = heads.scores(embedding())
    rated = ("value_score",) if target.task.rates_a_user else ()
    assert tuple(scores) == (*target.task.score_columns, *rated)
    for column, values in scores.items():
        assert torch.isfinite(values).all(), column
        assert (values >= 0).all(), column
        if "probabilit" in column or column == "value_score":
            assert (values <= 1).all(), column


def test_probabilities_are_probabilities() -> None:
    scores = heads_of(BINARY, LADDER, LIKED).scores(embedding())
    assert (scores["purchase_14d_probability"] > 0).all()
    torch.testing.assert_close(scores["funnel_14d_probabilities"].sum(dim=1), torch.ones(3))
    assert scores["liked_14d_probabilities"].shape == (3, 2)


def test_a_ladder_of_each_category_gives_all_classes_of_one_value_after_the_other() -> None:
    heads, users, label = heads_of(LADDERS), embedding(), LABELS["category"]
    scores = heads.scores(users)["funnel_14d_probabilities"]
    assert scores.shape == (3, 6)
    by_value = [scores[:, :3], scores[:, 3:]]
    for part in by_value:
        torch.testing.assert_close(part.sum(dim=1), torch.ones(3))
    each = [-part[row, int(label[row, place])].log() for place, part in enumerate(by_value) for row in (0, 1)]
    torch.testing.assert_close(heads.loss(users, {"funnel_14d_label": label}), torch.stack(each).mean())


def test_a_category_that_teaches_one_class_moves_no_other_one() -> None:
    """The gradient of one value's logits does not depend on the labels of another value."""
    users = embedding()

    def gradient(label: list[float]) -> torch.Tensor:
        heads = heads_of(LADDERS)
        heads.loss(users, {"funnel_14d_label": torch.tensor([label, label, [NAN, NAN]])}).backward()
        return heads.heads["funnel_14d"].layers[-1].bias.grad

    one, other = gradient([0.0, 0.0]), gradient([0.0, 2.0])
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3:], other[3:])


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
    asked = Target(TaskConfig(name="asked", kind="binary", **other))
    scores = heads_of(asked, VALUE).scores(embedding())
    assert not torch.allclose(scores[asked.task.score_columns[0]], scores["spend_14d_probability"])


@pytest.mark.parametrize("loss", sorted(set(VALUE_LOSSES) - {"ziln"}))
def test_heads_to_compare_with_keep_a_logit_of_their_own(loss: str) -> None:
    scores = heads_of(BINARY, replace(VALUE, value_loss=loss)).scores(embedding())
    assert not torch.allclose(scores["purchase_14d_probability"], scores["spend_14d_probability"])


def test_weights_scale_a_tasks_loss() -> None:
    labels = labels_of(BINARY)
    plain, doubled = (heads_of(BINARY, **weights).loss(embedding(), labels) for weights in ({}, {"purchase": 2.0}))
    torch.testing.assert_close(doubled, 2 * plain)
    assert heads_of(BINARY, purchase=0.0).loss(embedding(), labels).item() == 0


def test_smoothed_labels_are_the_cross_entropy_against_softer_ones() -> None:
    users, share = embedding(), 0.2
    logit = heads_of(BINARY).scores(users)["purchase_14d_probability"].logit()[:2]
    soft = torch.tensor([1 - share / 2, share / 2])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logit, soft)
    smoothed = heads_of(replace(BINARY, label_smoothing=share)).loss(users, labels_of(BINARY))
    torch.testing.assert_close(smoothed, expected)


@pytest.mark.parametrize("user", [0, 1])
@pytest.mark.parametrize("name", ["binary", "multiclass"])
def test_class_weights_weigh_a_users_loss_by_its_class(name: str, user: int) -> None:
    target, users = TARGETS[name], embedding()
    label = torch.full((3,), NAN)
    label[user] = LABELS[name][user]
    labels = {target.task.label_column: label}
    plain, weighted = (
        heads_of(each).loss(users, labels) for each in (target, replace(target, class_weights=WEIGHTS[name]))
    )
    torch.testing.assert_close(weighted, WEIGHTS[name][0][int(label[user])] * plain)


def test_class_weights_weigh_each_value_of_a_multilabel_task() -> None:
    users, label = embedding()[:1], torch.tensor([[1.0, 0.0]])
    logits = heads_of(LIKED).scores(users)["liked_14d_probabilities"].logit()
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    weighted = heads_of(replace(LIKED, class_weights=WEIGHTS["multilabel"])).loss(users, {"liked_14d_label": label})
    torch.testing.assert_close(weighted, (losses * torch.tensor([2.0, 0.7])).mean())


def test_class_weights_weigh_each_category() -> None:
    users, label = embedding()[:1], torch.tensor([[2.0, 1.0]])
    scores = heads_of(LADDERS).scores(users)["funnel_14d_probabilities"][0]
    weighted = heads_of(replace(LADDERS, class_weights=WEIGHTS["category"])).loss(users, {"funnel_14d_label": label})
    torch.testing.assert_close(weighted, (-2.0 * scores[2].log() - 0.9 * scores[4].log()) / 2)


def test_smoothed_ladders_are_the_cross_entropy_against_softer_ones() -> None:
    users, share = embedding()[:1], 0.3
    logs = heads_of(LADDERS).scores(users)["funnel_14d_probabilities"][0].log().reshape(2, 3)
    soft = (1 - share) * torch.eye(3)[[2, 1]] + share / 3
    smoothed = heads_of(replace(LADDERS, label_smoothing=share)).loss(
        users, {"funnel_14d_label": torch.tensor([[2.0, 1.0]])}
    )
    torch.testing.assert_close(smoothed, -(soft * logs).sum(dim=1).mean())


def test_class_weights_of_money_weigh_the_question_whether_there_is_any() -> None:
    target, users, labels = TARGETS["value mse"], embedding(), {"spend_14d_label": torch.tensor([0.0, NAN, NAN])}
    plain = heads_of(target).loss(users, labels)
    weighted = heads_of(replace(target, class_weights=WEIGHTS["value"])).loss(users, labels)
    logit = heads_of(target).scores(users)["spend_14d_probability"][0].logit()
    torch.testing.assert_close(plain - weighted, 0.5 * torch.nn.functional.softplus(logit))


@pytest.mark.parametrize("cut", range(1, 6))
def test_sums_add_up_over_batches_of_any_size(cut: int) -> None:
    targets = (BINARY, VALUE, LADDER, LIKED)
    heads, users = heads_of(*targets), torch.cat([embedding(), -embedding()]).detach()
    labels = {name: torch.cat([label, label]) for name, label in labels_of(*targets).items()}
    whole = heads.sums(users, labels)
    parts = [
        heads.sums(users[rows], {name: label[rows] for name, label in labels.items()})
        for rows in (slice(None, cut), slice(cut, None))
    ]
    for name, (loss, count) in whole.items():
        torch.testing.assert_close(loss, parts[0][name][0] + parts[1][name][0])
        assert count == parts[0][name][1] + parts[1][name][1] == 4


def test_what_was_learnt_of_the_weights_can_be_loaded_where_they_are_fixed() -> None:
    learnt = heads_of(BINARY, LADDER, weighting="uncertainty", purchase=2.0)
    with torch.no_grad():
        learnt.weighting.shift.copy_(torch.tensor([0.5, -0.5]))
    read = heads_of(BINARY, LADDER)
    read.load_state_dict(learnt.state_dict())
    assert read.task_weights == learnt.task_weights
    assert read.task_weights["purchase_14d"] == pytest.approx(2 * math.exp(-0.5))
    assert not [name for name, _ in read.named_parameters() if "weighting" in name]


def test_scores_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        scores = heads_of(BINARY, VALUE).scores(embedding())
    assert {values.dtype for values in scores.values()} == {torch.float32}


def test_a_target_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"value_loss = 'huber'.*ziln"):
        heads_of(replace(VALUE, value_loss="huber"))

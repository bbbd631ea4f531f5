from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.targets import Target, TargetSettings, fit_target
from segmenter_plugin.errors import ArtifactError, TrainingError
from segmenter_plugin.tasks import TaskConfig

BINARY = TaskConfig(name="purchase", kind="binary", prediction_days=14)
VALUE = TaskConfig(name="spend", kind="value", prediction_days=14)
LADDER = TaskConfig(name="funnel", kind="multiclass", prediction_days=14, ladder=("view", "purchase"))
LIKED = TaskConfig(name="liked", kind="multilabel", prediction_days=14, target="category", top_count=2)
LADDERS = LADDER.model_copy(update={"name": "interest", "target": "category", "top_count": 2})
RUNGS = pa.list_(pa.struct([("value", pa.string()), ("rung", pa.string())]))


def rungs(*rows: dict[str, str] | None) -> list[object]:
    return [None if row is None else [{"value": value, "rung": rung} for value, rung in row.items()] for row in rows]


def chunked(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    kind = kind or pa.array(values).type
    return pa.chunked_array([pa.array(values[:2], kind), pa.array(values[2:], kind)])


def test_binary_labels_keep_their_censoring() -> None:
    target = fit_target(BINARY, chunked([True, None, False]))
    np.testing.assert_array_equal(target.encode(pa.array([True, None, False])), [1, np.nan, 0])


def test_value_labels_stay_money_and_scale_by_the_median_of_buyers() -> None:
    target = fit_target(VALUE, chunked([0.0, 10.0, None, 30.0, 0.0, 20.0]))
    assert target.scale == 20.0
    np.testing.assert_array_equal(target.encode(pa.array([5.0, None, 0.0])), [5, np.nan, 0])


def test_classes_follow_the_ladder() -> None:
    target = fit_target(LADDER, chunked(["none", "purchase", None]))
    assert target.classes == ("none", "view", "purchase")
    np.testing.assert_array_equal(target.encode(pa.array(["purchase", None, "none"])), [2, np.nan, 0])


def test_a_class_that_is_not_on_the_ladder_is_named() -> None:
    with pytest.raises(TrainingError, match=r"holds 'cart'; the ladder is \['none', 'view', 'purchase'\]"):
        Target(LADDER, LADDER.classes).encode(pa.array(["cart", "none"]))


def test_multilabel_takes_the_most_frequent_values() -> None:
    kind = pa.list_(pa.string())
    target = fit_target(LIKED, chunked([["b", "a"], ["b"], [], None, ["c", "a"]], kind))
    assert target.classes == ("a", "b")
    encoded = target.encode(pa.array([["b", "c"], None, [], ["a", "b"]], kind))
    np.testing.assert_array_equal(encoded, [[0, 1], [np.nan, np.nan], [0, 0], [1, 1]])


def test_a_ladder_of_each_of_the_most_frequent_categories() -> None:
    rows = rungs({"b": "view", "a": "view"}, {"b": "purchase"}, {}, None, {"c": "view", "a": "purchase"})
    target = fit_target(LADDERS, chunked(rows, RUNGS))
    assert target.classes == ("none", "view", "purchase")
    assert target.values == ("a", "b")
    encoded = target.encode(pa.array(rows, RUNGS)[1:])
    np.testing.assert_array_equal(encoded, [[0, 2], [0, 0], [np.nan, np.nan], [2, 0]])


@settings(max_examples=50)
@given(
    rows=st.lists(
        st.none() | st.dictionaries(st.sampled_from("abcd"), st.sampled_from(LADDERS.ladder), max_size=4), min_size=1
    )
)
def test_encoded_ladders_equal_a_plain_loop(rows: list[dict[str, str] | None]) -> None:
    target = Target(LADDERS, LADDERS.classes, values=("c", "a"))
    expected = [
        [np.nan] * 2 if row is None else [target.classes.index(row.get(value, "none")) for value in target.values]
        for row in rows
    ]
    np.testing.assert_array_equal(target.encode(pa.array(rungs(*rows), RUNGS)), expected)


def test_a_rung_that_is_not_on_the_ladder_is_named() -> None:
    target = Target(LADDERS, LADDERS.classes, values=("a",))
    with pytest.raises(TrainingError, match=r"interest_14d_label holds 'cart'; the ladder is"):
        target.encode(pa.array(rungs({"b": "cart"}), RUNGS))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (BINARY, pa.chunked_array([[True, True]])),
        (VALUE, pa.chunked_array([[0.0, 0.0]])),
        (LADDER, pa.chunked_array([["none", "none"]])),
        (LIKED, pa.chunked_array([pa.array([[], []], pa.list_(pa.string()))])),
        (LADDERS, pa.chunked_array([pa.array([[], []], RUNGS)])),
        (LADDERS, pa.chunked_array([pa.array(rungs({"a": "view"}, {"a": "view"}), RUNGS)])),
    ],
    ids=["binary", "value", "multiclass", "multilabel", "nothing touched", "one rung"],
)
def test_labels_of_one_class_are_refused(task: TaskConfig, labels: pa.ChunkedArray) -> None:
    with pytest.raises(TrainingError, match=f"all 2 training labels of {task.window_name} are the same"):
        fit_target(task, labels)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (BINARY, pa.bool_()),
        (VALUE, pa.float64()),
        (LADDER, pa.string()),
        (LIKED, pa.list_(pa.string())),
        (LADDERS, RUNGS),
    ],
    ids=["binary", "value", "multiclass", "multilabel", "category"],
)
def test_labels_that_are_all_censored_are_refused(task: TaskConfig, kind: pa.DataType) -> None:
    with pytest.raises(TrainingError, match=r"all 3 training labels .* are censored"):
        fit_target(task, pa.chunked_array([pa.nulls(3, kind)]))


BALANCED = TargetSettings(class_weights="balanced")


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (BINARY, [True, False, False, None, False], ((4 / 6, 4 / 2),)),
        (VALUE, [0.0, 10.0, 30.0, None, 5.0], ((4 / 2, 4 / 6),)),
        # Nobody stays at "view": its weight is 1, and the other two share the examples.
        (LADDER, ["none", "purchase", None, "none", "none"], ((4 / 6, 1.0, 4 / 2),)),
        (LIKED, [["a"], ["a", "b"], [], None, ["a", "c"]], ((4 / 2, 4 / 6), (4 / 6, 4 / 2))),
    ],
    ids=["binary", "value", "multiclass", "multilabel"],
)
def test_balanced_classes_weigh_the_same_together(task: TaskConfig, labels: list[object], expected: object) -> None:
    weights = fit_target(task, chunked(labels), BALANCED).class_weights
    assert [pytest.approx(row) for row in expected] == [list(row) for row in weights]
    assert fit_target(task, chunked(labels)).class_weights == ()


def test_balanced_rungs_weigh_the_same_in_each_category() -> None:
    rows = rungs({"a": "view"}, {"a": "view", "b": "purchase"}, None, {"a": "purchase"}, {"b": "purchase"})
    weights = fit_target(LADDERS, chunked(rows, RUNGS), BALANCED).class_weights
    assert [list(row) for row in weights] == [
        pytest.approx([4 / 3, 4 / 6, 4 / 3]),
        pytest.approx([4 / 4, 1.0, 4 / 4]),
    ]


@settings(max_examples=50)
@given(labels=st.lists(st.sampled_from(LADDER.classes), min_size=2).filter(lambda labels: len(set(labels)) > 1))
def test_balancing_keeps_the_size_of_the_loss(labels: list[str]) -> None:
    target = fit_target(LADDER, pa.chunked_array([labels]), BALANCED)
    (weights,) = target.class_weights
    each = np.array(weights)[target.encode(pa.array(labels)).astype(int)]
    assert each.mean() == pytest.approx(1)


def test_a_configuration_says_how_labels_count(tree: dict[str, object]) -> None:
    finetune = {"value_loss": "tweedie", "label_smoothing": 0.1, "class_weights": "balanced"}
    config = parse_config(tree | {"finetune": finetune, "scores": {"value_weights": {"spend": 3.0}}})
    found = TargetSettings.of(config)
    assert found == TargetSettings("tweedie", 0.1, "balanced", {"spend": 3.0})
    target = fit_target(VALUE, chunked([0.0, 10.0, None]), found)
    assert (target.value_loss, target.label_smoothing, target.value_weight) == ("tweedie", 0.1, 3.0)
    assert fit_target(BINARY, chunked([True, False, None]), found).value_weight == 0


@pytest.mark.parametrize(
    ("task", "weight"),
    [
        (BINARY, 1.0),
        (VALUE, 1.0),
        (BINARY.model_copy(update={"event_type": "coupon"}), 0.0),
        (LADDER, 0.0),
        (LIKED, 0.0),
    ],
    ids=["purchase", "value", "coupon", "multiclass", "multilabel"],
)
def test_purchases_and_money_make_the_value_score(task: TaskConfig, weight: float) -> None:
    assert TargetSettings().value_weight(task) == weight
    assert TargetSettings(value_weights={task.name: 2.0}).value_weight(task) == (2.0 if task.rates_a_user else 0.0)


@pytest.mark.parametrize(
    "target",
    [
        Target(BINARY, class_weights=((0.75, 1.5),), label_smoothing=0.1, value_weight=2.0),
        Target(VALUE, (), 12.5, "tweedie"),
        Target(LIKED, ("a", "b"), class_weights=((0.5, 2.0), (1.0, 1.0))),
        Target(LADDERS, LADDERS.classes, values=("a", "b"), class_weights=((0.5, 2.0, 1.0), (1.0, 1.0, 1.0))),
    ],
    ids=["binary", "value", "multilabel", "category"],
)
def test_json_round_trip(target: Target) -> None:
    tree = target.to_json()
    assert Target.from_json(json.loads(json.dumps(tree))) == target
    # An artifact's version is a hash of this: it must not change for tasks without a ladder of each value.
    assert ("values" in tree) == (target.task.form == "category")


@pytest.mark.parametrize("tree", [None, {}, {"task": {"name": "x"}, "classes": [], "scale": 1}])
def test_a_foreign_tree_is_refused(tree: object) -> None:
    with pytest.raises(ArtifactError):
        Target.from_json(tree)

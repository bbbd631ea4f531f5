from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.data.targets import Target, fit_target
from segmenter_plugin.errors import ArtifactError, TrainingError
from segmenter_plugin.tasks import TaskConfig

BINARY = TaskConfig(name="purchase", kind="binary", prediction_days=14)
VALUE = TaskConfig(name="spend", kind="value", prediction_days=14)
LADDER = TaskConfig(name="funnel", kind="multiclass", prediction_days=14, ladder=("view", "purchase"))
LIKED = TaskConfig(name="liked", kind="multilabel", prediction_days=14, target="category", top_count=2)


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


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (BINARY, pa.chunked_array([[True, True]])),
        (VALUE, pa.chunked_array([[0.0, 0.0]])),
        (LADDER, pa.chunked_array([["none", "none"]])),
        (LIKED, pa.chunked_array([pa.array([[], []], pa.list_(pa.string()))])),
    ],
    ids=["binary", "value", "multiclass", "multilabel"],
)
def test_labels_of_one_class_are_refused(task: TaskConfig, labels: pa.ChunkedArray) -> None:
    with pytest.raises(TrainingError, match=f"all 2 training labels of {task.window_name} are the same"):
        fit_target(task, labels)


@pytest.mark.parametrize(
    ("task", "kind"),
    [(BINARY, pa.bool_()), (VALUE, pa.float64()), (LADDER, pa.string()), (LIKED, pa.list_(pa.string()))],
    ids=["binary", "value", "multiclass", "multilabel"],
)
def test_labels_that_are_all_censored_are_refused(task: TaskConfig, kind: pa.DataType) -> None:
    with pytest.raises(TrainingError, match=r"all 3 training labels .* are censored"):
        fit_target(task, pa.chunked_array([pa.nulls(3, kind)]))


@pytest.mark.parametrize("target", [Target(BINARY), Target(VALUE, (), 12.5), Target(LIKED, ("a", "b"))])
def test_json_round_trip(target: Target) -> None:
    assert Target.from_json(target.to_json()) == target


@pytest.mark.parametrize("tree", [None, {}, {"task": {"name": "x"}, "classes": [], "scale": 1}])
def test_a_foreign_tree_is_refused(tree: object) -> None:
    with pytest.raises(ArtifactError):
        Target.from_json(tree)

"""Labels as numbers: what each task's head is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from segmenter_plugin.columns import PURCHASE
from segmenter_plugin.config import Config
from segmenter_plugin.errors import ArtifactError, TrainingError
from segmenter_plugin.tasks import TaskConfig

Labels = npt.NDArray[np.float32]
#: One row a question (a task with a target asks one a value, others one), one column an answer.
ClassWeights = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Target:
    """One task as a head sees it; part of the artifact.

    Attributes:
        task: The task.
        classes: Of a multiclass task the ladder's steps, of a multilabel task the predicted values; else empty.
        scale: Of a value task the median of the positive training labels (currency); else 1.
        value_loss: Of a value task which of `model.value_heads.VALUE_LOSSES`.
        class_weights: What an example of a class counts for in the loss, (questions, answers); empty where all count
            the same. The two classes of a binary question (also "is there any money?") stand in the order no, yes.
        label_smoothing: Share of a label that is spread over all its classes.
        value_weight: Of this task's part in `value_score`; what counts is its ratio to the other tasks'.
        values: Of a multiclass task with a target the predicted values, each of which has one of the classes.
    """

    task: TaskConfig
    classes: tuple[str, ...] = ()
    scale: float = 1.0
    value_loss: str = "ziln"
    class_weights: ClassWeights = ()
    label_smoothing: float = 0.0
    value_weight: float = 0.0
    values: tuple[str, ...] = ()

    def encode(self, array: pa.Array) -> Labels:
        """Labels as numbers, NaN where they are censored.

        Args:
            array: The label column, (N,).

        Returns:
            (N,): 0 or 1, money, or the class's place; (N, K) of 0 and 1 for a multilabel task of K classes, and of
            class places for a ladder of each of K values.

        Raises:
            TrainingError: A class is not on the ladder.
        """
        if self.task.form == "multilabel":
            return _encode_lists(array, array.flatten(), self.classes, 1.0)
        if self.task.form == "category":
            touched = array.flatten()
            rungs = self._places(touched.field("rung")).to_numpy(zero_copy_only=False)
            return _encode_lists(array, touched.field("value"), self.values, rungs)
        if self.task.form == "multiclass":
            array = self._places(array)
        numbers = pc.fill_null(array.cast(pa.float64()), float("nan"))
        return numbers.to_numpy(zero_copy_only=False).astype(np.float32)

    def _places(self, names: pa.Array) -> pa.Array:
        """Places of some names among the classes."""
        places = pc.index_in(names, value_set=pa.array(self.classes, names.type), skip_nulls=True)
        unknown = names.filter(pc.and_(pc.is_null(places), pc.is_valid(names)))
        if len(unknown):
            raise TrainingError(
                f"{self.task.label_column} holds {unknown[0].as_py()!r}; the ladder is {list(self.classes)}.",
                hint="build the labels again with the configuration that you train with.",
            )
        return places

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        task = self.task.model_dump(mode="json", exclude_defaults=True)
        # Left out where there are none, so that the version of an artifact without them stays what it was.
        values = {"values": list(self.values)} if self.values else {}
        return values | {
            "task": task,
            "classes": list(self.classes),
            "scale": self.scale,
            "value_loss": self.value_loss,
            "class_weights": [list(row) for row in self.class_weights],
            "label_smoothing": self.label_smoothing,
            "value_weight": self.value_weight,
        }

    @classmethod
    def from_json(cls, tree: Any) -> Target:
        """What `to_json` gave.

        Raises:
            ArtifactError: The tree is not a target.
        """
        try:
            return cls(
                task=TaskConfig.model_validate(tree["task"]),
                classes=tuple(tree["classes"]),
                scale=float(tree["scale"]),
                value_loss=str(tree["value_loss"]),
                class_weights=tuple(tuple(map(float, row)) for row in tree["class_weights"]),
                label_smoothing=float(tree["label_smoothing"]),
                value_weight=float(tree["value_weight"]),
                values=tuple(tree.get("values", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError, ValidationError) as error:
            raise ArtifactError(f"the artifact's tasks cannot be read: {error}.") from error


@dataclass(frozen=True)
class TargetSettings:
    """What a configuration says of labels.

    Attributes:
        value_loss: `[finetune] value_loss`.
        label_smoothing: `[finetune] label_smoothing`.
        class_weights: `[finetune] class_weights`.
        value_weights: `[scores] value_weights`.
    """

    value_loss: str = "ziln"
    label_smoothing: float = 0.0
    class_weights: str = "none"
    value_weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> TargetSettings:
        """As `[finetune]` and `[scores]` have them."""
        finetune = config.finetune
        return cls(
            finetune.value_loss, finetune.label_smoothing, finetune.class_weights, dict(config.scores.value_weights)
        )

    def value_weight(self, task: TaskConfig) -> float:
        """Weight of a task in `value_score`: as configured; else 1 for purchases and their money, 0 for the others."""
        if not task.rates_a_user:
            return 0.0
        if self.value_weights:
            return self.value_weights.get(task.name, 0.0)
        return float(task.event_type == PURCHASE)


def fit_target(task: TaskConfig, training: pa.ChunkedArray, settings: TargetSettings | None = None) -> Target:
    """Learn what a target needs from the training users' labels, and refuse labels that teach nothing.

    Args:
        task: The task.
        training: Labels of training users, all cutoffs together; null where censored.
        settings: How labels count; by default all the same.

    Raises:
        TrainingError: All labels are censored, or all are of one class.
    """
    settings = settings or TargetSettings()
    labels = training.drop_null()
    if not len(labels):
        raise TrainingError(
            f"all {len(training)} training labels of {task.window_name} are censored.",
            hint=f"take training cutoffs that have {task.gap_days + task.prediction_days} days of events after them.",
        )
    classes, values = _frequent_answers(task, labels) if task.target else _own_answers(task, labels)
    target = Target(
        task,
        classes,
        _scale(task, labels),
        settings.value_loss,
        label_smoothing=settings.label_smoothing,
        value_weight=settings.value_weight(task),
        values=values,
    )
    if values:
        _refuse_one_rung(target, labels)
    if settings.class_weights == "balanced":
        return replace(target, class_weights=_balanced(target, labels))
    return target


def _own_answers(task: TaskConfig, labels: pa.ChunkedArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`classes` and `values` of a task without a target."""
    seen = pc.unique(pc.greater(labels, 0.0) if task.kind == "value" else labels)
    if len(seen) < 2:
        no_money = task.kind == "value" and not seen[0].as_py()
        raise _one_class(task, len(labels), "no money" if no_money else str(seen[0]))
    return task.classes if task.kind == "multiclass" else (), ()


def _frequent_answers(task: TaskConfig, labels: pa.ChunkedArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`classes` and `values` of a task with a target: its most frequent values, equally frequent ones in text order."""
    found = labels.combine_chunks().flatten()
    counts = _value_counts(found.field("value") if task.form == "category" else found)
    frequent = tuple(sorted(counts, key=lambda value: (-counts[value], value))[: task.top_count])
    if not frequent:
        raise _one_class(task, len(labels), "[]")
    return (task.classes, frequent) if task.form == "category" else (frequent, ())


def _refuse_one_rung(target: Target, labels: pa.ChunkedArray) -> None:
    """Refuse a ladder on which everybody is at the same rung of each value."""
    encoded = target.encode(labels.combine_chunks())
    if (encoded == encoded[:1]).all():
        raise _one_class(target.task, len(labels), str(labels[0].as_py()))


def _scale(task: TaskConfig, labels: pa.ChunkedArray) -> float:
    return float(np.median(labels.filter(pc.greater(labels, 0.0)).to_numpy())) if task.kind == "value" else 1.0


def _balanced(target: Target, labels: pa.ChunkedArray) -> ClassWeights:
    """``n / (k n_c)`` of each class c of the k that are seen: its examples count as much as another class's.

    The weights' mean over the training examples is 1, so that a task's loss keeps its size. A class that is not seen
    has the weight 1.
    """
    encoded = target.encode(labels.combine_chunks())
    if target.task.kind == "multiclass":
        questions = encoded.reshape(len(encoded), -1).astype(np.intp).T
        counts = np.stack([np.bincount(places, minlength=len(target.classes)) for places in questions])
    else:
        positives = (encoded.reshape(len(encoded), -1) > 0).sum(axis=0)
        counts = np.column_stack([len(encoded) - positives, positives])
    seen = counts > 0
    weights = np.where(seen, len(encoded) / (seen.sum(axis=1, keepdims=True) * np.maximum(counts, 1)), 1.0)
    return tuple(tuple(row) for row in weights.tolist())


def _encode_lists(
    array: pa.Array, values: pa.Array, known_values: tuple[str, ...], numbers: npt.NDArray[Any] | float
) -> Labels:
    """A matrix from lists: 0 for what a list does not hold, NaN where there is none.

    Args:
        array: (N,) lists, null where censored.
        values: (M,) what all lists hold, one after the other.
        known_values: K values that have a column; others are left out.
        numbers: (M,) what stands for each of the values.

    Returns:
        (N, K).
    """
    encoded = np.zeros((len(array), len(known_values)), dtype=np.float32)
    encoded[~pc.is_valid(array).to_numpy(zero_copy_only=False)] = np.nan
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    places = pc.index_in(values, value_set=pa.array(known_values, values.type), skip_nulls=True)
    known = pc.is_valid(places).to_numpy(zero_copy_only=False)
    columns = pc.fill_null(places, 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(array)), lengths)
    encoded[rows[known], columns[known]] = np.broadcast_to(numbers, len(known))[known]
    return encoded


def _value_counts(values: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(values.drop_null())
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return dict(pairs)


def _one_class(task: TaskConfig, count: int, value: str) -> TrainingError:
    return TrainingError(
        f"all {count} training labels of {task.window_name} are the same: {value}; "
        "a model cannot learn from one class.",
        hint="check the task's event_type and prediction_days, or take more training cutoffs.",
    )

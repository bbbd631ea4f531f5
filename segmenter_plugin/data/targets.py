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
#: One row a question (a multilabel task asks one a value, others one), one column an answer.
ClassWeights = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Target:
    """One task as a head sees it; part of the artifact.

    Attributes:
        task: The task.
        classes: Of a multiclass task the ladder's steps, of a multilabel task the predicted values; else empty.
        scale: Of a value task the median of the positive training labels (currency); else 1.
        value_loss: Of a value task which of `model.value_heads.VALUE_LOSSES`.
        class_weights: What an example of a class counts for in the loss, (Q, C); empty where all count the same. The
            two classes of a binary question (also "is there any money?") stand in the order no, yes.
        label_smoothing: Share of a label that is spread over all its classes.
        value_weight: Of this task's part in `value_score`; what counts is its ratio to the other tasks'.
    """

    task: TaskConfig
    classes: tuple[str, ...] = ()
    scale: float = 1.0
    value_loss: str = "ziln"
    class_weights: ClassWeights = ()
    label_smoothing: float = 0.0
    value_weight: float = 0.0

    def encode(self, array: pa.Array) -> Labels:
        """Labels as numbers, NaN where they are censored.

        Args:
            array: The label column, (N,).

        Returns:
            (N,): 0 or 1, money, or the class's place; (N, K) of 0 and 1 for a multilabel task of K classes.

        Raises:
            TrainingError: A class is not on the ladder.
        """
        if self.task.kind == "multilabel":
            return self._encode_lists(array)
        if self.task.kind == "multiclass":
            places = pc.index_in(array, value_set=pa.array(self.classes, array.type), skip_nulls=True)
            unknown = array.filter(pc.and_(pc.is_null(places), pc.is_valid(array)))
            if len(unknown):
                raise TrainingError(
                    f"{self.task.label_column} holds {unknown[0].as_py()!r}; the ladder is {list(self.classes)}.",
                    hint="build the labels again with the configuration that you train with.",
                )
            array = places
        numbers = pc.fill_null(array.cast(pa.float64()), float("nan"))
        return numbers.to_numpy(zero_copy_only=False).astype(np.float32)

    def _encode_lists(self, array: pa.Array) -> Labels:
        encoded = np.zeros((len(array), len(self.classes)), dtype=np.float32)
        valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
        encoded[~valid] = np.nan
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        values = array.flatten()
        places = pc.index_in(values, value_set=pa.array(self.classes, values.type), skip_nulls=True)
        known = pc.is_valid(places).to_numpy(zero_copy_only=False)
        columns = pc.fill_null(places, 0).to_numpy(zero_copy_only=False)
        encoded[np.repeat(np.arange(len(array)), lengths)[known], columns[known]] = 1.0
        return encoded

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        task = self.task.model_dump(mode="json", exclude_defaults=True)
        return {
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
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
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
    target = Target(
        task,
        _classes(task, labels),
        _scale(task, labels),
        settings.value_loss,
        label_smoothing=settings.label_smoothing,
        value_weight=settings.value_weight(task),
    )
    if settings.class_weights == "balanced":
        return replace(target, class_weights=_balanced(target, labels))
    return target


def _classes(task: TaskConfig, labels: pa.ChunkedArray) -> tuple[str, ...]:
    if task.kind == "multilabel":
        counts = _value_counts(labels.combine_chunks().flatten())
        classes = tuple(sorted(counts, key=lambda value: (-counts[value], value))[: task.top_count])
        if not classes:
            raise _one_class(task, len(labels), "[]")
        return classes
    seen = pc.unique(pc.greater(labels, 0.0) if task.kind == "value" else labels)
    if len(seen) < 2:
        no_money = task.kind == "value" and not seen[0].as_py()
        raise _one_class(task, len(labels), "no money" if no_money else str(seen[0]))
    return task.classes if task.kind == "multiclass" else ()


def _scale(task: TaskConfig, labels: pa.ChunkedArray) -> float:
    return float(np.median(labels.filter(pc.greater(labels, 0.0)).to_numpy())) if task.kind == "value" else 1.0


def _balanced(target: Target, labels: pa.ChunkedArray) -> ClassWeights:
    """``n / (k n_c)`` of each class c of the k that are seen: its examples count as much as another class's.

    The weights' mean over the training examples is 1, so that a task's loss keeps its size. A class that is not seen
    has the weight 1.
    """
    encoded = target.encode(labels.combine_chunks())
    if target.task.kind == "multiclass":
        counts = np.bincount(encoded.astype(np.intp), minlength=len(target.classes))[None]
    else:
        positives = (encoded.reshape(len(encoded), -1) > 0).sum(axis=0)
        counts = np.column_stack([len(encoded) - positives, positives])
    seen = counts > 0
    weights = np.where(seen, len(encoded) / (seen.sum(axis=1, keepdims=True) * np.maximum(counts, 1)), 1.0)
    return tuple(tuple(row) for row in weights.tolist())


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

"""Labels as numbers: what each task's head is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from segmenter_plugin.errors import ArtifactError, TrainingError
from segmenter_plugin.tasks import TaskConfig

Labels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """One task as a head sees it; part of the artifact.

    Attributes:
        task: The task.
        classes: Of a multiclass task the ladder's steps, of a multilabel task the predicted values; else empty.
        scale: Of a value task the median of the positive training labels (currency); else 1.
    """

    task: TaskConfig
    classes: tuple[str, ...] = ()
    scale: float = 1.0

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
        return {"task": task, "classes": list(self.classes), "scale": self.scale}

    @classmethod
    def from_json(cls, tree: Any) -> Target:
        """What `to_json` gave.

        Raises:
            ArtifactError: The tree is not a target.
        """
        try:
            return cls(TaskConfig.model_validate(tree["task"]), tuple(tree["classes"]), float(tree["scale"]))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise ArtifactError(f"the artifact's tasks cannot be read: {error}.") from error


def fit_target(task: TaskConfig, training: pa.ChunkedArray) -> Target:
    """Learn what a target needs from the training users' labels, and refuse labels that teach nothing.

    Args:
        task: The task.
        training: Labels of training users, all cutoffs together; null where censored.

    Raises:
        TrainingError: All labels are censored, or all are of one class.
    """
    labels = training.drop_null()
    if not len(labels):
        raise TrainingError(
            f"all {len(training)} training labels of {task.window_name} are censored.",
            hint=f"take training cutoffs that have {task.gap_days + task.prediction_days} days of events after them.",
        )
    if task.kind == "multilabel":
        counts = _value_counts(labels.combine_chunks().flatten())
        classes = tuple(sorted(counts, key=lambda value: (-counts[value], value))[: task.top_count])
        if not classes:
            raise _one_class(task, len(labels), "[]")
        return Target(task, classes)
    seen = pc.unique(pc.greater(labels, 0.0) if task.kind == "value" else labels)
    if len(seen) < 2:
        raise _one_class(
            task, len(labels), "no money" if task.kind == "value" and not seen[0].as_py() else str(seen[0])
        )
    if task.kind == "value":
        positive = labels.filter(pc.greater(labels, 0.0)).to_numpy()
        return Target(task, scale=float(np.median(positive)))
    return Target(task, task.classes if task.kind == "multiclass" else ())


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

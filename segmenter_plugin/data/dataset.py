"""Training examples, (user, cutoff) pairs, read from partitions of behaviour and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.features import Features, FeaturesFit
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.data.targets import Labels, Target, TargetSettings, fit_target
from segmenter_plugin.errors import SchemaError, TrainingError
from segmenter_plugin.tasks import TaskConfig


@dataclass(frozen=True)
class Source:
    """Where one training cutoff's tables lie."""

    cutoff: datetime
    behaviour: Path
    labels: Path


@dataclass(frozen=True)
class Split:
    """How users are divided into training and validation."""

    share: float
    seed: int


@dataclass(frozen=True)
class Examples:
    """N examples in memory, as numbers.

    Attributes:
        sequences: What the encoder reads.
        labels: By label column, (N,) or (N, K), NaN where censored; empty for pretraining.
    """

    sequences: RaggedSequences
    labels: dict[str, Labels]

    def __len__(self) -> int:
        return len(self.sequences)


def learn_features(
    sources: Sequence[Source], fit: FeaturesFit, split: Split, *, min_count: int, max_vocabulary: int, length: int
) -> Features:
    """Learn vocabulary and scalers from the training users of all cutoffs; each event counts once.

    Raises:
        TrainingError: There is no behaviour.
    """
    previous: datetime | None = None
    count = 0
    for source in sorted(sources, key=lambda source: source.cutoff):
        for batch in read_batches(source.behaviour):
            training = _training_side(batch, split)
            count += training.num_rows
            fit.add(training, previous)
        previous = source.cutoff
    if not count:
        raise TrainingError(
            "the training cutoffs hold no behaviour.", hint="check [training] cutoffs against the events."
        )
    return fit.features(min_count, max_vocabulary, length)


def learn_targets(
    sources: Sequence[Source], tasks: Sequence[TaskConfig], split: Split, settings: TargetSettings | None = None
) -> tuple[Target, ...]:
    """Learn what each head needs from the training users' labels.

    Args:
        sources: The training cutoffs.
        tasks: What is to be predicted.
        split: Which users are for validation.
        settings: How labels count; by default all the same.

    Raises:
        TrainingError: Labels that teach nothing (see `fit_target`).
        SchemaError: A label column is missing.
    """
    columns = [Columns.user_id, *(task.label_column for task in tasks)]
    batches = [_training_side(batch, split) for source in sources for batch in read_batches(source.labels, columns)]
    if not batches:
        raise TrainingError("the training cutoffs hold no labels.", hint="check [training] cutoffs against the events.")
    table = pa.Table.from_batches(batches)
    settings = settings or TargetSettings()
    return tuple(fit_target(task, table.column(task.label_column), settings) for task in tasks)


def load_examples(
    sources: Sequence[Source], features: Features, targets: Sequence[Target], split: Split
) -> tuple[Examples, Examples]:
    """Read and encode all examples.

    Args:
        sources: The training cutoffs.
        features: How behaviour becomes numbers.
        targets: How labels become numbers; none for pretraining.
        split: Which users are for validation.

    Returns:
        Training examples and validation examples.

    Raises:
        TrainingError: One of the two sides is empty.
        SchemaError: A table lacks a column, or a behaviour row has no row of labels.
    """
    sides: tuple[list[Examples], list[Examples]] = ([], [])
    for source in sources:
        labels = _LabelTable(source.labels, targets) if targets else None
        for batch in read_batches(source.behaviour, features.columns):
            validation = validation_users(batch.column(Columns.user_id), split.share, split.seed)
            for side, chosen in zip(sides, (~validation, validation), strict=True):
                part = batch.filter(pa.array(chosen))
                encoded = {} if labels is None else labels.of(part.column(Columns.user_id))
                side.append(Examples(features.encode(part), encoded))
    training, validating = (_concatenate(parts) for parts in sides)
    for what, examples in (("training", training), ("validation", validating)):
        if not len(examples):
            raise TrainingError(
                f"there are no {what} users among {len(training) + len(validating)} examples "
                f"(validation_share = {split.share}).",
                hint="set [training] validation_share between 0.05 and 0.5, or give more users.",
            )
    return training, validating


def uncensored_windows(sources: Sequence[Source], targets: Sequence[Target]) -> list[tuple[datetime, Target]]:
    """The (cutoff, target) pairs that hold at least one label."""
    pairs = []
    for source in sources:
        columns = [target.task.label_column for target in targets]
        counts = dict.fromkeys(columns, 0)
        for batch in read_batches(source.labels, columns):
            for name in columns:
                counts[name] += batch.num_rows - batch.column(name).null_count
        pairs += [(source.cutoff, target) for target in targets if counts[target.task.label_column]]
    return pairs


class _LabelTable:
    """One cutoff's labels, looked up by user."""

    def __init__(self, folder: Path, targets: Sequence[Target]) -> None:
        columns = [Columns.user_id, *(target.task.label_column for target in targets)]
        self._folder = folder
        batches = list(read_batches(folder, columns))
        self._table = pa.Table.from_batches(batches).combine_chunks() if batches else None
        self._targets = targets

    def of(self, user_ids: pa.Array) -> dict[str, Labels]:
        if self._table is None:
            raise SchemaError(f"{str(self._folder)!r} holds no labels.", hint="run `segmenter build` again.")
        known = self._table.column(Columns.user_id).combine_chunks()
        places = pc.index_in(user_ids, value_set=known)
        if places.null_count:
            lost = user_ids.filter(pc.is_null(places))[0].as_py()
            raise SchemaError(
                f"{str(self._folder)!r} has no row for {places.null_count} users of behaviour, for example {lost!r}.",
                hint="build both again with `segmenter build`.",
            )
        rows = self._table.take(places)
        return {
            target.task.label_column: target.encode(rows.column(target.task.label_column).combine_chunks())
            for target in self._targets
        }


def _training_side(batch: pa.RecordBatch, split: Split) -> pa.RecordBatch:
    validation: npt.NDArray[np.bool_] = validation_users(batch.column(Columns.user_id), split.share, split.seed)
    return batch.filter(pa.array(~validation))


def _concatenate(parts: list[Examples]) -> Examples:
    if not parts:
        raise TrainingError(
            "the training cutoffs hold no behaviour.", hint="check [training] cutoffs against the events."
        )
    labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in parts[0].labels}
    return Examples(RaggedSequences.concatenate([part.sequences for part in parts]), labels)

"""The (user, cutoff) rows that methods are fitted on and judged by, the same for all methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quality_bench.variants import fold_of
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import Source, Split, learn_targets
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import LeakageError
from segmenter_plugin.quality.features import FloatArray, activity_matrix, activity_names
from segmenter_plugin.quality.intervals import user_codes
from segmenter_plugin.quality.training_rows import TrainingRows
from segmenter_plugin.quality.truth import label_array
from segmenter_plugin.stages.layout import Layout


@dataclass(frozen=True)
class Rows:
    """Rows of several cutoffs, one cutoff after the other, in the order of the behaviour tables.

    Attributes:
        users: (N,) ids.
        cutoffs: (N,) which of the cutoffs a row is of.
        activity: (N, C) aggregates, NaN for null.
        labels: The label columns.
    """

    users: pa.Array
    cutoffs: NDArray[np.intp]
    activity: FloatArray
    labels: pa.Table

    def __len__(self) -> int:
        return len(self.activity)

    @property
    def codes(self) -> NDArray[np.intp]:
        """A number for each user."""
        return user_codes(self.users)

    @property
    def folds(self) -> NDArray[np.intp]:
        """The fold of each row's user."""
        return fold_of(self.users)


def read_rows(config: Config, cutoffs: Sequence[datetime]) -> Rows:
    """Aggregates and labels of cutoffs that have been built."""
    layout = Layout.of(config)
    tables, labels = [], []
    for cutoff in cutoffs:
        columns = [Columns.user_id, *activity_names(config)]
        table = pa.Table.from_batches(list(read_batches(layout.behaviour(cutoff), columns)))
        found = pa.Table.from_batches(
            list(read_batches(layout.labels(cutoff), [Columns.user_id, *(task.label_column for task in config.tasks)]))
        )
        places = pc.index_in(
            table.column(Columns.user_id), value_set=found.column(Columns.user_id).combine_chunks()
        ).combine_chunks()
        tables.append(table)
        labels.append(found.take(places))
    joined = pa.concat_tables(tables)
    return Rows(
        joined.column(Columns.user_id).combine_chunks(),
        np.repeat(np.arange(len(tables)), [table.num_rows for table in tables]),
        activity_matrix(joined, config)[0],
        pa.concat_tables(labels),
    )


def targets_of(config: Config) -> tuple[Target, ...]:
    """What is predicted; classes are learnt from the training users of the configuration's seed."""
    layout = Layout.of(config)
    sources = [Source(cutoff, layout.behaviour(cutoff), layout.labels(cutoff)) for cutoff in config.training_cutoffs]
    return learn_targets(sources, config.tasks, Split(config.training.validation_share, config.training.seed))


def known(rows: Rows, target: Target) -> NDArray[np.bool_]:
    """Rows whose label is not censored."""
    return np.asarray(pc.is_valid(rows.labels.column(target.task.label_column)), dtype=bool)


def truth(rows: Rows, target: Target) -> NDArray[Any]:
    """Labels of the rows that `known` names."""
    return label_array(rows.labels.column(target.task.label_column).drop_null(), target)


def training_rows(config: Config, rows: Rows, target: Target) -> TrainingRows:
    """What a baseline is fitted on: the same rows and validation users as the encoder."""
    valid = known(rows, target)
    kept_out = validation_users(rows.users, config.training.validation_share, config.training.seed)
    return TrainingRows(
        activity=rows.activity[valid],
        names=activity_names(config),
        labels=truth(rows, target),
        validation=kept_out[valid],
        class_count=max(1, len(target.classes)),
    )


def refuse_leaks(config: Config, scoring_cutoffs: Sequence[datetime], trained_through: datetime | None = None) -> None:
    """Refuse to judge what has seen the judged time.

    Raises:
        LeakageError: A training label's window, or the weights, reach beyond the first scoring cutoff.
    """
    first = min(scoring_cutoffs)
    ends = [config.labels_end(cutoff) for cutoff in config.training_cutoffs]
    latest = max([*ends, *([] if trained_through is None else [trained_through])])
    if latest > first:
        raise LeakageError(
            f"something has seen events to {latest.isoformat()}, after the scoring cutoff {first.isoformat()}.",
            hint="take earlier training cutoffs, or score later.",
        )

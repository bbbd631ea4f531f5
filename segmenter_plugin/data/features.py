"""From a behaviour table to numbers: what is learnt from the training data, and its vectorised application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.scaling import Scaler, ScalerFit
from segmenter_plugin.data.vocabulary import ValueCounts, Vocabulary
from segmenter_plugin.errors import ArtifactError, ConfigError, SchemaError

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
#: 1970-01-01 was a Thursday, and Monday is 0.
_EPOCH_WEEKDAY = 3

TIME_SEQUENCE = Columns.sequence(Columns.event_timestamp)


@dataclass(frozen=True)
class Features:
    """Everything that turns a behaviour row into numbers; part of the artifact.

    Attributes:
        vocabulary: Of the categorical event columns.
        numbers: Scaler of the numeric event columns.
        context: Scaler of the aggregates.
        length: At most this many of a user's events are read, the last ones.
    """

    vocabulary: Vocabulary
    numbers: Scaler
    context: Scaler
    length: int

    @property
    def columns(self) -> list[str]:
        """Columns of a behaviour table that are read."""
        lists = [Columns.sequence(name) for name in (*self.vocabulary.columns, *self.numbers.names)]
        return [Columns.user_id, Columns.event_timestamp, TIME_SEQUENCE, *lists, *self.context.names]

    def encode(self, batch: pa.RecordBatch) -> RaggedSequences:
        """Numbers of a batch of behaviour rows, in its order.

        Raises:
            SchemaError: A column is missing or of another type, or sequence columns differ in length.
        """
        require_columns(batch, self.columns)
        lengths = _lengths(batch, TIME_SEQUENCE)
        kept = _last(lengths, self.length)
        short = np.minimum(lengths, self.length)
        times = _flat(batch, TIME_SEQUENCE, lengths).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        stamps = times.to_numpy(zero_copy_only=False)[kept]
        cutoffs = batch.column(Columns.event_timestamp).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        ends = np.repeat(cutoffs.to_numpy(zero_copy_only=False), short)
        numeric = np.empty((len(stamps), self.numbers.width), dtype=np.float32)
        if self.numbers.names:
            numeric = self.numbers.transform(_numbers(batch, self.numbers.names, lengths)[kept])
        return RaggedSequences(
            lengths=short,
            categorical={
                name: self.vocabulary.encode(name, _flat(batch, Columns.sequence(name), lengths))[kept]
                for name in self.vocabulary.columns
            },
            numeric=numeric,
            gaps=_gaps(stamps, short),
            ages=((ends - stamps) / _DAY_US).astype(np.float32),
            hours=(stamps % _DAY_US // _HOUR_US).astype(np.int8),
            weekdays=((stamps // _DAY_US + _EPOCH_WEEKDAY) % 7).astype(np.int8),
            context=self.context.transform(_aggregates(batch, self.context.names)),
        )

    def to_json(self) -> dict[str, Any]:
        """All but the vocabulary, which has a file of its own."""
        return {"numbers": self.numbers.to_json(), "context": self.context.to_json(), "length": self.length}

    @classmethod
    def from_json(cls, tree: Any, vocabulary: Vocabulary) -> Features:
        """What `to_json` gave.

        Raises:
            ArtifactError: The tree does not describe features.
        """
        if not isinstance(tree, dict) or not isinstance(tree.get("length"), int):
            raise ArtifactError("the features do not say how long a sequence is.")
        numbers, context = (Scaler.from_json(tree.get(key)) for key in ("numbers", "context"))
        return cls(vocabulary, numbers, context, tree["length"])


class FeaturesFit:
    """Learns `Features` from the training users' behaviour, batch by batch.

    Args:
        categorical: Categorical event columns.
        numeric: Numeric event columns.
        aggregates: Columns of aggregates.
        hashed: Buckets of those categorical columns that have no vocabulary.

    Raises:
        ConfigError: `hashed` names a column that is not categorical.
    """

    def __init__(
        self,
        categorical: tuple[str, ...],
        numeric: tuple[str, ...],
        aggregates: tuple[str, ...],
        hashed: Mapping[str, int] | None = None,
    ) -> None:
        self._hashed = dict(hashed or {})
        unknown = sorted(set(self._hashed) - set(categorical))
        if unknown:
            raise ConfigError(
                f"encoder.hashed_columns names {unknown}; it may name {sorted(categorical)}.",
                hint="give our names of the columns, as [events.columns] has them on the left.",
            )
        counted = tuple(name for name in categorical if name not in self._hashed)
        self._columns = (counted, numeric, aggregates)
        self._counts = ValueCounts(counted)
        self._numbers = ScalerFit(numeric)
        self._context = ScalerFit(aggregates)

    def add(self, batch: pa.RecordBatch, since: datetime | None = None) -> None:
        """Take in a batch of behaviour rows.

        Args:
            batch: Rows of training users.
            since: The previous training cutoff: events before it were counted there, so that each counts once.

        Raises:
            SchemaError: A column is missing or of another type.
        """
        categorical, numeric, aggregates = self._columns
        lists = [Columns.sequence(name) for name in (*categorical, *numeric)]
        require_columns(batch, [TIME_SEQUENCE, *lists, *aggregates])
        lengths = _lengths(batch, TIME_SEQUENCE)
        times = _flat(batch, TIME_SEQUENCE, lengths)
        new = None if since is None else pc.greater_equal(times, pa.scalar(since, times.type))
        for name in categorical:
            values = _flat(batch, Columns.sequence(name), lengths)
            self._counts.add(name, values if new is None else values.filter(new))
        if numeric:
            numbers = _numbers(batch, numeric, lengths)
            self._numbers.add(numbers if new is None else numbers[new.to_numpy(zero_copy_only=False)])
        self._context.add(_aggregates(batch, aggregates))

    def features(self, min_count: int, max_vocabulary: int, length: int) -> Features:
        """The features of what was taken in."""
        vocabulary = self._counts.vocabulary(min_count, max_vocabulary, self._hashed)
        return Features(vocabulary, self._numbers.scaler(), self._context.scaler(), length)


def require_columns(batch: pa.RecordBatch, names: list[str]) -> None:
    """Check that columns are there.

    Raises:
        SchemaError: One is not.
    """
    missing = sorted(set(names) - set(batch.schema.names))
    if missing:
        raise SchemaError(
            f"the behaviour table lacks the columns {missing}; it has {batch.schema.names}.",
            hint="it was built with another configuration than the model: build it again, or train again.",
        )


def _lengths(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    try:
        lengths = pc.fill_null(pc.list_value_length(batch.column(name)), 0)
    except pa.ArrowNotImplementedError as error:
        raise SchemaError(f"{name!r} has the type {batch.column(name).type}; a list is expected.") from error
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def _flat(batch: pa.RecordBatch, name: str, lengths: npt.NDArray[np.int64]) -> pa.Array:
    if not np.array_equal(_lengths(batch, name), lengths):
        raise SchemaError(
            f"{name!r} and {TIME_SEQUENCE!r} differ in length within a row; sequence columns must be parallel.",
            hint="build the behaviour table again with `segmenter build`.",
        )
    return batch.column(name).flatten()


def _numbers(batch: pa.RecordBatch, names: tuple[str, ...], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.stack([_floats(_flat(batch, Columns.sequence(name), lengths), name) for name in names], axis=1)


def _aggregates(batch: pa.RecordBatch, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    if not names:
        return np.empty((batch.num_rows, 0))
    return np.stack([_floats(batch.column(name), name) for name in names], axis=1)


def _floats(array: pa.Array, name: str) -> npt.NDArray[np.float64]:
    try:
        return pc.fill_null(array.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaError(f"{name!r} has the type {array.type}; numbers are expected.") from error


def _last(lengths: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.bool_]:
    """Which events of the flat arrays are among their user's last `length`."""
    ends = np.cumsum(lengths)
    return np.repeat(ends, lengths) - np.arange(int(lengths.sum())) <= length


def _gaps(stamps: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    gaps = np.diff(stamps, prepend=stamps[:1]) / _DAY_US
    starts = np.cumsum(lengths) - lengths
    gaps[starts[lengths > 0]] = 0.0
    return gaps.astype(np.float32)

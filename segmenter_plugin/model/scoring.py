"""Embeddings and scores of a stream of behaviour batches, its steps overlapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.features import Features
from segmenter_plugin.data.partition import BATCH_ROWS
from segmenter_plugin.data.read_ahead import read_ahead
from segmenter_plugin.errors import TrainingError
from segmenter_plugin.model.buckets import Ints
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.heads import TaskHeads
from segmenter_plugin.model.inference import Inference, evaluating, inference_of
from segmenter_plugin.schemas import TIMESTAMP, scores_schema_of, user_type_of

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder

#: Users among whom those of like length are looked for: 2,048 leave a fifth of padding, these a twentieth.
_WINDOW_ROWS = 16_384
#: Events at which a window ends early: about 50 MB of numbers, whatever the lengths.
_WINDOW_EVENTS = 1 << 20
#: Batches of users that wait for the network.
_DEPTH = 2

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Inferred:
    """What the model says of N users: `embedding` (N, D), and by score column (N,) or (N, K)."""

    embedding: Floats
    scores: dict[str, Floats]


def infer(encoder: SequenceEncoder, heads: TaskHeads | None, sequences: RaggedSequences) -> Inferred:
    """Embed and score users, without dropout or gradients, bucketed by length; rows keep their order.

    An embedding does not depend on the other users of the batch (to 1e-5).

    Args:
        encoder: Where it lies (CPU or GPU) the work is done.
        heads: None for embeddings alone.
        sequences: The users.
    """
    way, found = inference_of(encoder), _Found(encoder.settings.embedding_size)
    with evaluating(encoder, heads):
        for rows in way.batches(sequences.lengths):
            found.add(rows, *_outputs(way, heads, way.prepare(sequences, rows)))
        return found.in_order()


def score_batches(model: UserEncoder, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Score a stream of behaviour batches.

    A thread reads, encodes and pads what comes next, while the network computes; memory is bounded by a few windows of
    at most 16,384 users or 2**20 events.

    Args:
        model: A fine-tuned artifact.
        batches: Under the behaviour schema; further columns are ignored. Taken in another thread.

    Yields:
        Batches of at most `BATCH_ROWS` rows under `schemas.scores_schema`, rows in the order that they came.

    Raises:
        SchemaError: A batch lacks a column.
        TrainingError: The model gives something other than finite numbers.
    """
    way = inference_of(model.encoder)
    found = _Found(model.encoder.settings.embedding_size)
    with read_ahead(_steps(way, model.features, batches), _DEPTH) as steps:
        for step in steps:
            with evaluating(model.encoder, model.heads):
                found.add(step.rows, *_outputs(way, model.heads, step.prepared))
                inferred = None if step.completes is None else found.in_order()
            if inferred is not None and step.completes is not None:
                found = _Found(model.encoder.settings.embedding_size)
                yield from _to_arrow(model, step.completes, inferred)


@dataclass(frozen=True)
class _Step:
    """Users that go through together; the last step of a window has the window's keys."""

    rows: Ints
    prepared: Any
    completes: pa.RecordBatch | None


def _steps(way: Inference, features: Features, batches: Iterable[pa.RecordBatch]) -> Iterator[_Step]:
    for keys, sequences in _windows(features, batches):
        chosen = list(way.batches(sequences.lengths))
        for number, rows in enumerate(chosen, start=1):
            yield _Step(rows, way.prepare(sequences, rows), keys if number == len(chosen) else None)


def _windows(features: Features, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, RaggedSequences]]:
    """Encoded users, many together, beside their ids and cutoffs."""
    keys: list[pa.RecordBatch] = []
    parts: list[RaggedSequences] = []
    rows = events = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            parts.append(features.encode(part))
            keys.append(part.select([Columns.user_id, Columns.event_timestamp]))
            rows, events = rows + part.num_rows, events + int(parts[-1].lengths.sum())
            if rows >= _WINDOW_ROWS or events >= _WINDOW_EVENTS:
                yield _joined(keys), RaggedSequences.concatenate(parts)
                keys, parts, rows, events = [], [], 0, 0
    if parts:
        yield _joined(keys), RaggedSequences.concatenate(parts)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _outputs(way: Inference, heads: TaskHeads | None, prepared: Any) -> tuple[Tensor, dict[str, Tensor]]:
    embedding = way.embed(prepared).float()
    return embedding, {} if heads is None else heads.scores(embedding)


class _Found:
    """Outputs of a window's users, left where they were computed until all are there: a copy waits for the GPU."""

    def __init__(self, embedding_size: int) -> None:
        self._size = embedding_size
        self._rows: list[Ints] = []
        self._embeddings: list[Tensor] = []
        self._scores: list[dict[str, Tensor]] = []

    def add(self, rows: Ints, embedding: Tensor, scores: dict[str, Tensor]) -> None:
        """Outputs of the users at `rows`."""
        self._rows.append(rows)
        self._embeddings.append(embedding)
        self._scores.append(scores)

    def in_order(self) -> Inferred:
        """All of them, in the order of rows."""
        if not self._rows:
            return Inferred(np.empty((0, self._size), dtype=np.float32), {})
        back = np.argsort(np.concatenate(self._rows))

        def joined(parts: list[Tensor]) -> Floats:
            return torch.cat(parts).float().cpu().numpy()[back]

        names = self._scores[0]
        return Inferred(
            joined(self._embeddings), {name: joined([part[name] for part in self._scores]) for name in names}
        )


def _to_arrow(model: UserEncoder, keys: pa.RecordBatch, inferred: Inferred) -> Iterator[pa.RecordBatch]:
    schema = scores_schema_of([target.task for target in model.targets], user_type_of(keys.schema))
    arrays = {
        Columns.user_id: keys.column(Columns.user_id),
        Columns.event_timestamp: keys.column(Columns.event_timestamp),
        Columns.embedding: _lists(inferred.embedding, Columns.embedding),
        Columns.model_version: pa.repeat(pa.scalar(model.model_version), keys.num_rows),
        Columns.trained_through: pa.repeat(pa.scalar(model.trained_through, TIMESTAMP), keys.num_rows),
    }
    for name, values in inferred.scores.items():
        arrays[name] = _lists(values, name) if values.ndim == 2 else pa.array(_finite(values, name))
    whole = pa.RecordBatch.from_arrays([arrays[field.name].cast(field.type) for field in schema], schema=schema)
    for start in range(0, whole.num_rows, BATCH_ROWS):
        yield whole.slice(start, BATCH_ROWS)


def _lists(values: Floats, name: str) -> pa.ListArray:
    count, width = values.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32) if width else np.zeros(count + 1, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(_finite(values, name).ravel()))


def _finite(values: Floats, name: str) -> Floats:
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise TrainingError(
            f"the model gives {wrong} values of {name!r} that are not finite numbers.",
            hint="train again with a lower [finetune] learning_rate; the events may hold extreme amounts.",
        )
    return values

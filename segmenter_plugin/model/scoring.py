"""Embeddings and scores of a stream of behaviour batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.partition import BATCH_ROWS
from segmenter_plugin.errors import TrainingError
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.heads import TaskHeads
from segmenter_plugin.model.tensors import to_tensors
from segmenter_plugin.schemas import TIMESTAMP, scores_schema_of, user_type_of

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder

#: Positions a forward pass, padding included: 256 users of 128 events.
_POSITIONS = 256 * 128

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
    device = next(encoder.parameters()).device
    modes = [(module, module.training) for module in (encoder, heads) if module is not None]
    for module, _ in modes:
        module.eval()
    rows, parts, embeddings = [], [], []
    with torch.inference_mode():
        for chosen in by_positions(sequences.lengths):
            embedding = encoder(to_tensors(sequences.pad(chosen), device)).embedding
            rows.append(chosen)
            embeddings.append(embedding.float().cpu().numpy())
            scores = {} if heads is None else heads.scores(embedding)
            parts.append({name: values.float().cpu().numpy() for name, values in scores.items()})
    for module, training in modes:
        module.train(training)
    back = np.argsort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)
    if not rows:
        return Inferred(np.empty((0, encoder.settings.embedding_size), dtype=np.float32), {})
    names = parts[0]
    return Inferred(
        np.concatenate(embeddings)[back], {name: np.concatenate([part[name] for part in parts])[back] for name in names}
    )


def score_batches(model: UserEncoder, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Score a stream of behaviour batches; memory is bounded by a batch.

    Args:
        model: A fine-tuned artifact.
        batches: Under the behaviour schema; further columns are ignored.

    Yields:
        Batches under `schemas.scores_schema`, rows in the order that they came.

    Raises:
        SchemaError: A batch lacks a column.
        TrainingError: The model gives something other than finite numbers.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            yield _to_arrow(model, part, infer(model.encoder, model.heads, model.features.encode(part)))


def _to_arrow(model: UserEncoder, batch: pa.RecordBatch, inferred: Inferred) -> pa.RecordBatch:
    schema = scores_schema_of([target.task for target in model.targets], user_type_of(batch.schema))
    arrays = {
        Columns.user_id: batch.column(Columns.user_id),
        Columns.event_timestamp: batch.column(Columns.event_timestamp),
        Columns.embedding: _lists(inferred.embedding, Columns.embedding),
        Columns.model_version: pa.repeat(pa.scalar(model.model_version), batch.num_rows),
        Columns.trained_through: pa.repeat(pa.scalar(model.trained_through, TIMESTAMP), batch.num_rows),
    }
    for name, values in inferred.scores.items():
        arrays[name] = _lists(values, name) if values.ndim == 2 else pa.array(_finite(values, name))
    return pa.RecordBatch.from_arrays([arrays[field.name].cast(field.type) for field in schema], schema=schema)


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


def by_positions(lengths: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of like length, longest first, as many a time as `_POSITIONS` allows."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, _POSITIONS // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count

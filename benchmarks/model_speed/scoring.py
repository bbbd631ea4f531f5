"""Scoring: ours beside a plain loop over the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.partition import BATCH_ROWS
from segmenter_plugin.model.inference import evaluating, inference_of
from segmenter_plugin.model.scoring import score_batches
from segmenter_plugin.model.tensors import to_tensors

PLAIN_BATCH = 64


def ours(model: Any, table: pa.Table) -> int:
    """The whole of our scoring, from Arrow to Arrow; users scored."""
    return sum(batch.num_rows for batch in score_batches(model, table.to_batches(max_chunksize=BATCH_ROWS)))


def plain(model: Any, table: pa.Table) -> int:
    """What one writes first: 64 users at a time as they come, padded to the longest of them; encoded as ours are."""
    count = 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        sequences = model.features.encode(batch)
        for tensors in _plain_batches(sequences):
            embedding, scores = _plain_forward(model, tensors)
            count += len(embedding.cpu().numpy())
            for values in scores.values():
                values.cpu().numpy()
    return count


def ours_forward(model: Any, sequences: RaggedSequences) -> Callable[[], int]:
    """Our network alone, on batches that were made before."""
    way = inference_of(model.encoder)
    prepared = [way.prepare(sequences, rows) for rows in way.batches(sequences.lengths)]

    def run() -> int:
        with evaluating(model.encoder, model.heads):
            for batch in prepared:
                model.heads.scores(way.embed(batch).float())
        return len(sequences)

    return run


def plain_forward(model: Any, sequences: RaggedSequences) -> Callable[[], int]:
    """The loop's network alone, on batches that were made before."""
    prepared = list(_plain_batches(sequences))

    def run() -> int:
        for batch in prepared:
            _plain_forward(model, batch)
        return len(sequences)

    return run


def _plain_batches(sequences: RaggedSequences) -> Iterator[Any]:
    for start in range(0, len(sequences), PLAIN_BATCH):
        yield to_tensors(sequences.pad(np.arange(start, min(start + PLAIN_BATCH, len(sequences)))))


def _plain_forward(model: Any, tensors: Any) -> Any:
    device = next(model.encoder.parameters()).device
    batch = {name: _moved(values, device) for name, values in tensors.items()}
    with evaluating(model.encoder, model.heads):
        embedding = model.encoder(batch).embedding
        return embedding, model.heads.scores(embedding)


def _moved(values: Any, device: torch.device) -> Any:
    return {name: each.to(device) for name, each in values.items()} if isinstance(values, dict) else values.to(device)


def padded_positions(lengths: np.ndarray) -> dict[str, float]:
    """Positions that are computed for each that is real."""
    from segmenter_plugin.model.buckets import by_positions

    real = int((lengths + 1).sum())
    plain = sum(
        len(part) * (int(part.max()) + 1) for part in np.split(lengths, range(PLAIN_BATCH, len(lengths), PLAIN_BATCH))
    )
    ours_ = sum(len(rows) * (int(lengths[rows].max()) + 1) for rows in by_positions(lengths))
    return {"ours": ours_ / real, "plain": plain / real}


def rates(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Users a second by name, one for each round; the works alternate."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            count = work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            found[name].append(count / (time.perf_counter() - started))
    return found


def middle(found: dict[str, list[float]]) -> dict[str, float]:
    """Medians."""
    return {name: round(median(values), 1) for name, values in found.items()}

"""What a training run reads: rows that a collator gathers into the arguments of a model's forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segmenter_plugin.data.dataset import Examples
from segmenter_plugin.model.buckets import by_positions
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.tensors import to_tensors


class TrainingRows(Protocol):
    """N rows to train on."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Positions of each row, (N,): rows of like length are cheap to train together."""

    def collate(self, rows: Sequence[int]) -> dict[str, Any]:
        """The rows as the keyword arguments of a model's forward."""


@dataclass(frozen=True)
class SequenceRows:
    """Whole sequences with their labels."""

    examples: Examples

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Events of each user."""
        return self.examples.sequences.lengths

    def collate(self, rows: Sequence[int]) -> dict[str, Any]:
        """``batch`` and ``labels``."""
        chosen = np.asarray(rows)
        return {
            "batch": to_tensors(self.examples.sequences.pad(chosen)),
            "labels": {name: torch.from_numpy(values[chosen]) for name, values in self.examples.labels.items()},
        }


@dataclass(frozen=True)
class PooledRows:
    """Sequences as a frozen backbone pools them, once for all epochs: (N, 3H) beside the context, (N, C)."""

    pooled: Tensor
    context: Tensor
    labels: dict[str, Tensor]

    @classmethod
    def of(cls, encoder: SequenceEncoder, examples: Examples) -> PooledRows:
        """Pool all examples, without dropout."""
        device = next(encoder.parameters()).device
        pooled = torch.empty(len(examples), 3 * encoder.width)
        encoder.eval()
        with torch.no_grad():
            for rows in by_positions(examples.sequences.lengths):
                pooled[torch.from_numpy(rows)] = encoder.pooled(to_tensors(examples.sequences.pad(rows), device)).cpu()
        labels = {name: torch.from_numpy(values) for name, values in examples.labels.items()}
        return cls(pooled, torch.from_numpy(examples.sequences.context), labels)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """One position each."""
        return np.ones(len(self.pooled), dtype=np.int64)

    def collate(self, rows: Sequence[int]) -> dict[str, Any]:
        """``pooled``, ``context`` and ``labels``."""
        chosen = torch.as_tensor(rows)
        labels = {name: values[chosen] for name, values in self.labels.items()}
        return {"pooled": self.pooled[chosen], "context": self.context[chosen], "labels": labels}

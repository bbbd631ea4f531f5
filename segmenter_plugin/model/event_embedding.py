"""One event as a vector: what it was, how much, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segmenter_plugin.data.vocabulary import PADDING
from segmenter_plugin.model.pieces import PiecewiseLinear
from segmenter_plugin.model.tensors import TensorBatch

#: log(1 + days) of ten years is about 8: brings times near the other inputs' size.
_LOG_DAYS_SCALE = 3.0
#: Between these a time fills a piece: from an hour to two years, each about twice the one before.
_DAYS = (0.0, 1 / 24, 1 / 8, 1 / 2, 1.0, 2.0, 4.0, 7.0, 14.0, 28.0, 56.0, 112.0, 224.0, 448.0, 896.0)
_LOG_DAYS = [math.log1p(days) / _LOG_DAYS_SCALE for days in _DAYS]
_HOURS = 24
_WEEKDAYS = 7


class EventEmbedding(nn.Module):
    """Sum of the embeddings of an event's values, its numbers, and its time.

    Args:
        sizes: Vocabulary size by categorical column.
        numbers: Embeds an event's numbers, (B, T, F) -> (B, T, H); None where events have none.
        hidden_size: H.
    """

    def __init__(self, sizes: Mapping[str, int], numbers: nn.Module | None, hidden_size: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(size, hidden_size, padding_idx=PADDING) for name, size in sizes.items()}
        )
        self.hours = nn.Embedding(_HOURS, hidden_size)
        self.weekdays = nn.Embedding(_WEEKDAYS, hidden_size)
        self.numbers = numbers
        self.time_pieces = PiecewiseLinear([_LOG_DAYS, _LOG_DAYS])
        inputs = 2 + self.time_pieces.pieces
        self.times = nn.Sequential(nn.Linear(inputs, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
        for table in (*(self.table(name) for name in sizes), self.hours.weight, self.weekdays.weight):
            nn.init.normal_(table, std=0.1)

    def table(self, name: str) -> Tensor:
        """Embeddings of one column's values, (vocabulary size, H)."""
        return self.tables.get_parameter(f"{name}.weight")

    def forward(self, batch: TensorBatch, hidden: Tensor | None = None) -> Tensor:
        """Embed every event.

        Args:
            batch: The events.
            hidden: Events whose numbers are not to be seen, (B, T), True where hidden.

        Returns:
            (B, T, H); what stands after a user's last event means nothing.
        """
        times = torch.log1p(torch.stack([batch["gaps"], batch["ages"]], dim=-1).clamp_min(0)) / _LOG_DAYS_SCALE
        embedded: Tensor = self.times(torch.cat([times, self.time_pieces(times)], dim=-1))
        embedded = embedded + self.hours(batch["hours"]) + self.weekdays(batch["weekdays"])
        for name, table in self.tables.items():
            embedded = embedded + table(batch["categorical"][name])
        if self.numbers is not None:
            numbers = self.numbers(batch["numeric"])
            embedded = embedded + (numbers if hidden is None else numbers.masked_fill(hidden[..., None], 0.0))
        return embedded

"""One event as a vector: what it was, how much, and when."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segmenter_plugin.data.vocabulary import PADDING
from segmenter_plugin.model.tensors import TensorBatch

#: log(1 + days) of ten years is about 8: brings times near the other inputs' size.
_LOG_DAYS_SCALE = 3.0
_HOURS = 24
_WEEKDAYS = 7


class EventEmbedding(nn.Module):
    """Sum of the embeddings of an event's values, its numbers, and its time.

    Args:
        sizes: Vocabulary size by categorical column.
        numeric_width: Numbers an event, F.
        hidden_size: H.
    """

    def __init__(self, sizes: Mapping[str, int], numeric_width: int, hidden_size: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(size, hidden_size, padding_idx=PADDING) for name, size in sizes.items()}
        )
        self.hours = nn.Embedding(_HOURS, hidden_size)
        self.weekdays = nn.Embedding(_WEEKDAYS, hidden_size)
        self.numbers = nn.Linear(numeric_width, hidden_size) if numeric_width else None
        self.times = nn.Sequential(nn.Linear(2, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
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
        times = torch.stack([torch.log1p(batch["gaps"].clamp_min(0)), torch.log1p(batch["ages"].clamp_min(0))], dim=-1)
        embedded: Tensor = self.times(times / _LOG_DAYS_SCALE)
        embedded = embedded + self.hours(batch["hours"]) + self.weekdays(batch["weekdays"])
        for name, table in self.tables.items():
            embedded = embedded + table(batch["categorical"][name])
        if self.numbers is not None:
            numbers = self.numbers(batch["numeric"])
            embedded = embedded + (numbers if hidden is None else numbers.masked_fill(hidden[..., None], 0.0))
        return embedded

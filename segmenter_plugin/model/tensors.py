"""A padded batch as torch tensors."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from segmenter_plugin.data.batch import SequenceBatch
from segmenter_plugin.data.vocabulary import MASK


class TensorBatch(TypedDict):
    """`SequenceBatch` as tensors, with the same names, shapes and units."""

    categorical: dict[str, Tensor]
    numeric: Tensor
    gaps: Tensor
    ages: Tensor
    hours: Tensor
    weekdays: Tensor
    mask: Tensor
    context: Tensor


def to_tensors(batch: SequenceBatch, device: torch.device | str = "cpu") -> TensorBatch:
    """The batch on a device; on the CPU the memory is shared."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return TensorBatch(
        categorical={name: tensor(values) for name, values in batch.categorical.items()},
        numeric=tensor(batch.numeric),
        gaps=tensor(batch.gaps),
        ages=tensor(batch.ages),
        hours=tensor(batch.hours),
        weekdays=tensor(batch.weekdays),
        mask=tensor(batch.mask),
        context=tensor(batch.context),
    )


def hide_events(batch: TensorBatch, probability: float) -> tuple[TensorBatch, Tensor]:
    """Hide events drawn at random: all their values become `MASK`; their times stay.

    Args:
        batch: Left as it is.
        probability: Of an event to be hidden.

    Returns:
        The batch with events hidden, and which ones, (B, T): the event embedding leaves out their numbers.
    """
    chance = torch.rand(batch["mask"].shape, device=batch["mask"].device)
    hidden = (chance < probability) & batch["mask"]
    categorical = {name: numbers.masked_fill(hidden, MASK) for name, numbers in batch["categorical"].items()}
    return TensorBatch(**{**batch, "categorical": categorical}), hidden

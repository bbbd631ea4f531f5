"""Parts of users' sequences, as they looked at an earlier moment."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segmenter_plugin.data.vocabulary import PADDING
from segmenter_plugin.model.tensors import TensorBatch


class Slices(NamedTuple):
    """Runs of events, one a row.

    Attributes:
        users: Row of the batch that each run is cut from, (S,).
        starts: First event, (S,).
        lengths: How many events, (S,).
        moments: Days before the user's cutoff at which the run is looked at, (S,): no event of it is later.
    """

    users: Tensor
    starts: Tensor
    lengths: Tensor
    moments: Tensor


def cut(batch: TensorBatch, slices: Slices) -> TensorBatch:
    """The runs of events as a batch of their own, (S, T'), as they looked at their moments.

    Nothing of any other event is left: what lies outside is not masked but gone, ages count from the moment, and the
    first event has no gap. The aggregates, which describe the cutoff, are gone too (zeros): use
    `SequenceEncoder.pooled_alone`.
    """
    width = max(1, int(slices.lengths.max())) if len(slices.lengths) else 1
    place = torch.arange(width, device=slices.lengths.device)
    mask = place < slices.lengths[:, None]
    source = (slices.starts[:, None] + place).clamp_max(batch["mask"].shape[1] - 1)
    users = slices.users[:, None]

    def gather(values: Tensor, fill: int = 0) -> Tensor:
        taken = values[users, source]
        outside = ~mask if taken.ndim == 2 else ~mask[..., None]
        return taken.masked_fill(outside, fill)

    ages = gather(batch["ages"]) - slices.moments[:, None]
    gaps = gather(batch["gaps"]).masked_fill(place == 0, 0.0)
    return TensorBatch(
        categorical={name: gather(values, PADDING) for name, values in batch["categorical"].items()},
        numeric=gather(batch["numeric"]),
        gaps=gaps,
        ages=ages.clamp_min(0.0).masked_fill(~mask, 0.0),
        hours=gather(batch["hours"]),
        weekdays=gather(batch["weekdays"]),
        mask=mask,
        context=torch.zeros_like(batch["context"][slices.users]),
    )

"""What a training step changes about its users' events, drawn anew each time.

A user whose events never look the same twice is hard to learn by heart. The aggregates stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segmenter_plugin.model.slices import Slices, cut
from segmenter_plugin.model.tensors import TensorBatch, hide_events

_HOURS_A_DAY = 24
_DAYS_A_WEEK = 7


@dataclass(frozen=True)
class Augmentation:
    """Crop, then jitter, then event dropout; what is 0 draws no random numbers.

    Attributes:
        event_dropout: Share of events that are hidden, their times excepted.
        crop_probability: Share of users whose oldest events are cut off.
        time_jitter_days: Standard deviation that event times are shifted by.
    """

    event_dropout: float = 0.0
    crop_probability: float = 0.0
    time_jitter_days: float = 0.0

    def __call__(self, batch: TensorBatch) -> tuple[TensorBatch, Tensor | None]:
        """The batch as this step sees it, and which of its events' numbers are hidden, (B, T), if any are."""
        if self.crop_probability:
            batch = crop_oldest(batch, self.crop_probability)
        if self.time_jitter_days:
            batch = jitter_times(batch, self.time_jitter_days)
        return hide_events(batch, self.event_dropout) if self.event_dropout else (batch, None)


def crop_oldest(batch: TensorBatch, probability: float) -> TensorBatch:
    """Cut off the oldest events of users drawn at random, at a place drawn evenly: at least the newest event stays.

    A crop of a sequence is one of the views of a user that CoLES learns from (Babaev et al. 2022, section 3.2); here
    the newest events always stay, as the labels follow them.

    Args:
        batch: Left as it is.
        probability: Of a user to be cropped.

    Returns:
        The batch without those events, padded to the longest sequence that is left.
    """
    length = batch["mask"].sum(dim=1)
    chosen, place = torch.rand(2, len(length), device=length.device)
    start = (place * length).long().clamp_max((length - 1).clamp_min(0)) * (chosen < probability)
    users = torch.arange(len(length), device=length.device)
    cropped = cut(batch, Slices(users, start, length - start, torch.zeros_like(batch["ages"][:, 0])))
    return TensorBatch(**{**cropped, "context": batch["context"]})


def jitter_times(batch: TensorBatch, days: float) -> TensorBatch:
    """Shift each event's time by a normal draw; the events keep their order, and none passes the cutoff.

    The shifted ages are sorted, so that event number i has the i-th oldest of them. Gaps, hours and weekdays follow
    the new times; the minute within an hour is not known here, and is taken to be its middle.

    Args:
        batch: Left as it is.
        days: Standard deviation of the shift.

    Returns:
        The batch with other gaps, ages, hours and weekdays.
    """
    mask, ages = batch["mask"], batch["ages"]
    shifted = (ages + days * torch.randn_like(ages)).clamp_min(0.0)
    # Padding sorts behind every event.
    shifted = shifted.masked_fill(~mask, -1.0).sort(dim=1, descending=True).values.masked_fill(~mask, 0.0)
    gaps = torch.zeros_like(ages)
    gaps[:, 1:] = (shifted[:, :-1] - shifted[:, 1:]).masked_fill(~mask[:, 1:], 0.0)
    clock = batch["hours"] + 0.5 + _HOURS_A_DAY * (ages - shifted)
    passed = torch.floor(clock / _HOURS_A_DAY).long()
    hours = torch.floor(clock).long() - _HOURS_A_DAY * passed
    weekdays = (batch["weekdays"] + passed) % _DAYS_A_WEEK
    changed = {
        "ages": shifted,
        "gaps": gaps,
        "hours": torch.where(mask, hours, batch["hours"]),
        "weekdays": torch.where(mask, weekdays, batch["weekdays"]),
    }
    return TensorBatch(**{**batch, **changed})  # type: ignore[typeddict-item]

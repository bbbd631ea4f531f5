"""Pretraining objective: from a user's past as of a drawn moment, all that happens in the days after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.data.vocabulary import SPECIAL_COUNT, UNKNOWN
from segmenter_plugin.learning import PretrainConfig
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.field_decoder import field_decoders
from segmenter_plugin.model.masked_event import number_loss
from segmenter_plugin.model.slices import Slices, cut
from segmenter_plugin.model.tensors import TensorBatch

#: Up to so many values, how often each will come is predicted too: event types, channels, departments.
_COUNTED = 64


class NextDays(nn.Module):
    """Cut each user's sequence at a drawn moment, and predict all events of the K days after it.

    The dense "all action" task of PinnerFormer (Pancha et al. 2022, arXiv 2205.04507, section 3.4): predicting a window
    instead of the next event suits features that are refreshed daily. A moment is drawn evenly between the user's first
    event and K days before the cutoff, so that the window always lies in what is known; users with less history than K
    days count for nothing. What is predicted, each from the same vector: every categorical value of the window (cross
    entropy, each user weighing the same), how many events there are, also of each value of the small columns (Huber on
    log counts), and the mean of each number.

    Only events before the moment are read, with ages counted from it; the aggregates describe the cutoff, which is
    later, so they are hidden. The vector is the pooled sequence (context token, mean, newest), which is what the
    summary and the heads are then trained on; this objective's own layers are thrown away, so that they, and not the
    pooled states, become special to the task (Chen et al. 2020, "SimCLR", arXiv 2002.05709, section 4.2).

    Relatives: `MaskedEvent` sees both sides of what it predicts.

    Args:
        encoder: Whose fields are predicted; it is given again at each call, and is no part of the objective.
        pretrain: Reads `next_days`.
    """

    def __init__(self, encoder: SequenceEncoder, pretrain: PretrainConfig) -> None:
        super().__init__()
        self._days = float(pretrain.next_days)
        width, settings = encoder.width, encoder.settings
        self.trunk = nn.Sequential(nn.LayerNorm(3 * width), nn.Linear(3 * width, width), nn.GELU())
        self.decoders = field_decoders(encoder)
        self._counted = {
            name: settings.sizes[name] for name in self.decoders if settings.sizes[name] <= _COUNTED + SPECIAL_COUNT
        }
        self.counts = nn.Linear(width, 1 + sum(size - SPECIAL_COUNT for size in self._counted.values()))
        numbers = settings.numeric_width // 2
        self.numbers = nn.Linear(width, numbers) if numbers else None

    def forward(self, encoder: SequenceEncoder, batch: TensorBatch) -> Tensor:
        """The loss at freshly drawn moments, a scalar; exactly 0 where no user has enough history."""
        past = draw_past(batch, self._days)
        if not len(past.users):
            return self.counts.bias.sum() * 0.0
        states = self.trunk(encoder.pooled_alone(cut(batch, past)))
        inside = _window(batch, past, self._days)
        rows, places = inside.nonzero(as_tuple=True)
        users = past.users[rows]
        values = {name: batch["categorical"][name][users, places] for name in self.decoders}
        losses = [self._count_loss(states, rows, values)]
        for name, decoder in self.decoders.items():
            known = values[name] > UNKNOWN
            each = decoder(states, rows[known], values[name][known], encoder.events.table(name))
            losses.append(_mean_by_row(each, rows[known], len(states)))
        if self.numbers is not None:
            target = _mean_numbers(batch["numeric"][users, places], rows, len(states))
            losses.append(number_loss(self.numbers(states), target))
        return torch.stack(losses).mean()

    def _count_loss(self, states: Tensor, rows: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Huber loss of log(1 + how many) events, and events of each value of the small columns."""
        counts = [torch.bincount(rows, minlength=len(states))[:, None]]
        for name, size in self._counted.items():
            cells = torch.bincount(rows * size + values[name], minlength=len(states) * size)
            counts.append(cells.view(len(states), size)[:, SPECIAL_COUNT:])
        target = torch.log1p(torch.cat(counts, dim=1).to(states.dtype))
        return functional.huber_loss(self.counts(states), target)


def draw_past(batch: TensorBatch, days: float) -> Slices:
    """For each user with more than `days` of history, the events before a moment at least `days` before the cutoff.

    How likely a moment is depends on the oldest event alone. A sequence that `[sequences] length` cut off begins with
    the oldest event that is left.
    """
    oldest = batch["ages"][:, 0].masked_fill(~batch["mask"][:, 0], 0.0)
    users = (oldest > days).nonzero()[:, 0]
    chance = torch.rand(len(users), device=oldest.device)
    moments = days + chance * (oldest[users] - days)
    before = (batch["ages"][users] > moments[:, None]) & batch["mask"][users]
    return Slices(users, torch.zeros_like(users), before.sum(dim=1), moments)


def _window(batch: TensorBatch, past: Slices, days: float) -> Tensor:
    """Which events lie in the `days` from each moment on, (S, T)."""
    ages, moments = batch["ages"][past.users], past.moments[:, None]
    return batch["mask"][past.users] & (ages <= moments) & (ages > moments - days)


def _mean_by_row(losses: Tensor, rows: Tensor, count: int) -> Tensor:
    """Mean over the rows that have any of their mean loss, a scalar."""
    sums = losses.new_zeros(count).index_add(0, rows, losses)
    counts = torch.bincount(rows, minlength=count)
    return (sums / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)


def _mean_numbers(numbers: Tensor, rows: Tensor, count: int) -> Tensor:
    """Mean of each number where there is one, and an indicator where there is none, (count, F)."""
    values, absent = numbers.chunk(2, dim=1)
    present = 1.0 - absent
    sums = values.new_zeros(count, values.shape[1]).index_add(0, rows, values * present)
    counts = torch.zeros_like(sums).index_add(0, rows, present)
    return torch.cat([sums / counts.clamp_min(1), (counts == 0).to(sums.dtype)], dim=1)

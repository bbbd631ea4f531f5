"""Pretraining objective: two slices of one user's sequence lie closer together than slices of two users."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.learning import PretrainConfig
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.slices import Slices, cut
from segmenter_plugin.model.tensors import TensorBatch

_SLICES = 2
#: A slice's share of its user's events is drawn between these.
_SHARES = (0.2, 0.8)
_MARGIN = 0.5
_HARD_NEGATIVES = 5
#: The gradient of a root at 0 is infinite.
_LEAST_SQUARE = 1e-8


class Contrastive(nn.Module):
    """CoLES (Babaev et al. 2022, "Contrastive Learning for Event Sequences", arXiv 2002.08232, sections 3.2 to 3.4).

    Slices are runs of events drawn at random; those of one user are positives, those of the batch's other users
    negatives. On vectors of length 1 the loss is the square of a positive pair's distance, and of how much nearer than
    a margin a negative pair lies (Hadsell et al. 2006), where each slice counts its nearest negatives alone. A slice is
    looked at as of a moment drawn before its user's next event; the aggregates are hidden, since they would give the
    user away. Users with fewer than two events count for nothing.

    The vector is a projection, thrown away later, of the pooled sequence (context token, mean, newest), which is what
    the summary and the heads are then trained on.

    Relatives: alone it forgets recency and amounts, which are not a user's own but a moment's; it is meant to be added
    to `MaskedEvent` or `NextDays` with a small weight.

    Args:
        encoder: That is trained; it is given again at each call, and is no part of the objective.
        pretrain: Nothing of it is read.
    """

    def __init__(self, encoder: SequenceEncoder, pretrain: PretrainConfig) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        width = encoder.width
        self.projection = nn.Sequential(nn.LayerNorm(3 * width), nn.Linear(3 * width, encoder.settings.embedding_size))

    def forward(self, encoder: SequenceEncoder, batch: TensorBatch) -> Tensor:
        """The loss on freshly drawn slices, a scalar; exactly 0 where no user has two events."""
        slices = draw_slices(batch)
        if not len(slices.users):
            return next(self.projection.parameters()).sum() * 0.0
        vectors = functional.normalize(self.projection(encoder.pooled_alone(cut(batch, slices))), dim=-1)
        squares = (2.0 - 2.0 * vectors @ vectors.T).clamp_min(_LEAST_SQUARE)
        same = slices.users[:, None] == slices.users
        others = ~torch.eye(len(vectors), dtype=torch.bool, device=same.device)
        loss = squares[same & others].mean()
        count = min(_HARD_NEGATIVES, int((~same[0]).sum()))
        if count:
            nearest = squares.masked_fill(same, torch.inf).topk(count, dim=1, largest=False).values
            loss = loss + functional.relu(_MARGIN - nearest.sqrt()).square().mean()
        return loss


def draw_slices(batch: TensorBatch) -> Slices:
    """Runs of events drawn at random, as many of each user with at least two."""
    counts = batch["mask"].sum(dim=1)
    users = (counts >= 2).nonzero()[:, 0].repeat_interleave(_SLICES)
    counts = counts[users]
    share, place, wait = torch.rand(3, len(users), device=counts.device)
    low, high = _SHARES
    lengths = (counts * (low + (high - low) * share)).long().clamp_min(1)
    starts = ((counts - lengths + 1) * place).long().minimum(counts - lengths)
    last = starts + lengths - 1
    newest = batch["ages"][users, last]
    following = batch["ages"][users, (last + 1).clamp_max(batch["ages"].shape[1] - 1)]
    following = following.masked_fill(last + 1 >= counts, 0.0)
    return Slices(users, starts, lengths, newest - wait * (newest - following))

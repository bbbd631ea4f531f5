"""What each task's loss counts for when several are trained together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Learnt weights stay within a factor of exp(3) = 20 of their start: the density of money may make a loss negative,
#: and then nothing else would hold its weight.
_MOST = 3.0


class FixedWeights(nn.Module):
    """The weighted sum of the losses.

    Args:
        weights: One a task, >= 0.
    """

    start: Tensor
    shift: Tensor

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(weights, dtype=torch.float32))
        # Here as in `UncertaintyWeights`, so that weights that were learnt can be loaded without being trained on.
        self.register_buffer("shift", torch.zeros(len(weights)))

    def weights(self) -> Tensor:
        """(tasks,)."""
        return self.start * torch.exp(-self.shift.clamp(-_MOST, _MOST))

    def forward(self, losses: Tensor, known: Tensor) -> Tensor:
        """A scalar.

        Args:
            losses: (tasks,).
            known: Whether the batch has labels of a task, (tasks,).
        """
        return (self.weights() * losses * known).sum()


class UncertaintyWeights(FixedWeights):
    """Weights that are learnt: ``sum of exp(-s) L + s / 2`` (Kendall, Gal and Cipolla 2018, arXiv 1705.07115, eq. 10).

    s is the logarithm of a task's noise variance: a task whose loss stays high is taken to be noisy and counts for
    less, and s / 2 keeps all from counting for nothing. s starts where ``exp(-s)`` is the configured weight, and what
    is trained is its `shift` from there. A task of the weight 0 stays at 0. Outside training the configured weights
    count: a loss under weights of its own could not be compared with another's.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__(weights)
        shift = self.shift
        del self.shift
        self.shift = nn.Parameter(shift)

    def forward(self, losses: Tensor, known: Tensor) -> Tensor:
        """A scalar; a task without labels in the batch adds nothing."""
        if not self.training:
            return (self.start * losses * known).sum()
        penalty = self.shift.clamp(-_MOST, _MOST) / 2
        return super().forward(losses, known) + (penalty * known * (self.start > 0)).sum()


WEIGHTINGS: dict[str, type[FixedWeights]] = {"fixed": FixedWeights, "uncertainty": UncertaintyWeights}

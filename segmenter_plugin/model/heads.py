"""From an embedding to what a task asks: logits, money, and the losses that train them.

Heads are registered by a task's kind in `HEADS`. A binary and a value task about purchases in the same window ask one
question twice ("does the user buy?"), so they share one logit and one cross entropy term: the value head of such a pair
is built without a logit of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.columns import PURCHASE
from segmenter_plugin.data.targets import Target

#: exp(sigma^2 / 2) multiplies the expected value: 2 gives 7.4, far out already.
_SIGMA_RANGE = (0.1, 2.0)


class Head(nn.Module, ABC):
    """A task's output layer.

    Args:
        target: The task and what was learnt of its labels.
        embedding_size: D.
        dropout: Before the output layer.
    """

    #: Numbers that the output layer gives; a multi-class head has one a class instead.
    width: ClassVar[int] = 1

    def __init__(self, target: Target, embedding_size: int, dropout: float) -> None:
        super().__init__()
        self.target = target
        outputs = len(target.classes) or self.width
        self.layers = nn.Sequential(
            nn.Linear(embedding_size, embedding_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(embedding_size, outputs),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, outputs)."""
        raw: Tensor = self.layers(embedding)
        return raw

    @abstractmethod
    def loss(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:
        """Mean loss over users whose label is not censored (NaN); 0 where all are.

        Args:
            raw: What `forward` gave.
            label: (B,) or (B, K).
            logit: The shared purchase logit, (B,), where another head trains it.
        """

    @abstractmethod
    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:
        """By score column: (B,), or (B, K) where the column is a list."""


class BinaryHead(Head):
    """Probability that the event happens: binary cross entropy on one logit."""

    def loss(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002 - one signature for all heads
        """Binary cross entropy."""
        return _masked_mean(
            functional.binary_cross_entropy_with_logits(raw[:, 0], label.nan_to_num(), reduction="none"), label
        )

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """The probability."""
        return {self.target.task.score_columns[0]: raw[:, 0].sigmoid()}


class ValueHead(Head):
    """Money as a zero-inflated lognormal (Wang, Liu and Miao 2019, arXiv 1912.07753, section 3.1).

    ``P(y > 0) = p``, and ``log(y / scale)`` is normal with mean mu and deviation sigma where y > 0, so that
    ``E[y] = p * scale * exp(mu + sigma^2 / 2)``. `scale` is the training labels' median, which makes the start sane in
    any currency; sigma is clamped, since one wild sigma would rank a user by its square.
    """

    width: ClassVar[int] = 3

    def loss(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:
        """Binary cross entropy of y > 0 (left to the other head where the logit is shared), plus the lognormal's."""
        positive = (label > 0).to(raw.dtype)
        mu, sigma = self._distribution(raw)
        log_value = torch.log((label / self.target.scale).clamp_min(1e-6).nan_to_num(1.0))
        lognormal = ((log_value - mu) / sigma) ** 2 / 2 + torch.log(sigma)
        total = positive * lognormal
        if logit is None:
            total = total + functional.binary_cross_entropy_with_logits(raw[:, 0], positive, reduction="none")
        return _masked_mean(total, label)

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:
        """Expected money, and the probability of any."""
        mu, sigma = self._distribution(raw)
        probability = (raw[:, 0] if logit is None else logit).sigmoid()
        expected = probability * self.target.scale * torch.exp(mu + sigma**2 / 2)
        columns = self.target.task.score_columns
        return {columns[0]: expected, columns[1]: probability}

    def _distribution(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        low, high = _SIGMA_RANGE
        return raw[:, 1].clamp(-10.0, 10.0), functional.softplus(raw[:, 2]).clamp(low, high)


class MulticlassHead(Head):
    """How far up the ladder: softmax cross entropy."""

    def loss(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002
        """Softmax cross entropy."""
        return _masked_mean(functional.cross_entropy(raw, label.nan_to_num().long(), reduction="none"), label)

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """One probability a class."""
        return {self.target.task.score_columns[0]: raw.softmax(dim=-1)}


class MultilabelHead(Head):
    """Which of K values: a binary cross entropy each."""

    def loss(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002
        """Mean over the values of binary cross entropy."""
        each = functional.binary_cross_entropy_with_logits(raw, label.nan_to_num(), reduction="none")
        return _masked_mean(each.mean(dim=1), label[:, 0])

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """One probability a value."""
        return {self.target.task.score_columns[0]: raw.sigmoid()}


HEADS: dict[str, type[Head]] = {
    "binary": BinaryHead,
    "value": ValueHead,
    "multiclass": MulticlassHead,
    "multilabel": MultilabelHead,
}


class TaskHeads(nn.Module):
    """All tasks' heads on one embedding.

    Args:
        targets: The tasks.
        embedding_size: D.
        dropout: Of the heads.
        weights: Weight of a task's loss by its name; 1 where not named.
    """

    def __init__(
        self, targets: Sequence[Target], embedding_size: int, dropout: float, weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.heads = nn.ModuleDict(
            {target.task.window_name: HEADS[target.task.kind](target, embedding_size, dropout) for target in targets}
        )
        self._weights = dict(weights or {})
        self._logit_of = _shared_logits(self.targets)

    def loss(self, embedding: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the tasks' losses, a scalar.

        Args:
            embedding: (B, D).
            labels: By label column, NaN where censored.
        """
        raw = self._raw(embedding)
        total = embedding.new_zeros(())
        for target in self.targets:
            name = target.task.window_name
            head_loss = self._head(name).loss(raw[name], labels[target.task.label_column], self._logit(raw, name))
            total = total + self._weights.get(target.task.name, 1.0) * head_loss
        return total

    def scores(self, embedding: Tensor) -> dict[str, Tensor]:
        """All score columns, in the tasks' order."""
        raw = self._raw(embedding)
        columns: dict[str, Tensor] = {}
        for name in raw:
            columns |= self._head(name).scores(raw[name], self._logit(raw, name))
        return columns

    def _raw(self, embedding: Tensor) -> dict[str, Tensor]:
        return {name: head(embedding) for name, head in self.heads.items()}

    def _head(self, name: str) -> Head:
        head = self.heads[name]
        if not isinstance(head, Head):
            raise TypeError(name)
        return head

    def _logit(self, raw: Mapping[str, Tensor], name: str) -> Tensor | None:
        shared = self._logit_of.get(name)
        return None if shared is None else raw[shared][:, 0]


def _shared_logits(targets: Sequence[Target]) -> dict[str, str]:
    """Value task -> the binary task of purchases in the same window."""
    binary = {
        (target.task.gap_days, target.task.prediction_days): target.task.window_name
        for target in targets
        if target.task.kind == "binary" and target.task.event_type == PURCHASE
    }
    values = [target.task for target in targets if target.task.kind == "value"]
    pairs = {task.window_name: binary.get((task.gap_days, task.prediction_days)) for task in values}
    return {value: name for value, name in pairs.items() if name is not None}


def _masked_mean(losses: Tensor, label: Tensor) -> Tensor:
    known = torch.isfinite(label)
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp_min(1)

"""Heads whose answers are classes: one yes or no, one of several steps, any of several values, a step with each."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.head import Head


class BinaryHead(Head):
    """Probability that the event happens: binary cross entropy on one logit."""

    @staticmethod
    def width(target: Target) -> int:  # noqa: ARG004 - one signature for all heads
        """One logit."""
        return 1

    def losses(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002
        """Binary cross entropy."""
        return self.binary_losses(raw, label[:, None])[:, 0]

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """The probability."""
        return {self.target.task.score_columns[0]: raw[:, 0].sigmoid()}


class MulticlassHead(Head):
    """How far up the ladder: softmax cross entropy."""

    @staticmethod
    def width(target: Target) -> int:
        """One logit a class."""
        return len(target.classes)

    def losses(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002
        """Softmax cross entropy."""
        places = label.long()
        losses = functional.cross_entropy(raw, places, reduction="none", label_smoothing=self.target.label_smoothing)
        return self.weighted(losses[:, None], places[:, None])[:, 0]

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """One probability a class."""
        return {self.target.task.score_columns[0]: raw.softmax(dim=-1)}


class MultilabelHead(Head):
    """Which of K values: a binary cross entropy each."""

    @staticmethod
    def width(target: Target) -> int:
        """One logit a value."""
        return len(target.classes)

    def losses(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002
        """Mean over the values of binary cross entropy."""
        return self.binary_losses(raw, label).mean(dim=1)

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """One probability a value."""
        return {self.target.task.score_columns[0]: raw.sigmoid()}


class CategoryHead(Head):
    """How far up the ladder with each of C values: a softmax cross entropy each."""

    @staticmethod
    def width(target: Target) -> int:
        """One logit a value and class."""
        return len(target.values) * len(target.classes)

    def losses(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:  # noqa: ARG002
        """Mean over the values of softmax cross entropy."""
        places = label.long()
        logits, smoothing = self._by_value(raw).transpose(1, 2), self.target.label_smoothing
        losses = functional.cross_entropy(logits, places, reduction="none", label_smoothing=smoothing)
        return self.weighted(losses, places).mean(dim=1)

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:  # noqa: ARG002
        """One probability a value and class, (B, C * Q): all classes of the first value, then of the next."""
        return {self.target.task.score_columns[0]: self._by_value(raw).softmax(dim=-1).flatten(1)}

    def _by_value(self, raw: Tensor) -> Tensor:
        """(B, C * Q) -> (B, C, Q)."""
        return raw.reshape(len(raw), len(self.target.values), len(self.target.classes))

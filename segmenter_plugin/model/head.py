"""What every task's head has in common: its layers, and what each example counts for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.data.targets import Target


class Head(nn.Module, ABC):
    """A task's output layer.

    Args:
        target: The task, what was learnt of its labels, and how they count.
        embedding_size: D.
        dropout: Before the output layer.
    """

    class_weights: Tensor | None

    def __init__(self, target: Target, embedding_size: int, dropout: float) -> None:
        super().__init__()
        self.target = target
        self.layers = nn.Sequential(
            nn.Linear(embedding_size, embedding_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(embedding_size, self.width(target)),
        )
        weights = torch.tensor(target.class_weights) if target.class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)

    @staticmethod
    @abstractmethod
    def width(target: Target) -> int:
        """How many numbers the output layer gives."""

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, width), in float32: bf16 is too coarse for money and rare events."""
        raw: Tensor = self.layers(embedding)
        return raw.float()

    @abstractmethod
    def losses(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:
        """Loss of each user, (B,).

        Args:
            raw: What `forward` gave.
            label: (B,) or (B, K); anything finite where it is censored.
            logit: The shared purchase logit, (B,), where another head trains it.
        """

    @abstractmethod
    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:
        """By score column: (B,), or (B, K) where the column is a list."""

    def binary_losses(self, logits: Tensor, positive: Tensor) -> Tensor:
        """Cross entropy of Q yes-or-no questions, (B, Q) each, with smoothed labels and weighted classes."""
        smoothing = self.target.label_smoothing
        soft = positive * (1 - smoothing) + smoothing / 2
        losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
        return self.weighted(losses, positive.long())

    def weighted(self, losses: Tensor, places: Tensor) -> Tensor:
        """Losses of Q questions, each times the weight of its example's class.

        Args:
            losses: (B, Q).
            places: Of the classes, (B, Q).
        """
        if self.class_weights is None:
            return losses
        questions = torch.arange(losses.shape[1], device=losses.device)
        return losses * self.class_weights[questions, places]

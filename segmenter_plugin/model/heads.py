"""From an embedding to what the tasks ask: logits, money, and the loss that trains them all.

Heads are registered by a task's form in `HEADS`, those of money by their loss in `VALUE_LOSSES`. A binary and a value
task about purchases in the same window ask one question twice ("does the user buy?"), so they share one logit and one
cross entropy term: the value head of such a pair leaves both to the binary one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segmenter_plugin.columns import PURCHASE, Columns
from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.class_heads import BinaryHead, CategoryHead, MulticlassHead, MultilabelHead
from segmenter_plugin.model.head import Head
from segmenter_plugin.model.task_weights import WEIGHTINGS
from segmenter_plugin.model.value_heads import VALUE_LOSSES
from segmenter_plugin.model.value_score import value_score

#: Form of task -> its head; a value task's is in `VALUE_LOSSES`.
HEADS: dict[str, type[Head]] = {
    "binary": BinaryHead,
    "multiclass": MulticlassHead,
    "multilabel": MultilabelHead,
    "category": CategoryHead,
}


class TaskHeads(nn.Module):
    """All tasks' heads on one embedding.

    Args:
        targets: The tasks.
        embedding_size: D.
        dropout: Of the heads.
        weights: Weight of a task's loss by its name; 1 where not named.
        weighting: One of `task_weights.WEIGHTINGS`: whether the weights are learnt further.

    Raises:
        ConfigError: A target's kind or loss is not known.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        embedding_size: int,
        dropout: float,
        weights: Mapping[str, float] | None = None,
        *,
        weighting: str = "fixed",
    ) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.heads = nn.ModuleDict(
            {target.task.window_name: head_class(target)(target, embedding_size, dropout) for target in targets}
        )
        named = weights or {}
        self.weighting = WEIGHTINGS[weighting]([named.get(target.task.name, 1.0) for target in targets])
        self._logit_of = _shared_logits(self.targets)

    def loss(self, embedding: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum over the tasks of the mean loss of users with a label, a scalar.

        Args:
            embedding: (B, D).
            labels: By label column, NaN where censored; (B,) or (B, K).
        """
        sums, counts = zip(*self.sums(embedding, labels).values(), strict=True)
        known = torch.stack(counts)
        return self.weighting(torch.stack(sums) / known.clamp_min(1), known > 0)

    def sums(self, embedding: Tensor, labels: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """By task (`window_name`) the sum of its users' losses, unweighted, and the number of users with a label.

        Args:
            embedding: (B, D).
            labels: As in `loss`.
        """
        raw = self._raw(embedding)
        found = {}
        for target in self.targets:
            name, label = target.task.window_name, labels[target.task.label_column]
            known = torch.isfinite(label).reshape(len(label), -1)[:, 0]
            losses = self._head(name).losses(raw[name], label.nan_to_num(), self._logit(raw, name))
            found[name] = torch.where(known, losses, 0.0).sum(), known.sum()
        return found

    def scores(self, embedding: Tensor) -> dict[str, Tensor]:
        """All score columns, in the tasks' order, then `value_score` where a task is binary or value."""
        raw = self._raw(embedding)
        columns: dict[str, Tensor] = {}
        for name in raw:
            columns |= self._head(name).scores(raw[name], self._logit(raw, name))
        rated = value_score(self.targets, columns)
        return columns if rated is None else columns | {Columns.value_score: rated}

    @property
    def task_weights(self) -> dict[str, float]:
        """What each task's loss counts for now, by `window_name`."""
        weights = self.weighting.weights().tolist()
        return {target.task.window_name: weight for target, weight in zip(self.targets, weights, strict=True)}

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


def head_class(target: Target) -> type[Head]:
    """The registered head of a target.

    Raises:
        ConfigError: There is none.
    """
    is_value = target.task.kind == "value"
    name, known = (target.value_loss, VALUE_LOSSES) if is_value else (target.task.form, HEADS)
    if name not in known:
        raise ConfigError(
            f"{'value_loss' if is_value else 'kind'} = {name!r} of the task {target.task.name!r} has no head; "
            f"known are {sorted(known)}.",
            hint="register the head, or upgrade segmenter-plugin.",
        )
    return known[name]


def _shared_logits(targets: Sequence[Target]) -> dict[str, str]:
    """Value task -> the binary task of purchases in the same window."""
    binary = {
        (target.task.gap_days, target.task.prediction_days): target.task.window_name
        for target in targets
        if target.task.kind == "binary" and target.task.event_type == PURCHASE
    }
    values = [
        target.task
        for target in targets
        if target.task.kind == "value" and VALUE_LOSSES[target.value_loss].shares_logit
    ]
    pairs = {task.window_name: binary.get((task.gap_days, task.prediction_days)) for task in values}
    return {value: name for value, name in pairs.items() if name is not None}

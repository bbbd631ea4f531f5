"""A user's scores as one number in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from segmenter_plugin.data.targets import Target


def value_score(targets: Sequence[Target], scores: Mapping[str, Tensor]) -> Tensor | None:
    """Weighted mean of the binary and value tasks' parts, (B,); None where there is no such task.

    A binary task's part is its probability. A value task's part is ``x / (x + scale)``, x being the expected money: 0
    without any, 0.5 at the median spender of the training labels, and never 1, so that no one whale flattens the rest.
    The weights are the targets' `value_weight`; where all are 0, the tasks count the same.

    Args:
        targets: The tasks.
        scores: By score column.
    """
    rated = [target for target in targets if target.task.rates_a_user]
    if not rated:
        return None
    weights = [target.value_weight for target in rated]
    total = sum(weights)
    shares = [weight / total for weight in weights] if total else [1 / len(rated)] * len(rated)
    parts = [_part(target, scores[target.task.score_columns[0]]) for target in rated]
    mean: Tensor = sum(share * part for share, part in zip(shares, parts, strict=True))  # type: ignore[assignment]
    # Rounding may carry a mean of ones past 1.
    return mean.clamp(0.0, 1.0)


def _part(target: Target, score: Tensor) -> Tensor:
    return score if target.task.kind == "binary" else score / (score + target.scale)

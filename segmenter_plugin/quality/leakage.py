"""Columns that tell the label too well: what happened after the cutoff has a way into features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.errors import LeakageError
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.metrics import auroc

#: Alone, no honest aggregate separates buyers from others this well.
SUSPICIOUS_AUROC = 0.97


def telling_columns(
    activity: FloatArray, names: tuple[str, ...], outcome: NDArray[np.bool_], level: float = SUSPICIOUS_AUROC
) -> dict[str, float]:
    """Columns whose values alone rank the outcome at or above an AUROC, in either direction.

    Args:
        activity: (N, C), NaN for null, which ranks below all numbers.
        names: Of the columns.
        outcome: (N,), of a label window.
        level: In (0.5, 1].

    Returns:
        Column -> AUROC, the most telling first.
    """
    found = {}
    for place, name in enumerate(names):
        values = np.nan_to_num(activity[:, place], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        alone = float(auroc(outcome, values))
        if max(alone, 1 - alone) >= level:
            found[name] = max(alone, 1 - alone)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def refuse_telling_columns(activity: FloatArray, names: tuple[str, ...], outcome: NDArray[np.bool_]) -> None:
    """Refuse features among which one gives the label away.

    Raises:
        LeakageError: A column alone reaches `SUSPICIOUS_AUROC`.
    """
    found = telling_columns(activity, names, outcome)
    if found:
        told = ", ".join(f"{name} ({value:.3f})" for name, value in found.items())
        raise LeakageError(
            f"features tell the label alone, by an AUROC of {SUSPICIOUS_AUROC} or more: {told}.",
            hint="look for what they hold from after the cutoff; drop them, or build them as of the cutoff.",
        )

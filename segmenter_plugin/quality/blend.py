"""Several predictions of one task joined by weights that out-of-fold rows decide.

A generalised linear model over the members' predictions on the link's scale: logits of a probability, the logarithm of
money, log-probabilities of classes. Weights are not negative, so a member that adds nothing gets none and cannot turn
a ranking around (Breiman 1996, "Stacked Regressions", section 3). They are drawn towards equal ones, which keeps the
blend calm where rows are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from segmenter_plugin.quality.deviance import LADDERS, link, loss_on_link, money_floor, unlink
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.tasks import Form

#: How strongly weights are drawn to equal ones; in units of a row's mean loss.
_SHRINKAGE = 2e-3


@dataclass(frozen=True)
class Blend:
    """Weights of M members.

    Attributes:
        kind: The task's form.
        weights: (M,), >= 0.
        intercept: On the link's scale; 0 for classes.
        floor: Money below this counts as this much in a logarithm.
    """

    kind: Form
    weights: FloatArray
    intercept: float
    floor: float = 1.0

    def __call__(self, members: Sequence[FloatArray]) -> FloatArray:
        """The joined prediction, in the members' shape.

        Args:
            members: M predictions in the shape that `quality.truth` lists.
        """
        linked = np.stack([link(member, self.kind, self.floor) for member in members])
        return unlink(np.tensordot(self.weights, linked, axes=1) + self.intercept, self.kind)


def fit_blend(members: Sequence[FloatArray], truth: NDArray[Any], kind: Form) -> Blend:
    """Learn weights from predictions of rows that no member was fitted on.

    Args:
        members: M predictions, (N,) or (N, K).
        truth: Labels in the shape that `quality.truth` lists.
        kind: The task's form.
    """
    floor = money_floor(truth, kind)
    linked = np.stack([link(member, kind, floor) for member in members])
    loss = loss_on_link(kind, truth)
    count = len(members)

    def penalised(parameters: FloatArray) -> float:
        weights, intercept = parameters[:count], parameters[count]
        drawn = _SHRINKAGE * float(((weights - 1 / count) ** 2).sum())
        return loss(np.tensordot(weights, linked, axes=1) + intercept) + drawn

    start = np.r_[np.full(count, 1 / count), 0.0]
    # A softmax does not change when all of its inputs rise by the same.
    bounds = [(0.0, 3.0)] * count + [(0.0, 0.0) if kind in LADDERS else (-3.0, 3.0)]
    found = minimize(penalised, start, bounds=bounds, method="L-BFGS-B")
    blend = Blend(kind, found.x[:count], float(found.x[count]), floor)
    if kind != "value":
        return blend
    # The Tweedie loss counts large spenders less, so its fit does not sum up to the money there was.
    missing = float(np.mean(truth)) / float(np.mean(blend(members)))
    return replace(blend, intercept=blend.intercept + float(np.log(missing)))

"""Predictions on the scale where they add up, and the loss that each kind of task is fitted by.

| kind | link | loss |
|---|---|---|
| binary, multilabel | logit | Bernoulli |
| value | logarithm | Tweedie, Jorgensen 1987 |
| multiclass, with a target or without | logarithm | softmax |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.metrics import EPSILON
from segmenter_plugin.tasks import Form

#: Variance of spend grows with mean ** power: between a Poisson number of orders (1) and their gamma size (2).
TWEEDIE_POWER = 1.5
_LARGEST_LOG_MONEY = 30.0
#: Forms of one class out of several, of one ladder or of each of several.
LADDERS = ("multiclass", "category")


def link(values: FloatArray, kind: Form, floor: float) -> FloatArray:
    """A prediction on the link's scale; money below `floor` counts as `floor`."""
    if kind == "value":
        return np.log(np.maximum(values, floor))
    inside = np.clip(np.asarray(values, dtype=np.float64), EPSILON, 1 - EPSILON)
    return np.log(inside) if kind in LADDERS else np.log(inside / (1 - inside))


def unlink(linked: FloatArray, kind: Form) -> FloatArray:
    """What `link` was given, up to its clipping."""
    if kind == "value":
        return np.exp(np.minimum(linked, _LARGEST_LOG_MONEY))
    if kind in LADDERS:
        raised = np.exp(linked - linked.max(axis=-1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-linked)))


def loss_on_link(kind: Form, truth: NDArray[Any]) -> Callable[[FloatArray], float]:
    """Mean loss of a prediction on the link's scale, as a function of it; equal ones are equally good predictions.

    Args:
        kind: The task's form.
        truth: Labels in the shape that `quality.truth` lists.
    """
    if kind == "value":
        scale = float(np.mean(truth)) or 1.0
        money = np.asarray(truth, dtype=np.float64) / scale
        rise = 2 - TWEEDIE_POWER

        def tweedie(linked: FloatArray) -> float:
            level = np.minimum(linked - np.log(scale), _LARGEST_LOG_MONEY)
            return float(np.mean(np.exp(rise * level) / rise + money * np.exp((rise - 1) * level) / (1 - rise)))

        return tweedie
    if kind in LADDERS:
        chosen = truth[..., None]

        def softmax(linked: FloatArray) -> float:
            likelihood = np.take_along_axis(linked, chosen, axis=-1)[..., 0]
            return float(np.mean(np.logaddexp.reduce(linked, axis=-1) - likelihood))

        return softmax
    signs = np.where(truth, -1.0, 1.0)
    return lambda linked: float(np.mean(np.logaddexp(0.0, signs * linked)))


def money_floor(truth: NDArray[Any], kind: Form) -> float:
    """A hundredth of the mean spend of spenders, below which money is nothing; 1 where there is none."""
    spends = np.asarray(truth, dtype=np.float64)
    return 0.01 * float(spends[spends > 0].mean()) if kind == "value" and (spends > 0).any() else 1.0


def deviance(truth: NDArray[Any], predicted: FloatArray, kind: Form) -> float:
    """Mean loss of a prediction; lower is better.

    Args:
        truth: Labels in the shape that `quality.truth` lists.
        predicted: Likewise.
        kind: The task's form.
    """
    return loss_on_link(kind, truth)(link(predicted, kind, money_floor(truth, kind)))

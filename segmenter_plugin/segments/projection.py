"""The space in which users are clustered: behaviour, with what value explains of it taken out.

An encoder that learns value lays most of its variance along it, so clusters of raw embeddings are value tiers once
more. Where tiers hold value already, each coordinate's regression on the value scores and their squares is subtracted,
and what is left says how users of the same worth differ. The embedding and the class scores are each divided by one
number, their total spread, and not coordinate by coordinate: then a rotated embedding gives the same distances, and
encoders of different seeds are rotations of each other more than anything else. Last, the leading principal
components, because distances over many coordinates of noise tell nobody apart. Without tiers value is one more block,
and nothing is taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segmenter_plugin.errors import ArtifactError
from segmenter_plugin.segments.space import FloatArray, UserRows

#: Components are taken until they hold this share of the variance ...
VARIANCE_SHARE = 0.9
#: ... or are so many.
MOST_AXES = 16


@dataclass(frozen=True)
class Projection:
    """From W coordinates and V values to Q.

    Attributes:
        mean: (W,), subtracted.
        scale: (W,), divided by; infinite for a block that does not vary.
        value_mean: (V,), subtracted from values.
        value_scale: (V,), divided by; infinite for a value that does not vary.
        effect: (1 + 2 V, W): what one, each value and its square explain of a coordinate. Zeros without tiers.
        axes: (W, Q), orthonormal columns.
    """

    mean: FloatArray
    scale: FloatArray
    value_mean: FloatArray
    value_scale: FloatArray
    effect: FloatArray
    axes: FloatArray

    def place(self, rows: UserRows) -> FloatArray:
        """Users in the space, (N, Q); the same whatever else is in the batch.

        Raises:
            ArtifactError: The rows are of another width than those that were fitted.
        """
        if rows.behaviour.shape[1] != len(self.mean) or rows.values.shape[1] != len(self.value_mean):
            found, expected = rows.behaviour.shape[1] + rows.values.shape[1], len(self.mean) + len(self.value_mean)
            raise ArtifactError(
                f"the scores have {found} coordinates; the segments were fitted on {expected}.",
                hint="they come from another encoder or other [[tasks]]; remove the segment model and segment again.",
            )
        behaviour = (rows.behaviour - self.mean) / self.scale
        # einsum, not matmul: BLAS sums in an order that depends on the number of rows.
        left = behaviour - np.einsum("nv,vw->nw", _design(rows.values, self.value_mean, self.value_scale), self.effect)
        return np.einsum("nw,wq->nq", left, self.axes)


def fit_projection(rows: UserRows, tiers: int) -> Projection:
    """The space of these users.

    Args:
        rows: Users in an order that does not depend on how they arrived.
        tiers: With one alone nothing is taken out.
    """
    mean, scale = rows.behaviour.mean(axis=0), _block_scale(rows)
    value_mean, value_scale = rows.values.mean(axis=0), _spread(rows.values)
    behaviour = (rows.behaviour - mean) / scale
    design = _design(rows.values, value_mean, value_scale)
    effect = np.zeros((design.shape[1], behaviour.shape[1]))
    if tiers > 1:
        effect = np.linalg.lstsq(design, behaviour, rcond=None)[0]
    return Projection(mean, scale, value_mean, value_scale, effect, _axes(behaviour - design @ effect))


def _design(values: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    standard = (values - mean) / scale
    return np.column_stack([np.ones(len(values)), standard, standard**2])


def _spread(values: FloatArray) -> FloatArray:
    """Deviation of each column; infinite where it does not vary, so that dividing by it gives nothing."""
    spread = values.std(axis=0)
    return np.where(spread > 1e-9 * np.maximum(1.0, np.abs(values.mean(axis=0))), spread, np.inf)


def _block_scale(rows: UserRows) -> FloatArray:
    """The root of a block's total variance; value scores differ in unit, so each is divided by its own share of it."""
    deviations = _spread(rows.behaviour)
    scale, start = np.empty(len(deviations)), 0
    for width in rows.blocks:
        block = deviations[start : start + width]
        total = float(np.sqrt(np.sum(block[np.isfinite(block)] ** 2)))
        # A coordinate that does not vary carries nothing; its rounding noise shall not either.
        scale[start : start + width] = np.where(np.isinf(block), np.inf, total)
        start += width
    scale[start:] = deviations[start:] * np.sqrt(max(len(deviations) - start, 1))
    return scale


def _axes(rows: FloatArray) -> FloatArray:
    """Leading principal components, (W, Q), each with its largest entry positive."""
    variances, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    reached = np.cumsum(variances) / max(float(variances.sum()), np.finfo(float).tiny)
    count = min(int(np.searchsorted(reached, VARIANCE_SHARE)) + 1, MOST_AXES, len(variances))
    axes = vectors[:, :count]
    largest = np.abs(axes).argmax(axis=0)
    return np.ascontiguousarray(axes * np.sign(axes[largest, np.arange(count)]))

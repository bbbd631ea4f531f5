"""ROC and gain curves as one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segmenter_plugin.quality.features import FloatArray

#: Points a curve is drawn with; a million-row curve would only make the file large.
MOST_POINTS = 1000


@dataclass(frozen=True)
class Curve:
    """One panel: what each method's ranking gains.

    Attributes:
        title: Above the panel.
        horizontal: Name of the horizontal share.
        vertical: Name of the vertical share.
        points: By method, (P,) horizontal and (P,) vertical shares, both rising from 0 to 1.
    """

    title: str
    horizontal: str
    vertical: str
    points: Mapping[str, tuple[FloatArray, FloatArray]]


def roc_curve(task: str, truth: NDArray[np.bool_], rankings: Mapping[str, FloatArray]) -> Curve:
    """Share of positives found against share of negatives disturbed, by falling score."""
    points = {name: ranking_curve(score, ~truth, truth) for name, score in rankings.items()}
    return Curve(f"{task}: ROC", "false positive rate", "true positive rate", points)


def roc_points(curve: Curve) -> dict[str, list[list[float]]]:
    """A ROC curve as numbers: by method at most 101 pairs of false and true positive rate."""
    points = {}
    for name, sides in curve.points.items():
        kept = np.unique(np.linspace(0, len(sides[0]) - 1, min(len(sides[0]), 101)).astype(np.intp))
        points[name] = [[round(float(side[place]), 6) for side in sides] for place in kept]
    return points


def gain_curve(task: str, value: NDArray[Any], rankings: Mapping[str, FloatArray], what: str) -> Curve:
    """Share of the value (positives, or money) held by the users that rank highest."""
    everyone = np.ones(len(value))
    points = {name: ranking_curve(score, everyone, value) for name, score in rankings.items()}
    return Curve(f"{task}: gain", "share of users, highest score first", f"share of {what}", points)


def ranking_curve(score: FloatArray, horizontal: NDArray[Any], vertical: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Cumulative shares of two amounts by falling score; equal scores make one straight step."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[score[order][1:] != score[order][:-1], True])
    sides = []
    for amount in (horizontal, vertical):
        summed = np.cumsum(np.asarray(amount, dtype=np.float64)[order])
        sides.append(np.r_[0.0, summed[ends] / (summed[-1] or 1.0)])
    kept = np.unique(np.linspace(0, len(ends), min(len(ends) + 1, MOST_POINTS)).astype(np.intp))
    return sides[0][kept], sides[1][kept]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the panels side by side; the same curves give the same bytes.

    Args:
        curves: At least one.
        path: A PNG file.
    """
    figure = Figure(figsize=(5.2 * len(curves), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, len(curves)))
    for panel, curve in zip(panels, curves, strict=True):
        _draw_panel(panel, curve)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_panel(panel: Axes, curve: Curve) -> None:
    for name, (horizontal, vertical) in curve.points.items():
        panel.plot(horizontal, vertical, label=name, linewidth=1.4)
    panel.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    panel.set(
        title=curve.title, xlabel=curve.horizontal, ylabel=curve.vertical, xlim=(0, 1), ylim=(0, 1), aspect="equal"
    )
    panel.legend(loc="lower right", fontsize="small", frameon=False)

"""Numbers made fit for a network: signed logarithm, standardised, with an indicator where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from segmenter_plugin.data.quantiles import QuantileSketch
from segmenter_plugin.errors import ArtifactError

Floats = npt.NDArray[np.float64]
#: A value further out than this many standard deviations says no more than "very far out".
_LIMIT = 8.0
#: Pieces that a column's values are cut into, of about equal mass.
_PIECES = 16


def signed_log(values: Floats) -> Floats:
    """``sign(x) log(1 + |x|)``: counts, money and ages span decades, and returns make money negative."""
    return np.sign(values) * np.log1p(np.abs(values))


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of log-scaled columns.

    Attributes:
        names: The columns, (C,).
        mean: (C,), of the log-scaled values.
        std: (C,), of the log-scaled values; 1 where a column is constant.
        edges: Of each column's pieces, ascending, as `transform` gives its values; empty where a column is constant.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    edges: tuple[tuple[float, ...], ...]

    @property
    def width(self) -> int:
        """Columns that `transform` gives: a value and an indicator each."""
        return 2 * len(self.names)

    def transform(self, values: Floats) -> npt.NDArray[np.float32]:
        """Standardise.

        Args:
            values: (N, C), NaN where there is no value.

        Returns:
            (N, 2C): the standardised values (0 where there is none), then 1 where there is none and else 0.
        """
        scaled = (signed_log(values) - np.array(self.mean)) / np.array(self.std)
        absent = ~np.isfinite(scaled)
        filled = np.clip(np.where(absent, 0.0, scaled), -_LIMIT, _LIMIT)
        return np.concatenate([filled, absent], axis=1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """As plain lists."""
        edges = [list(column) for column in self.edges]
        return {"names": list(self.names), "mean": list(self.mean), "std": list(self.std), "edges": edges}

    @classmethod
    def from_json(cls, tree: Any) -> Scaler:
        """What `to_json` gave.

        Raises:
            ArtifactError: The tree is not a scaler.
        """
        try:
            names, mean, std = (tuple(tree[key]) for key in ("names", "mean", "std"))
            edges = tuple(tuple(map(float, column)) for column in tree["edges"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("a scaler lacks its names, mean, std or edges.") from error
        if not len(names) == len(mean) == len(std) == len(edges) or any(not value > 0 for value in std):
            raise ArtifactError("a scaler's names, mean, std and edges do not fit together.")
        if any(low >= high for column in edges for low, high in pairwise(column)):
            raise ArtifactError("a scaler's edges do not ascend.")
        return cls(names, tuple(map(float, mean)), tuple(map(float, std)), edges)


class ScalerFit:
    """Learns a `Scaler` batch by batch.

    Mean and variance are merged without cancellation (Chan, Golub and LeVeque 1983).
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._quantiles = [QuantileSketch() for _ in names]
        self._count = np.zeros(len(names))
        self._mean = np.zeros(len(names))
        self._squares = np.zeros(len(names))

    def add(self, values: Floats) -> None:
        """Take in a batch, (N, C), NaN where there is no value."""
        logs = signed_log(values)
        present = np.isfinite(logs)
        count = present.sum(axis=0)
        mean = np.where(present, logs, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(present, (logs - mean) ** 2, 0.0).sum(axis=0)
        total = self._count + count
        delta = mean - self._mean
        weight = count / np.maximum(total, 1)
        self._mean = self._mean + delta * weight
        self._squares = self._squares + squares + delta**2 * self._count * weight
        self._count = total
        for column, sketch in enumerate(self._quantiles):
            sketch.add(values[:, column])

    def scaler(self) -> Scaler:
        """The scaler of what was taken in."""
        std = np.sqrt(self._squares / np.maximum(self._count, 1))
        std = np.where(std > 1e-6, std, 1.0)
        edges = tuple(
            _scaled_edges(sketch.edges(_PIECES), mean, deviation)
            for sketch, mean, deviation in zip(self._quantiles, self._mean, std, strict=True)
        )
        return Scaler(self._names, tuple(self._mean.tolist()), tuple(std.tolist()), edges)


def _scaled_edges(edges: Floats, mean: float, std: float) -> tuple[float, ...]:
    scaled = np.unique(np.clip((signed_log(edges) - mean) / std, -_LIMIT, _LIMIT))
    # Edges that single precision cannot tell apart would make a piece of width 0.
    kept = np.unique(scaled.astype(np.float32)).astype(np.float64)
    return tuple(kept.tolist()) if len(kept) > 1 else ()

"""Cells of the benchmark, set x task x method x seed, each kept as JSON beside its predictions, written whole."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segmenter_plugin.quality.features import FloatArray


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    set: str
    task: str
    method: str
    seed: int

    @property
    def path(self) -> Path:
        """Its JSON file, relative to the folder of cells."""
        return Path(self.set, self.task, f"{self.method}-{self.seed}.json")


@dataclass(frozen=True)
class Found:
    """What a cell holds: predictions on the judged rows, and what is worth telling of how they came about."""

    predictions: FloatArray
    about: dict[str, Any]


class Cells:
    """All cells under a folder.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, cell: Cell, made_from: str) -> Found | None:
        """What is kept; None where there is nothing, or where it was made from something else."""
        path = self._folder / cell.path
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            if tree["made_from"] != made_from:
                return None
            with np.load(path.with_name(tree["predictions"]), allow_pickle=False) as arrays:
                return Found(arrays["predictions"], tree["about"])
        except (FileNotFoundError, KeyError, ValueError):
            return None

    def write(self, cell: Cell, made_from: str, found: Found) -> None:
        """Keep a result; the JSON names the predictions, and comes last."""
        path = self._folder / cell.path
        path.parent.mkdir(parents=True, exist_ok=True)
        predictions = path.with_suffix(".npz")
        aside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        np.savez_compressed(aside, predictions=found.predictions)
        aside.replace(predictions)
        tree = {
            "set": cell.set,
            "task": cell.task,
            "method": cell.method,
            "seed": cell.seed,
            "made_from": made_from,
            "predictions": predictions.name,
            "about": found.about,
        }
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)

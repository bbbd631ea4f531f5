"""The staleness curves as one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_staleness(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """AUROC against the age of the rows, one panel a set and task, one line an objective; the mean over seeds.

    Args:
        rows: Of `studies.staleness`, all seeds.
        path: A PNG file.
    """
    panels = list(dict.fromkeys((row["set"], row["task"]) for row in rows))
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, task) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        chosen = [row for row in rows if (row["set"], row["task"]) == (name, task)]
        for objective in dict.fromkeys(row["objective"] for row in chosen):
            ages = sorted({row["age_days"] for row in chosen})
            means = [
                np.mean([row["auroc"] for row in chosen if (row["objective"], row["age_days"]) == (objective, age)])
                for age in ages
            ]
            axes.plot(ages, means, marker="o", label=objective)
        axes.set(title=f"{name}: {task}", xlabel="age of the rows, days", ylabel="AUROC")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})

"""Segments as one PNG: how many users each has, and how clearly they belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Longer texts would leave no room for the bars.
LONGEST_LABEL = 60


def draw_segments(profiles: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Write the panels side by side; the same profiles give the same bytes.

    Args:
        profiles: One a segment, as `SegmentProfile.as_dict` gives them.
        title: Above the panels.
        path: A PNG file.
    """
    columns = list(dict.fromkeys(name for profile in profiles for name in profile["expected"]))
    panels = {"share of users": [profile["share"] for profile in profiles]}
    panels["median stability"] = [profile["stability"] for profile in profiles]
    panels |= {column: [profile["expected"].get(column, 0.0) for profile in profiles] for column in columns}
    figure = Figure(figsize=(4.5 + 2.3 * len(panels), 1.4 + 0.34 * len(profiles)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    places = np.arange(len(profiles))
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        axis.barh(places, values, color="#4878a8")
        axis.set_title(name, fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
    # Dollar signs would begin a formula.
    labels = [f"{profile['segment_id']}  {profile['name'][:LONGEST_LABEL]}".replace("$", r"\$") for profile in profiles]
    axes[0].set_yticks(places, labels, fontsize="small")
    axes[0].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=110, metadata={"Software": None})

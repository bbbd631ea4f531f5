"""Command `segments`: the segments of a cutoff as a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import read_manifest, require_manifest
from segmenter_plugin.errors import MissingStageError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.segment_identity import FIT, records


def segments(config: Config, cutoff: datetime | None = None) -> dict[str, Any]:
    """Show the segments of a cutoff.

    Args:
        config: The configuration.
        cutoff: A segmented cutoff; the newest where none is given.

    Returns:
        The table under ``tables``, what became of ids under ``changes``, and ``plot``, the path of
        ``reports/segments-<cutoff>.png``.

    Raises:
        MissingStageError: Nothing is segmented, or not that cutoff.
    """
    from segmenter_plugin.segments.plots import draw_segments

    layout = Layout.of(config)
    chosen = cutoff or _newest(layout)
    manifest = require_manifest(layout.segments(chosen), f"segmenter segment --cutoff {chosen.isoformat()}")
    if FIT not in manifest:
        raise MissingStageError(
            f"the segments of {chosen.isoformat()} were made by an earlier version, which kept no history.",
            hint=f"run `segmenter segment --cutoff {chosen.isoformat()}` again.",
        )
    history = [record for record in records(layout) if record["cutoff"] <= chosen.isoformat()]
    title = f"segments as of {chosen.isoformat()}"
    path = layout.root / "reports" / f"segments-{cutoff_key(chosen).partition('=')[2]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw(draw_segments, manifest["profile"], title, path)
    return {
        "stage": "segments",
        "cutoff": chosen.isoformat(),
        "users": manifest["users"],
        "plot": str(path),
        "changes": history,
        "tables": {title: [_row(profile, history) for profile in manifest["profile"]]},
    }


def _draw(draw: Any, profiles: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    aside = path.with_name(f".{path.name}")
    try:
        draw(profiles, title, aside.with_suffix(".new.png"))
        aside.with_suffix(".new.png").replace(path)
    finally:
        aside.with_suffix(".new.png").unlink(missing_ok=True)


def _newest(layout: Layout) -> datetime:
    folder = layout.segment_history.parent
    names = [path for path in folder.iterdir() if read_manifest(path)] if folder.is_dir() else []
    cutoffs = [cutoff for path in names if (cutoff := parse_cutoff_key(path.name)) is not None]
    if not cutoffs:
        raise MissingStageError("no cutoff is segmented yet.", hint="run `segmenter segment --cutoff TIME` first.")
    return max(cutoffs)


def _row(profile: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    segment = profile["segment_id"]
    fits = [record for record in history if segment in record["births"] or str(segment) in record["kept"]]
    born = next((record["cutoff"][:10] for record in fits if segment in record["births"]), None)
    row = {"id": segment, "name": profile["name"], "users": profile["users"], "share": round(profile["share"], 4)}
    expected = {f"mean {column}": round(value, 4) for column, value in profile["expected"].items()}
    told = {"profile": profile["line"], "born": born, "retrains kept": sum(str(segment) in fit["kept"] for fit in fits)}
    return row | {"stability": round(profile["stability"], 2)} | expected | told

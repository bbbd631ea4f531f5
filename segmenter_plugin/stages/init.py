"""`segmenter init`: a configuration, and a Feast repo, for events that nobody has described yet."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from segmenter_plugin.data.inspect import inspect_events, render_config
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.stages.feature_repo import CONFIG_NAME, copy_feature_repo

logger = logging.getLogger(__name__)


def write_config(events: str, out: Path, *, force: bool = False) -> dict[str, Any]:
    """Look at the events and write a commented configuration, and a Feast repo beside it where there is none.

    Args:
        events: Parquet or CSV: a file, folder or glob.
        out: File to write.
        force: Overwrite it where it exists.

    Raises:
        ConfigError: `out` exists.
        EventsError: The events cannot be read, or have no user or no time.
    """
    if out.exists() and not force:
        raise ConfigError(f"{str(out)!r} exists.", hint="give another --out, or --force to overwrite it.")
    guess = inspect_events(events)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Paths in a configuration are taken from its own folder, --events from where the command was called.
    text = render_config(replace(guess, path=os.path.relpath(events, out.parent)))
    aside = out.with_name(f".{out.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(out)
    if out.name == CONFIG_NAME:
        copy_feature_repo(out.parent / "feature_repo")
    doubts = [line.strip() for line in text.splitlines() if "# check:" in line]
    logger.info("wrote %s; %d guesses to check", out, len(doubts))
    return {"config": str(out), "check": doubts}

"""Command `segments`."""

from __future__ import annotations

import click

from segmenter_plugin.commands.options import configured, cutoff_option, load
from segmenter_plugin.console import show


@click.command()
@configured
@cutoff_option(required=False)
def segments(config_path: str, overrides: tuple[str, ...], cutoffs: str | None) -> None:
    """Show the segments of a cutoff (default the newest) as a table, and draw reports/segments-<cutoff>.png."""
    from segmenter_plugin.stages.segments import segments as stage

    config = load(config_path, overrides)
    show(stage(config, None if cutoffs is None else config.time(cutoffs)))

"""The command that audits what is stored."""

from __future__ import annotations

from typing import Literal

import click

from segmenter_plugin.commands.options import configured, load
from segmenter_plugin.console import show


@click.command()
@configured
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=click.Choice(["local", "spark"]),
    help="Who reads: this process, batch by batch, or Spark's workers.",
)
def audit(config_path: str, overrides: tuple[str, ...], engine: Literal["local", "spark"]) -> None:
    """Audit the three clocks on all that is stored; exit code 3 where something has seen what it could not.

    No event at or after the cutoff, no label from before it, trained_through before what is judged, created at or after
    the event time. Behaviour and labels are derived again from the event log and compared.
    """
    from segmenter_plugin.stages.audit import audit as stage
    from segmenter_plugin.stages.audit import require_silence

    result = stage(load(config_path, overrides), engine=engine)
    show(result)
    require_silence(result)

"""Commands that judge published rows before they go online."""

from __future__ import annotations

import click

from segmenter_plugin.commands.options import configured, cutoff_option, load, times
from segmenter_plugin.console import print_table, show

as_of_option = click.option("--as-of", metavar="TIME", help="The present: rows older than [gates] age_days stop.")
accept_option = click.option("--accept", metavar="REASON", help="Let rows through although they are stopped; recorded.")


@click.command()
@configured
@cutoff_option(multiple=True)
@as_of_option
@accept_option
def gate(
    config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...], as_of: str | None, accept: str | None
) -> None:
    """Judge published rows before they go online: exit code 3 where they may not.

    Holds coverage, nulls, age, embeddings, scores, segments and the last known metric against [gates], and writes the
    verdict beside the rows. `feast materialize` through our engine, and our Spark writer, refuse rows without one.
    """
    from segmenter_plugin.stages.gate import gate as stage
    from segmenter_plugin.stages.gate import require_passed

    config = load(config_path, overrides)
    present = None if as_of is None else config.time(as_of)
    result = stage(config, times(config, cutoffs), as_of=present, accept=accept)
    if result["verdict"] == "stop":
        for title, rows in result["tables"].items():
            print_table(title, rows)
        require_passed(result)
    show(result)

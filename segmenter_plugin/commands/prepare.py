"""Commands from events to tables."""

from __future__ import annotations

from pathlib import Path

import click

from segmenter_plugin.commands.options import configured, cutoff_option, load, times
from segmenter_plugin.console import show


@click.command()
@click.option(
    "--root", default="runs/demo", show_default=True, type=click.Path(file_okay=False), help="Folder of the run."
)
@click.option("--small", is_flag=True, help="400 households and a short training: a check, not a judgement.")
def demo(root: str, small: bool) -> None:
    """The whole way on 1.47 million real purchase lines of The Complete Journey."""
    from segmenter_plugin.stages.demo import demo as stage

    show(stage(Path(root), small=small))


@click.command()
@click.option("--events", required=True, metavar="PATH", help="Parquet or CSV: a file, folder or glob.")
@click.option(
    "--out", default="segmenter.toml", show_default=True, type=click.Path(dir_okay=False), help="File to write."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(events: str, out: str, force: bool) -> None:
    """Look at the events and write a commented configuration for them."""
    from segmenter_plugin.stages.init import write_config

    show(write_config(events, Path(out), force=force))


@click.command()
@click.option("--users", required=True, type=click.IntRange(1), help="How many users.")
@click.option("--days", required=True, type=click.IntRange(1), help="How many days of events.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder to write.")
@click.option("--start", default="2024-01-01", show_default=True, metavar="DATE", help="First day, UTC.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same shop.")
def simulate(users: int, days: int, out: str, start: str, seed: int) -> None:
    """Write the events of a simulated shop whose truth is known, and a configuration for them."""
    from segmenter_plugin.stages.simulate import simulate as stage

    show(stage(users, days, Path(out), start=start, seed=seed))


@click.command()
@configured
@cutoff_option(multiple=True)
@click.option("--from", "previous", metavar="TIME", help="A cutoff built before: clean only the files that came since.")
def build(config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...], previous: str | None) -> None:
    """Spark: clean events, sequences, aggregates, and labels where their window is over.

    With --from only files that no build has read yet are cleaned; late, repeated and corrected events among them come
    out as if all had been cleaned at once. Files that were read must not change: build without --from then.
    """
    from segmenter_plugin.stages.build import build as stage

    config = load(config_path, overrides)
    show(stage(config, times(config, cutoffs), previous=previous))


@click.command()
@configured
def tables(config_path: str, overrides: tuple[str, ...]) -> None:
    """List what there is: rows, versions and size of each output, and what it was made from."""
    from segmenter_plugin.stages.tables import tables as stage

    show(stage(load(config_path, overrides)))

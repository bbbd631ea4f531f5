"""Commands that bring rows to those who read them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from segmenter_plugin.commands.gate import accept_option, as_of_option
from segmenter_plugin.commands.options import configured, cutoff_command, cutoff_option, load, times
from segmenter_plugin.console import show


@click.command()
@configured
@cutoff_option(multiple=True)
@as_of_option
@accept_option
def run(
    config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...], as_of: str | None, accept: str | None
) -> None:
    """The daily job: build, score, segment, publish, gate, materialize."""
    from segmenter_plugin.stages.pipeline import run as stage

    config = load(config_path, overrides)
    present = None if as_of is None else config.time(as_of)
    show(stage(config, times(config, cutoffs), as_of=present, accept=accept))


@click.command()
@configured
@cutoff_option(multiple=True)
@click.option("--created-at", metavar="TIME", help="created_timestamp to stamp instead of the present time.")
def publish(config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...], created_at: str | None) -> None:
    """Write feature rows where Feast's offline store reads them."""
    from segmenter_plugin.stages.publish import publish as stage

    config = load(config_path, overrides)
    show(stage(config, times(config, cutoffs), created_at=created_at))


materialize = cutoff_command(
    "materialize", "materialize", "Move published rows into the online store, through the Feast CLI."
)


@click.command("materialize-online")
@configured
@cutoff_option(multiple=True, required=False)
@click.option("--start", metavar="TIME", help="First event_timestamp, instead of --cutoff; with --end.")
@click.option("--end", metavar="TIME", help="Last event_timestamp, included.")
@click.option("--view", "views", multiple=True, metavar="NAME", help="A registered view; default all of our service.")
def materialize_online(
    config_path: str,
    overrides: tuple[str, ...],
    cutoffs: tuple[str, ...],
    *,
    start: str | None,
    end: str | None,
    views: tuple[str, ...],
) -> None:
    """Move published rows into a Redis online store from Spark's executors.

    For views larger than one machine: each Spark task writes its share over a connection of its own, and the registry
    learns of the window as from `materialize`. What is online and newer stays, so the command may be run again after
    anything that went wrong. On a cluster, as a job:

    \b
        spark-submit --py-files segmenter_plugin.zip spark_jobs/materialize_online.py --cutoff 2024-12-01

    Give --cutoff (several: from the first to the last of them), or --start and --end. Rows are read from where
    [store] offline and table say; the feature_store.yaml must name
    segmenter_plugin.store.redis.ArrowRedisOnlineStore, at an address that the executors reach.
    """  # noqa: D301
    from segmenter_plugin.stages.materialize_online import materialize_online as stage

    config = load(config_path, overrides)
    given = cutoffs or tuple(time for time in (start, end) if time is not None)
    if (not cutoffs and len(given) < 2) or (cutoffs and (start or end)):
        raise click.UsageError("Give --cutoff, or both --start and --end.")
    window = times(config, given)
    show(stage(config, (min(window), max(window)) if cutoffs else (window[0], window[1]), views=views))


@click.command()
@configured
@click.option("--from", "first", required=True, metavar="TIME", help="First cutoff.")
@click.option("--to", "last", required=True, metavar="TIME", help="Last cutoff, included where a step meets it.")
@click.option("--every", default="7d", show_default=True, metavar="DAYS", help="Step, for example 7d.")
def backfill(config_path: str, overrides: tuple[str, ...], first: str, last: str, every: str) -> None:
    """Publish history for rankers to train on, each cutoff scored by weights that had seen nothing after it."""
    from segmenter_plugin.stages.pipeline import backfill as stage
    from segmenter_plugin.stages.pipeline import cutoffs_between

    config = load(config_path, overrides)
    show(stage(config, cutoffs_between(config.time(first), config.time(last), every)))


@click.command()
@configured
@click.argument("user_ids", nargs=-1, required=True)
@click.option("--service", metavar="NAME", help="A feature service; default ranking_<generation>.")
def lookup(config_path: str, overrides: tuple[str, ...], user_ids: tuple[str, ...], service: str | None) -> None:
    """Show users' online features, as a ranking model would get them."""
    from segmenter_plugin.stages.lookup import lookup as stage

    show(stage(load(config_path, overrides), list(user_ids), service=service))


@click.command()
@configured
@cutoff_option()
@click.option(
    "--format", "file_format", default="npy", show_default=True, type=click.Choice(["npy"]), help="Of the arrays."
)
@click.option("--out", type=click.Path(file_okay=False), help="Folder to write; default <root>/export/<cutoff>.")
def export(config_path: str, overrides: tuple[str, ...], cutoffs: str, file_format: str, out: str | None) -> None:
    """Write client_ids and embeddings as aligned arrays."""
    from segmenter_plugin.stages.export import export as stage

    config = load(config_path, overrides)
    show(stage(config, *times(config, cutoffs), file_format=file_format, out=None if out is None else Path(out)))


@click.command("migrate-online")
@configured
@click.option("--to", required=True, type=click.Choice(["packed", "stock"]), help="Layout of rows in Redis.")
@click.option("--keep-old", is_flag=True, help="Leave the rows where they were too, while readers still look there.")
def migrate_online(
    config_path: str, overrides: tuple[str, ...], to: Literal["packed", "stock"], keep_old: bool
) -> None:
    """Move online rows in Redis to the other layout; see `layout` of the online store."""
    from segmenter_plugin.stages.migrate import migrate_online as stage

    show(stage(load(config_path, overrides), to, keep_old=keep_old))

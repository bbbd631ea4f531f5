"""Commands that train, judge and apply the encoder."""

from __future__ import annotations

import click

from segmenter_plugin.commands.options import configured, cutoff_command, cutoff_option, load, times
from segmenter_plugin.console import show


@click.command()
@configured
def train(config_path: str, overrides: tuple[str, ...]) -> None:
    """Build the training cutoffs, pretrain, finetune, and evaluate at [training] evaluation_cutoff."""
    from segmenter_plugin.stages.pipeline import train as stage

    show(stage(load(config_path, overrides)))


@click.command()
@configured
def pretrain(config_path: str, overrides: tuple[str, ...]) -> None:
    """Pretrain the encoder on the sequences of [training] cutoffs."""
    from segmenter_plugin.stages.train import pretrain as stage

    show(stage(load(config_path, overrides)))


@click.command()
@configured
def finetune(config_path: str, overrides: tuple[str, ...]) -> None:
    """Fine-tune the encoder on all [[tasks]] at once."""
    from segmenter_plugin.stages.train import finetune as stage

    show(stage(load(config_path, overrides)))


@click.command()
@configured
@cutoff_option()
def evaluate(config_path: str, overrides: tuple[str, ...], cutoffs: str) -> None:
    """Judge encoder and baselines on a later cutoff, with intervals."""
    from segmenter_plugin.stages.evaluate import evaluate as stage

    config = load(config_path, overrides)
    show(stage(config, *times(config, cutoffs)))


@click.command()
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

    config = load(config_path, overrides)
    since = None if changed_since is None else Since(config.time(changed_since), max_age_days)
    show(stage(config, times(config, cutoffs), since=since))


segment = cutoff_command("segment", "segment", "Put every scored user into a named value segment.")

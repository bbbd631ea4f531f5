"""What several commands share: the options that name a configuration and cutoffs, and their values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from segmenter_plugin.console import show

if TYPE_CHECKING:
    from segmenter_plugin.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


def configured(command: Command) -> Command:
    """Add the options that name a configuration; see `load`."""
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


def load(config_path: str, overrides: tuple[str, ...]) -> Config:
    """The configuration that `configured` named."""
    from segmenter_plugin.config import load_config

    return load_config(config_path, overrides)


def times(config: Config, cutoffs: str | tuple[str, ...]) -> tuple[datetime, ...]:
    """Cutoffs as times in UTC."""
    texts = (cutoffs,) if isinstance(cutoffs, str) else cutoffs
    return tuple(config.time(text) for text in texts)


def cutoff_command(name: str, module: str, description: str) -> click.Command:
    """A command that does nothing but run one stage for given cutoffs."""

    @click.command(name, help=description)
    @configured
    @cutoff_option(multiple=True)
    def command(config_path: str, overrides: tuple[str, ...], cutoffs: tuple[str, ...]) -> None:
        config = load(config_path, overrides)
        show(getattr(import_module(f"segmenter_plugin.stages.{module}"), name)(config, times(config, cutoffs)))

    return command

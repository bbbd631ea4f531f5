"""How a person sees a run: rich on a terminal, plain lines in a log."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table


def configure_logging(*, quiet: bool = False) -> None:
    """Send logs to stderr: coloured with times on a terminal, else one plain line each."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("segmenter_plugin").setLevel(logging.WARNING if quiet else logging.INFO)


def show(result: dict[str, Any]) -> None:
    """Print a stage's tables and advice, then the result as the one JSON line that ends stdout.

    Args:
        result: JSON-able; the value of ``tables`` (title -> list of row dicts) is drawn, the lines of ``next`` are
            listed, and both stay in the JSON.
    """
    for title, rows in result.get("tables", {}).items():
        print_table(title, rows)
    if "next" in result:
        click.echo(f"Everything lies in {result['run_folder']}. What to try next:")
        click.echo("".join(f"  {line}\n" for line in result["next"]))
    click.echo(json.dumps(result, default=str, allow_nan=False))


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Draw rows as a table on stdout; a row may lack some of the others' keys."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in names:
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)

"""What `[contract]` has to say of a lot of events, before any of it becomes visible."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segmenter_plugin.config import Config
from segmenter_plugin.data.csv_quotes import odd_quotes
from segmenter_plugin.data.event_reasons import EVENT_TIMESTAMP_NAIVE
from segmenter_plugin.errors import EventsError

if TYPE_CHECKING:
    from segmenter_plugin.spark.clean import CleanReport

logger = logging.getLogger(__name__)

_HINTS = {
    "event_timestamp_naive": 'say which zone the times are meant in, for example [events] timezone = "Europe/Berlin".',
    "event_timestamp_unparseable": "write times as ISO 8601, or as epoch numbers with [events] timestamp_unit.",
    "event_timestamp_absurd": "check [events] timestamp_unit, earliest_timestamp and latest_timestamp.",
    "event_type_unknown": "name the owner's event types in [events.types].",
}


def check_columns(config: Config, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Compare the owner's columns with those of earlier lots.

    Args:
        config: `[contract]` says what a difference does.
        before: Columns and types of earlier lots; empty where there were none.
        now: Those of the lot.

    Raises:
        EventsError: They differ, and the configuration says to stop.
    """
    if not before:
        return
    added = {name: kind for name, kind in now.items() if name not in before}
    if added:
        _act(config.contract.new_columns, "new_columns", f"the events have columns that they did not have: {added}.")
    mapped = set(config.events.columns.mapped.values())
    known = {name: kind for name, kind in now.items() if name in mapped & set(before)}
    changed = {name: f"{before[name]} -> {kind}" for name, kind in known.items() if before[name] != kind}
    if changed:
        _act(config.contract.changed_types, "changed_types", f"columns of the events changed their type: {changed}.")


def _act(policy: str, key: str, finding: str) -> None:
    if policy == "stop":
        raise EventsError(finding, hint=f'map or drop them, or accept them with [contract] {key} = "warn".')
    if policy == "warn":
        logger.warning(finding)


def check_rows(config: Config, report: CleanReport, *, is_first: bool, files: Sequence[Path] = ()) -> None:
    """Look at what was refused.

    Args:
        config: `[contract]` says how much is borne.
        report: What became of the lot's rows.
        is_first: Whether there are no earlier lots; of these some rows must be usable.
        files: The lot's files on this machine: of CSV the line is named whose quotes do not pair up.

    Raises:
        EventsError: Nothing is usable, times are naive, or more than the configured share of rows is refused.
    """
    refused = sum(report.quarantined.values())
    valid = report.rows - refused
    where = config.events.table or config.events.path
    if is_first and not report.rows:
        raise EventsError(f"the events of {where!r} are empty.", hint="check [events] path, table and format.")
    if EVENT_TIMESTAMP_NAIVE in report.quarantined or (is_first and not valid):
        raise _unusable(report, f"of {report.rows} rows of {where!r}, {valid} are usable", _quotes(config, files))
    share, contract = refused / max(report.rows, 1), config.contract
    if share > contract.stop_quarantined_share:
        limit = f"[contract] stop_quarantined_share = {contract.stop_quarantined_share:g}"
        finding = f"{share:.2%} of {report.rows} rows of {where!r} are refused, above {limit}"
        raise _unusable(report, finding, _quotes(config, files))
    if share > contract.warn_quarantined_share:
        told = f"{report.quarantined}{_quotes(config, files)}"
        logger.warning("%.2f %% of %d rows are refused: %s", 100 * share, report.rows, told)


def _quotes(config: Config, files: Sequence[Path]) -> str:
    found = odd_quotes(files) if config.events.format == "csv" else None
    return "" if found is None else f"; {found}"


def _unusable(report: CleanReport, finding: str, quotes: str) -> EventsError:
    """Says what is refused, with an example, and what to do about the reason that matters most."""
    refused = report.quarantined
    worst = max(refused, key=lambda reason: (reason == EVENT_TIMESTAMP_NAIVE, refused[reason]))
    examples = report.examples.get(worst, [])
    row = f" One that is refused for {worst}: {examples[0]}" if examples else ""
    hint = _HINTS.get(worst, "check what [events] and [events.columns] say of them.")
    return EventsError(f"{finding}; refused are {refused}{quotes or '.'}{row}", hint=hint)

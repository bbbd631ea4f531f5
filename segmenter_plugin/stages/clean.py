"""First half of the stage `build`: the owner's events, typed and deduplicated, with what was refused beside them."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import file_fingerprints, fingerprint, is_current, new_partition, require_manifest
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.output import LazySession, file_count, row_count, write_frame
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.spark.events import CleanEvents
    from segmenter_plugin.spark.session import DataFrame, SparkSession

logger = logging.getLogger(__name__)

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HINTS = {
    "event_timestamp_naive": 'say which zone the times are meant in, for example [events] timezone = "Europe/Berlin".',
    "event_timestamp_unparseable": "write times as ISO 8601, or as epoch numbers with [events] timestamp_unit.",
    "event_timestamp_absurd": "check [events] timestamp_unit, earliest_timestamp and latest_timestamp.",
    "event_type_unknown": "name the owner's event types in [events.types].",
}


def current_events(config: Config, sessions: LazySession) -> dict[str, Any]:
    """Manifest of the clean events, made now where they are absent or stale, with `summary` for the result."""
    layout = Layout.of(config)
    made_from = fingerprint(
        "events", _source_state(config, sessions), config.events.model_dump(exclude={"complete_through"})
    )
    is_there = is_current(layout.clean_events, made_from) and is_current(layout.quarantine, made_from)
    if not is_there:
        _clean(config, sessions.get(), made_from)
    manifest = require_manifest(layout.clean_events, "segmenter build")
    last = datetime.fromisoformat(manifest["last"])
    complete = config.time(config.events.complete_through) if config.events.complete_through else last + _MICROSECOND
    names = ("rows", "kept", "duplicates", "quarantined", "first", "last")
    summary = {name: manifest[name] for name in names}
    summary |= {"complete_through": complete.isoformat(), "status": "skipped" if is_there else "built"}
    return manifest | {"complete_through": complete, "summary": summary}


def _source_state(config: Config, sessions: LazySession) -> dict[str, str]:
    from segmenter_plugin.spark.files import local_files

    files = local_files(config.events)
    if files is not None:
        return file_fingerprints(files)
    from segmenter_plugin.spark.source import remote_fingerprint

    state = remote_fingerprint(sessions.get(), config.events)
    if state is None:
        logger.warning("%s does not tell whether it changed: it is cleaned each time", config.events.table)
    return {str(config.events.table or config.events.path): state or uuid.uuid4().hex}


def _clean(config: Config, spark: SparkSession, made_from: str) -> None:
    from segmenter_plugin.spark.events import clean_events
    from segmenter_plugin.spark.files import local_files
    from segmenter_plugin.spark.source import read_events

    layout, files = Layout.of(config), local_files(config.events)
    partitions = file_count(None if files is None else sum(path.stat().st_size for path in files))
    logger.info("cleaning the events of %s", config.events.table or config.events.path)
    clean = clean_events(read_events(spark, config.events), config, partitions)
    counts = _counted(clean, config)
    manifest: dict[str, Any] = {"stage": "events", "fingerprint": made_from} | counts
    refused = {"stage": "quarantine", "fingerprint": made_from, "quarantined": counts["quarantined"]}
    with new_partition(layout.quarantine, layout.root, refused) as staging:
        _write_quarantine(clean.quarantine, staging, sum(counts["quarantined"].values()))
    with new_partition(layout.clean_events, layout.root, manifest) as staging:
        write_frame(clean.events.sortWithinPartitions(*clean.events.columns), staging)
        manifest["kept"] = row_count(staging)
        manifest["duplicates"] = counts["valid"] - manifest["kept"]
    log = "%d rows: %d kept, %d duplicates, quarantined %s"
    logger.info(log, manifest["rows"], manifest["kept"], manifest["duplicates"], manifest["quarantined"] or "none")
    for name, count in manifest["unreadable"].items():
        logger.warning("%d values of the numeric column %r are no numbers and became null", count, name)


def _counted(clean: CleanEvents, config: Config) -> dict[str, Any]:
    """Counts, from one pass over the owner's rows; raises where nothing is usable, before anything is written."""
    from segmenter_plugin.spark.events import REASONS, UNREADABLE, count_events

    found = count_events(clean, str(config.events.table or config.events.path))
    quarantined = {reason: found[reason] for reason in REASONS if found[reason]}
    valid = found["rows"] - sum(quarantined.values())
    if not valid or "event_timestamp_naive" in quarantined:
        raise _nothing_usable(clean, found["rows"], valid, quarantined, config)
    ends = {name: (_EPOCH + timedelta(microseconds=found[name])).isoformat() for name in ("first", "last")}
    unreadable = {name.removeprefix(UNREADABLE): count for name, count in found.items() if name.startswith(UNREADABLE)}
    unreadable = {name: count for name, count in unreadable.items() if count}
    return {"rows": found["rows"], "valid": valid, "quarantined": quarantined, "unreadable": unreadable} | ends


def _nothing_usable(
    clean: CleanEvents, rows: int, valid: int, quarantined: dict[str, int], config: Config
) -> EventsError:
    where = config.events.table or config.events.path
    if not rows:
        return EventsError(f"the events of {where!r} are empty.", hint="check [events] path, table and format.")
    naive = "event_timestamp_naive"
    worst = naive if naive in quarantined else max(quarantined, key=lambda reason: quarantined[reason])
    example = clean.quarantine.where(clean.quarantine[Columns.quarantine_reason] == worst).first()
    row = "" if example is None else f" One that is refused for {worst}: {example[Columns.raw_row]}"
    message = f"of {rows} rows of {where!r}, {valid} are usable; refused are {quarantined}."
    return EventsError(message + row, hint=_HINTS.get(worst, "check what [events] and [events.columns] say of them."))


def _write_quarantine(quarantine: DataFrame, staging: Path, count: int) -> None:
    if count:
        write_frame(quarantine, staging)
        return
    # The usual case; reading the events a second time to find nothing is not wanted.
    schema = pa.schema([(Columns.quarantine_reason, pa.string()), (Columns.raw_row, pa.string())])
    pq.write_table(schema.empty_table(), staging / "part-00000.parquet")

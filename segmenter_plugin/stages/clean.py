"""First half of the stage `build`: the owner's events into the event log, all of them or those that are new."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from segmenter_plugin.config import Config
from segmenter_plugin.data.event_log import EVENTS, QUARANTINE, EventLog, Segment, content_fingerprint, next_number
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.data.staging import staged
from segmenter_plugin.errors import EventsError, MissingStageError
from segmenter_plugin.schemas import user_type_of
from segmenter_plugin.spark.output import LazySession
from segmenter_plugin.stages.contract import check_columns, check_rows
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.lots import REBUILD, Lot

if TYPE_CHECKING:
    from segmenter_plugin.spark.clean import CleanReport
    from segmenter_plugin.spark.session import DataFrame

logger = logging.getLogger(__name__)

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class CleanEvents:
    """The log as a build finds it.

    Attributes:
        log: The clean events.
        status: ``built`` anew, ``extended`` by a lot, or ``skipped``, as all had been consumed.
        lot: What became of the rows that were cleaned now, if any were.
        complete_through: Events are complete before this time.
        begins: Time of the first event.
        ends: Time of the last event.
    """

    log: EventLog
    status: str
    lot: CleanReport | None
    complete_through: datetime
    begins: datetime
    ends: datetime

    @classmethod
    def of(cls, log: EventLog, config: Config, status: str, lot: CleanReport | None) -> CleanEvents:
        """With the times that the log and the configuration tell."""
        begins, ends = log.begins, log.ends
        if begins is None or ends is None:
            raise EventsError(f"the event log under {str(log.root)!r} holds no event.", hint=REBUILD)
        declared = config.events.complete_through
        complete = ends + _MICROSECOND if declared is None else config.time(declared)
        return cls(log, status, lot, complete, begins, ends)

    def summary(self) -> dict[str, Any]:
        """Counts of the whole log, for the stage's result."""
        times = {"first": self.begins, "last": self.ends, "complete_through": self.complete_through}
        texts = {name: time.isoformat() for name, time in times.items()}
        return self.log.counts | texts | {"segments": len(self.log.segments), "status": self.status}


def all_events(config: Config, sessions: LazySession) -> CleanEvents:
    """The log of all of the owner's events, made now where it is absent or stale.

    Raises:
        EventsError: The events cannot be read, nothing usable is left of them, or `[contract]` says to stop.
    """
    log, lot, settings = EventLog.read(config.root_path), Lot.whole(config, sessions), event_settings(config)
    if log is not None and log.fingerprint == content_fingerprint(lot.states, settings):
        return CleanEvents.of(log, config, "skipped", None)
    from segmenter_plugin.spark.clean import bucket_count

    begun = EventLog(config.root_path, settings, bucket_count(lot.size), "", ())
    made, report = _with_lot(begun, lot, config, sessions, before=log)
    return CleanEvents.of(made, config, "built", report)


def new_events(config: Config, sessions: LazySession) -> CleanEvents:
    """The log as it is, with what the owner's events have beyond it.

    Raises:
        MissingStageError: There is no log.
        EventsError: It was made with other settings, a file that it has consumed changed or is gone, the new events
            cannot be read, or `[contract]` says to stop.
    """
    log = EventLog.read(config.root_path)
    if log is None:
        where = Layout.of(config).clean_events
        raise MissingStageError(f"{str(where)!r} holds no event log to extend.", hint=REBUILD)
    if log.fingerprint != content_fingerprint(log.sources, event_settings(config)):
        raise EventsError("[events] has changed since the event log was begun.", hint=REBUILD)
    lot = Lot.whole(config, sessions).beyond(log.sources, config)
    if not lot.states:
        return CleanEvents.of(log, config, "skipped", None)
    made, report = _with_lot(log, lot, config, sessions, before=log)
    return CleanEvents.of(made, config, "extended", report)


def event_settings(config: Config) -> dict[str, Any]:
    """`[events]` as far as it says what becomes of a row."""
    return config.events.model_dump(mode="json", exclude={"complete_through"})


def _with_lot(
    log: EventLog, lot: Lot, config: Config, sessions: LazySession, *, before: EventLog | None
) -> tuple[EventLog, CleanReport]:
    """Clean a lot and make the log with it the one that is there, instead of the one before."""
    from segmenter_plugin.spark.clean import clean_to_segment

    columns = lot.columns(config, sessions)
    check_columns(config, before.columns if before else {}, columns)
    with staged(config.root_path / EVENTS, config.root_path) as staging:
        logger.info("cleaning %d files of %s", len(lot.states), config.events.table or config.events.path)
        folders = {name: staging.folder / name for name in (EVENTS, QUARANTINE)}
        for folder in folders.values():
            folder.mkdir()
        source = _source(lot, config, sessions)
        report = clean_to_segment(
            sessions.get(), source, config, buckets=log.buckets, events=folders[EVENTS], quarantine=folders[QUARANTINE]
        )
        check_rows(config, report, is_first=not log.segments, files=lot.on_this_machine)
        user_type = _user_type(folders[EVENTS], log)
        segment = _segment(report, next_number(config.root_path), lot.states, columns)
        log = dataclasses.replace(log, user_type=user_type).with_segment(segment)
        log.commit(staging.folder, before)
    _tell(report)
    return log, report


def _source(lot: Lot, config: Config, sessions: LazySession) -> list[Path | str] | DataFrame:
    if lot.files is not None:
        return list(lot.files)
    from segmenter_plugin.spark.listing import rows_of_files
    from segmenter_plugin.spark.source import read_events

    if lot.is_listed:
        return rows_of_files(sessions.get(), config.events, lot.states)
    return read_events(sessions.get(), config.events)


def _user_type(folder: Path, log: EventLog) -> str:
    """Type of the users in a new segment's files, which must be that of the log."""
    files = data_files(folder)
    found = str(user_type_of(pq.read_schema(files[0]))) if files else log.user_type
    if log.segments and found != log.user_type:
        raise EventsError(
            f"users of the new events are {found}, those of the event log {log.user_type}.",
            hint=f"write them alike, or {REBUILD}",
        )
    return found


def _segment(report: CleanReport, number: int, sources: dict[str, str], columns: dict[str, str]) -> Segment:
    return Segment(
        number=number,
        lots=(number,),
        rows=report.rows,
        kept=report.kept,
        duplicates=report.duplicates,
        capped=report.capped,
        quarantined=report.quarantined,
        first=None if report.first is None else report.first.isoformat(),
        last=None if report.last is None else report.last.isoformat(),
        sources=sources,
        columns=columns,
    )


def _tell(report: CleanReport) -> None:
    log = "%d rows: %d kept, %d duplicates, %d capped, quarantined %s"
    refused = report.quarantined or "none"
    logger.info(log, report.rows, report.kept, report.duplicates, report.capped, refused)
    for name, count in report.unreadable.items():
        logger.warning("%d values of the numeric column %r are no numbers and became null", count, name)
    for bot in bots_of(report):
        logger.warning("user %r had %d events on %s and counts as a bot", bot["user_id"], bot["events"], bot["day"])


def bots_of(report: CleanReport) -> list[dict[str, Any]]:
    """The largest user-days that were capped, with the day as a date."""
    epoch = date(1970, 1, 1)
    return [bot | {"day": (epoch + timedelta(days=bot["day"])).isoformat()} for bot in report.bots]

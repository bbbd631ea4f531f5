"""Stage `audit`: whether anything stored has seen what it could not, by each of the three clocks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.clock_checks import (
    EventBeforeCutoff,
    RowCheck,
    RowTime,
    behaviour_checks,
    label_checks,
    made_by_weights_checks,
    published_checks,
)
from segmenter_plugin.data.clock_findings import Checked, Place, merged
from segmenter_plugin.data.clock_jobs import CheckSource, row_jobs, user_jobs
from segmenter_plugin.data.clock_recount import BuiltTable, CountTraffic, Recount, added_traffic, strangers
from segmenter_plugin.data.durable import replace_text
from segmenter_plugin.data.event_log import EventLog
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.value_traffic import ValueTraffic
from segmenter_plugin.errors import GateError, MissingStageError
from segmenter_plugin.quality.clock_audit import check_artifact, check_evaluation, findings_of, summary
from segmenter_plugin.spark.output import LazySession
from segmenter_plugin.stages.audit_tables import (
    StoredTable,
    has_settings,
    log_of,
    own_tables,
    published_tables,
)
from segmenter_plugin.stages.audit_weights import stored_evaluations, stored_weights
from segmenter_plugin.storage import VIEW_PLACE

if TYPE_CHECKING:
    from segmenter_plugin.spark.session import SparkSession

logger = logging.getLogger(__name__)

Engine = Literal["local", "spark"]
#: Runs jobs, and gives their results in order.
Run = Callable[[Sequence[Callable[[], Any]]], Iterator[Any]]

_SHOWN = 20


def audit(config: Config, *, engine: Engine = "local", spark: SparkSession | None = None) -> dict[str, Any]:
    """Check all that lies under a root, and what is published wherever it lies; writes ``reports/audit.json``.

    Args:
        config: What the tables were built with; a table that was built otherwise is checked for its times alone.
        engine: ``local`` reads in this process, batch by batch; ``spark`` on Spark's workers, which must reach the
            files.
        spark: Session to use; else one is opened when it is needed, and stopped at the end.

    Returns:
        ``leaks`` (broken rules), ``notes`` (what is allowed but worth knowing), ``not_compared`` (tables whose events
        or sources have changed since, so that their times were checked and their contents were not), and ``tables``.

    Raises:
        MissingStageError: There is nothing to audit.
        SchemaError: A table lacks a column that it was built with.
    """
    with ExitStack() as stack:
        sessions = LazySession(spark, stack, "segmenter audit")
        results, not_compared = _audited(config, engine, sessions)
    if not results:
        raise MissingStageError(
            f"there is nothing under {str(config.root_path)!r} to audit.", hint="run `segmenter build` first."
        )
    return _reported(config, engine, results, not_compared)


def require_silence(result: Mapping[str, Any]) -> None:
    """Stop where an audit has found a leak.

    Raises:
        GateError: There is one.
    """
    leaks = result["leaks"]
    if leaks:
        named = "; ".join(f"{leak['check']} in {leak['table']}: {leak['message']}" for leak in leaks[:3])
        raise GateError(
            f"the audit found {len(leaks)} leaks: {named}.",
            hint=f"{result['report']!r} names users and times; make these tables again from the events.",
        )


def _audited(config: Config, engine: Engine, sessions: LazySession) -> tuple[list[Checked], list[dict[str, str]]]:
    run = _run_here if engine == "local" else partial(_run_on_spark, sessions)
    weights = list(stored_weights(config))
    known = {one.model_version: one.trained_through for one in weights}
    results = [check_artifact(one.clock) for one in weights]
    results += [check_evaluation(clock) for clock in stored_evaluations(config, known)]
    own, published = list(own_tables(config)), list(published_tables(config))
    pairs, not_compared = _sources(config, own, published)
    recounts, without_log = _recounts(config, own)
    jobs = [job for table in own for job in _own_jobs(table, config, known)]
    jobs += [job for table in published for job in _published_jobs(table, known)]
    jobs += pairs
    for recount in recounts:
        jobs += recount.jobs(config, run)
        results += strangers([*recount.behaviour, *recount.labels], [number for number, _ in recount.log.parts()])
    logger.info("audit: %d tables in %d jobs", len(own) + len(published), len(jobs))
    for found in run(jobs):
        results = merged([*results, *found])
    if config.store.table is not None:
        results += _spark_tables(config, engine, sessions, known, not_compared)
    return results, [*without_log, *not_compared]


def _run_here(jobs: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    return (job() for job in jobs)


def _run_on_spark(sessions: LazySession, jobs: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    from segmenter_plugin.spark.audit import run_on_spark

    return run_on_spark(sessions.get(), jobs)


def _own_jobs(table: StoredTable, config: Config, known: Mapping[str, datetime]) -> list[Any]:
    users = user_jobs(table.place, table.files, table.rows)
    return [*row_jobs(table.place, table.files, _own_checks(table, config, known)), *users]


def _own_checks(table: StoredTable, config: Config, known: Mapping[str, datetime]) -> tuple[RowCheck, ...]:
    if table.kind in ("scores", "segments"):
        return made_by_weights_checks(known)
    is_same = has_settings(table, config)
    if table.kind == "labels":
        return label_checks(config, table.cutoff, table.complete_through) if is_same else (RowTime(),)
    return behaviour_checks(config) if is_same else (RowTime(), EventBeforeCutoff())


def _published_jobs(table: StoredTable, known: Mapping[str, datetime]) -> list[Any]:
    is_pushed = table.place.cutoff is None
    rows = row_jobs(table.place, table.files, published_checks(table.columns, known, pushed=is_pushed))
    # Somebody may push several rows of one user, each of another time.
    return [*rows, *([] if is_pushed else user_jobs(table.place, table.files, table.rows))]


def _sources(
    config: Config, own: Sequence[StoredTable], published: Sequence[StoredTable]
) -> tuple[list[CheckSource], list[dict[str, str]]]:
    """Published partitions beside what they were made from; and those whose source is no longer there."""
    made = {table.manifest["fingerprint"]: table for table in own}
    jobs, others = [], []
    for table in published:
        source = made.get(table.manifest.get("inputs", {}).get("source", ""))
        if table.place.cutoff is None:
            continue
        if source is None or config.store.table_format == "delta":
            why = "has no order of rows" if source else "was published from rows that have been replaced since"
            others.append({"table": table.place.table, "why": why})
            continue
        keys = {table.place.user, Columns.created_timestamp}
        columns = tuple(name for name in table.columns if name not in keys)
        jobs.append(CheckSource(table.place, table.files, source.files, columns))
    return jobs, others


@dataclass(frozen=True)
class _Recounts:
    """The tables that were built of one state of the event log."""

    log: EventLog
    behaviour: list[BuiltTable]
    labels: list[BuiltTable]

    def jobs(self, config: Config, run: Run) -> list[Recount]:
        """One a bucket."""
        parts = self.log.parts()
        traffic: Mapping[str, ValueTraffic] = {}
        if config.windows.trend_columns:
            cutoffs = tuple(sorted({table.cutoff for table in [*self.behaviour, *self.labels]}))
            traffic = added_traffic(run([CountTraffic(part, config, cutoffs) for part in parts]), config, cutoffs)
        return [Recount(part, config, self.behaviour, self.labels, traffic) for part in parts]


def _recounts(config: Config, own: Sequence[StoredTable]) -> tuple[list[_Recounts], list[dict[str, str]]]:
    """What can be derived again; and which tables cannot."""
    whole = EventLog.read(config.root_path)
    found: dict[str, _Recounts] = {}
    others = []
    for table in own:
        if table.kind not in ("behaviour", "labels"):
            continue
        log, through = log_of(table, whole, config), table.complete_through
        if log is None or through is None:
            others.append({"table": table.place.table, "why": _why_not(table, whole, config)})
            continue
        group = found.setdefault(log.fingerprint, _Recounts(log, [], []))
        tables = group.behaviour if table.kind == "behaviour" else group.labels
        tables.append(BuiltTable(table.place, table.folder, through))
    return list(found.values()), others


def _why_not(table: StoredTable, log: EventLog | None, config: Config) -> str:
    if log is None:
        return "there is no event log"
    return "the event log has changed since" if has_settings(table, config) else "was built with other settings"


def _spark_tables(
    config: Config,
    engine: Engine,
    sessions: LazySession,
    known: Mapping[str, datetime],
    not_compared: list[dict[str, str]],
) -> list[Checked]:
    """Rows in the Spark tables of ``[store] table``, which Spark alone reads."""
    names = {view: str(config.store.table).replace(VIEW_PLACE, view) for view in FeatureNames.of(config).folders}
    if engine == "local":
        not_compared += [{"table": name, "why": "is Spark's: audit with --engine spark"} for name in names.values()]
        return []
    from segmenter_plugin.spark.audit import check_spark_table

    key = [config.store.join_key, Columns.event_timestamp, Columns.created_timestamp]
    checks = partial(published_checks, known=known, pushed=False)
    found: list[Checked] = []
    for name in names.values():
        place = Place(name, None, config.store.join_key)
        found += check_spark_table(sessions.get(), name, key, place, checks)
    return found


def _reported(
    config: Config, engine: Engine, results: Sequence[Checked], not_compared: Sequence[dict[str, str]]
) -> dict[str, Any]:
    leaks, notes = ([finding.as_dict() for finding in findings_of(results, level)] for level in ("leak", "note"))
    lines = summary(results)
    report: dict[str, Any] = {
        "stage": "audit",
        "root": str(config.root_path),
        "checks": lines,
        "leaks": leaks,
        "notes": notes,
    }
    report |= {"not_compared": sorted(not_compared, key=lambda one: one["table"]), "engine": engine}
    path = config.root_path / "reports" / "audit.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    tables: dict[str, Any] = {"Audit of the clocks": lines}
    if leaks:
        tables[f"Leaks (the first {_SHOWN})" if len(leaks) > _SHOWN else "Leaks"] = [
            {name: leak[name] for name in ("check", "table", "rows", "message", "user")} for leak in leaks[:_SHOWN]
        ]
    if not_compared:
        tables["Not compared with their source"] = report["not_compared"]
    for leak in leaks:
        logger.error("audit: %s in %s: %s (%d rows)", leak["check"], leak["table"], leak["message"], leak["rows"])
    return report | {"report": str(path), "tables": tables}

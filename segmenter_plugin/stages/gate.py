"""Gate: whether a published cutoff may go online, and the verdict beside its rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.errors import CutoffError, GateError, UserError
from segmenter_plugin.quality.gate import Check, GateReport, Measurement
from segmenter_plugin.quality.snapshots import (
    RANKINGS,
    Snapshot,
    common_places,
    compared,
    metric_drop,
    moved_users,
    own_measurements,
)
from segmenter_plugin.schemas import score_fields
from segmenter_plugin.stages.gate_rows import Published, Sample, count_users, coverage, labelled, read_snapshot
from segmenter_plugin.tasks import TaskConfig

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
#: How many of the cutoffs before are looked at for labels; further back they tell of another season.
_LABELLED_AMONG = 60


def gate(
    config: Config, cutoffs: Sequence[datetime], *, as_of: datetime | None = None, accept: str | None = None
) -> dict[str, Any]:
    """Hold published cutoffs against the one before, and write a verdict beside each view's partition.

    The cutoff before is the newest earlier one that the gate let through. Where it has let none through, it is the
    newest that was published with the same weights; where there is none, only what needs no day before is judged.

    Args:
        config: `[gates]` holds the limits.
        cutoffs: Published ones; each is judged, the earliest first.
        as_of: The present, for how old the rows are; without it their age is not judged.
        accept: Why rows that are stopped may go online all the same; recorded in the verdict.

    Returns:
        ``verdict`` of all together, ``cutoffs`` with the report of each, and tables.

    Raises:
        MissingStageError: A cutoff has not been published, or its behaviour is gone.
        CutoffError: `as_of` is before a cutoff.
        UserError: No cutoff is given, or `accept` is empty.
    """
    if not cutoffs:
        raise UserError("no cutoff was given, so there is nothing to judge.", hint="name one with --cutoff.")
    if accept is not None and not accept.strip():
        raise UserError("--accept '' gives no reason.", hint="say why these rows may go online.")
    done: list[dict[str, Any]] = []
    tables: dict[str, Any] = {}
    for cutoff in sorted(set(cutoffs)):
        if as_of is not None and as_of < cutoff:
            raise CutoffError(
                f"--as-of {as_of.isoformat()} is before the cutoff {cutoff.isoformat()}.",
                hint="give the present time, which no cutoff lies after.",
            )
        report = _gate_one(config, cutoff, as_of, accept)
        done.append({"cutoff": cutoff.isoformat(), "passes": report.passes} | report.as_dict())
        tables |= _tables(cutoff, report)
        _log(cutoff, report)
    found = {_verdict(entry) for entry in done}
    worst = next(verdict for verdict in ("stop", "accepted", "warn", "ok") if verdict in found)
    return {"stage": "gate", "verdict": worst, "cutoffs": done, "tables": tables}


def _verdict(entry: Mapping[str, Any]) -> str:
    return str(entry["verdict"]) if entry["accepted"] is None else "accepted"


def require_passed(result: Mapping[str, Any]) -> None:
    """End a run whose rows may not go online.

    Args:
        result: Of `gate`.

    Raises:
        GateError: A cutoff was stopped and nobody accepted it; says why, and which users moved.
    """
    for entry in result["cutoffs"]:
        if entry["passes"]:
            continue
        why = " ".join(check["message"] for check in entry["checks"] if check["verdict"] == "stop")
        moved = ", ".join(str(user["user_id"]) for user in entry["moved"])
        raise GateError(
            f"the rows of {entry['cutoff']} may not go online; those that are there stay. {why}"
            + (f" Users who moved furthest: {moved}." if moved else ""),
            hint=f"mend it and publish again; or `segmenter gate --cutoff {entry['cutoff']} --accept REASON`.",
        )


def _gate_one(config: Config, cutoff: datetime, as_of: datetime | None, accept: str | None) -> GateReport:
    published = Published.of(config)
    published.require(cutoff)
    before = _before(published, cutoff)
    sample = Sample.of(config, count_users(config, cutoff))
    now = read_snapshot(published, cutoff, sample)
    then = None if before is None else read_snapshot(published, before, sample)
    share, view = coverage(published, cutoff, sample)
    measured = [_age(cutoff, as_of), Measurement("coverage", share, view), *own_measurements(now)]
    if then is not None and before is not None:
        measured += [*_users(then, now), *compared(then, now, config.gates)]
    measured.append(_metric_drop(published, cutoff, sample))
    same_model = then is None or now.model_versions == then.model_versions
    checks = [Check.of(one, config.gates, same_model=same_model) for one in measured]
    moved = [] if then is None else moved_users(then, now, config.gates.moved_users, _rating(config))
    report = GateReport(checks, moved, None if before is None else cutoff_key(before))
    if accept is not None and report.verdict == "stop":
        report = GateReport(report.checks, report.moved, report.compared_with, accept.strip())
    _write(published, cutoff, as_of, report)
    return report


def _before(published: Published, cutoff: datetime) -> datetime | None:
    """What readers have, as far as the gate can know."""
    from segmenter_plugin.store.verdicts import passes

    earlier = [time for time in reversed(published.cutoffs) if time < cutoff]
    verdicts = {time: published.verdict(time) for time in earlier}
    for time in earlier:
        verdict = verdicts[time]
        if verdict is not None and passes(verdict):
            return time
    version = published.model_version(cutoff)
    unjudged = (time for time in earlier if verdicts[time] is None)
    return next((time for time in unjudged if published.model_version(time) == version), None)


def _age(cutoff: datetime, as_of: datetime | None) -> Measurement:
    if as_of is None:
        return Measurement("age_days", None, "no --as-of was given")
    return Measurement("age_days", (as_of - cutoff) / timedelta(days=1))


def _users(before: Snapshot, now: Snapshot) -> list[Measurement]:
    kept = len(common_places(before.users, now.users)[0]) / max(len(before), 1)
    return [Measurement("kept_users", kept), Measurement("user_growth", len(now) / max(len(before), 1))]


def _metric_drop(published: Published, cutoff: datetime, sample: Sample) -> Measurement:
    """The largest drop of a task's ranking, between the last two published cutoffs whose labels are known by now."""
    tasks = [task for task in published.config.tasks if task.kind in RANKINGS]
    found = [_drop_of(published, cutoff, task, sample) for task in tasks]
    judged = [one for one in found if one is not None and one.value is not None]
    if not judged:
        return next(
            (one for one in found if one is not None),
            Measurement("metric_drop", None, "there are no two published cutoffs whose labels are known"),
        )
    # One that chance explains must not hide one that it does not.
    return max(judged, key=lambda one: (one.counts, one.value or 0.0))


def _drop_of(published: Published, cutoff: datetime, task: TaskConfig, sample: Sample) -> Measurement | None:
    over = [time for time in published.cutoffs if task.window(time)[1] <= cutoff]
    columns = (task.label_column, task.score_columns[0])
    sides = []
    for time in reversed(over[-_LABELLED_AMONG:]):
        rows = labelled(published, time, columns, sample)
        if rows is not None and rows.num_rows:
            sides.append(tuple(rows[name].cast("float64").to_numpy() for name in columns))
        if len(sides) == 2:
            return metric_drop(task.name, task.kind, [sides[1], sides[0]])
    return None


def _rating(config: Config) -> str | None:
    names = [field.name for field in score_fields(config)]
    return Columns.value_score if Columns.value_score in names else next(iter(names), None)


def _write(published: Published, cutoff: datetime, as_of: datetime | None, report: GateReport) -> None:
    from segmenter_plugin.store.publications import publications_of

    key = cutoff_key(cutoff)
    views = {folder: rows.names(key) for folder, rows in published.views.items()}
    told = {"format_version": FORMAT_VERSION, "cutoff": cutoff.isoformat(), "views": views}
    told |= {"as_of": None if as_of is None else as_of.isoformat()}
    for folder, rows in published.views.items():
        manifest = publications_of(published.config, folder).manifest(cutoff) or {}
        own = {name: manifest.get(name) for name in ("fingerprint", "created_timestamp")}
        rows.put_verdict(key, told | {"files": views[folder]} | own | report.as_dict())


def _tables(cutoff: datetime, report: GateReport) -> dict[str, list[dict[str, Any]]]:
    verdict = report.verdict if report.accepted is None else f"accepted: {report.accepted}"
    rows = [{name: value for name, value in check.as_dict().items() if name != "message"} for check in report.checks]
    tables: dict[str, list[dict[str, Any]]] = {f"gate as of {cutoff.isoformat()}: {verdict}": rows}
    if report.moved and report.verdict != "ok":
        tables[f"users who moved furthest since {report.compared_with}"] = [dict(user) for user in report.moved]
    return tables


def _log(cutoff: datetime, report: GateReport) -> None:
    logger.info("gate %s: %s, beside %s", cutoff.isoformat(), report.verdict, report.compared_with)
    for check in report.checks:
        if check.verdict != "ok":
            logger.warning("gate %s: %s: %s", cutoff.isoformat(), check.verdict, check.message)
    if report.accepted is not None:
        logger.warning("gate %s: accepted all the same: %s", cutoff.isoformat(), report.accepted)

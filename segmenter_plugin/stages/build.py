"""Stage `build`: clean events once, then behaviour and labels as of each cutoff.

Spark starts only where something is to be made: when every output is current, the manifests answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    data_files,
    fingerprint,
    is_current,
    new_partition,
    require_manifest,
)
from segmenter_plugin.errors import CutoffError
from segmenter_plugin.spark.output import LazySession, row_count
from segmenter_plugin.stages.clean import current_events
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.spark.session import SparkSession

logger = logging.getLogger(__name__)


def build(config: Config, cutoffs: Sequence[str | datetime], *, spark: SparkSession | None = None) -> dict[str, Any]:
    """Make clean events, and behaviour and labels of each cutoff, where they are not current.

    Args:
        config: The configuration.
        cutoffs: Times that rows shall be true as of; a naive one is meant in the events' zone.
        spark: Session to use; else one is opened when it is needed, and stopped at the end.

    Returns:
        What was made: event counts, users and label base rates by cutoff, "built" or "skipped" for each output.

    Raises:
        EventsError: The events cannot be read or nothing usable is left of them.
        CutoffError: No cutoff, or one that the events do not cover.
    """
    started = time.perf_counter()
    times = _cutoff_times(config, cutoffs)
    with ExitStack() as stack:
        sessions = LazySession(spark, stack)
        events = current_events(config, sessions)
        for cutoff in times:
            _check_cutoff(cutoff, events, config)
        built = _build_cutoffs(times, events, config, sessions)
    result = {"stage": "build", "events": events["summary"], "cutoffs": built}
    return result | {"seconds": round(time.perf_counter() - started, 1)}


def _cutoff_times(config: Config, cutoffs: Sequence[str | datetime]) -> list[datetime]:
    times = sorted({config.time(cutoff) for cutoff in cutoffs})
    if not times:
        raise CutoffError("no cutoff is given.", hint="name one or more, for example --cutoff 2017-10-01.")
    for cutoff in times:
        if cutoff.microsecond:
            raise CutoffError(
                f"the cutoff {cutoff.isoformat()} has a fraction of a second.", hint="cutoffs are whole seconds."
            )
    return times


def _check_cutoff(cutoff: datetime, events: dict[str, Any], config: Config) -> None:
    first, last = datetime.fromisoformat(events["first"]), datetime.fromisoformat(events["last"])
    days = config.windows.observation_days
    if cutoff <= first or cutoff - timedelta(days=days) > last:
        raise CutoffError(
            f"at the cutoff {cutoff.isoformat()} nobody has an event in the {days} days before it: the events run "
            f"from {first.isoformat()} to {last.isoformat()}.",
            hint="choose a cutoff after the first event and not long after the last one.",
        )
    if cutoff > events["complete_through"]:
        logger.warning(
            "the cutoff %s lies after %s, to which the events are complete: features will miss what happened between",
            cutoff.isoformat(),
            events["complete_through"].isoformat(),
        )


def _build_cutoffs(
    times: list[datetime], events: dict[str, Any], config: Config, sessions: LazySession
) -> dict[str, dict[str, Any]]:
    layout = Layout.of(config)
    made_from = {cutoff: _fingerprints(cutoff, events, config) for cutoff in times}
    stale = {
        cutoff: [
            name for name in ("behaviour", "labels") if not is_current(_folder(layout, name, cutoff), prints[name])
        ]
        for cutoff, prints in made_from.items()
    }
    wanted = {cutoff: {name: made_from[cutoff][name] for name in names} for cutoff, names in stale.items() if names}
    if wanted:
        _build_wanted(wanted, events, config, sessions.get())
    return {cutoff.isoformat(): _summary(cutoff, stale[cutoff], layout) for cutoff in times}


def _fingerprints(cutoff: datetime, events: dict[str, Any], config: Config) -> dict[str, str]:
    inputs = {"events": events["fingerprint"], "cutoff": cutoff.isoformat()}
    windows = config.windows.model_dump()
    behaviour = {"windows": windows, "sequences": config.sequences.model_dump()}
    # Which users have a row depends on the observation window; how many top values are predicted is the model's affair.
    tasks = [task.model_dump(exclude={"top_count"}) for task in config.tasks]
    labels = {"tasks": tasks, "observation_days": windows["observation_days"]}
    labelled = inputs | {"complete_through": events["complete_through"].isoformat()}
    return {
        "behaviour": fingerprint("behaviour", inputs, behaviour),
        "labels": fingerprint("labels", labelled, labels),
    }


def _folder(layout: Layout, name: str, cutoff: datetime) -> Path:
    return layout.behaviour(cutoff) if name == "behaviour" else layout.labels(cutoff)


def _build_wanted(
    wanted: dict[datetime, dict[str, str]], events: dict[str, Any], config: Config, spark: SparkSession
) -> None:
    """Build all outputs in one pass over the clean events; each appears whole, or none does."""
    from segmenter_plugin.spark.blocks import BlockTask, build_blocks

    layout, started = Layout.of(config), time.perf_counter()
    logger.info("building %s", ", ".join(f"{cutoff:%Y-%m-%d}" for cutoff in wanted))
    with ExitStack() as outputs:
        manifests = {cutoff: _manifests(cutoff, names, events) for cutoff, names in wanted.items()}
        folders = {
            cutoff: {
                name: outputs.enter_context(new_partition(_folder(layout, name, cutoff), layout.root, manifest))
                for name, manifest in manifests[cutoff].items()
            }
            for cutoff in wanted
        }
        since = min(wanted) - timedelta(days=config.windows.observation_days)
        until = max(config.labels_end(cutoff) for cutoff in wanted)
        task = BlockTask(config, since, until, events["complete_through"], folders)
        count = build_blocks(spark, data_files(layout.clean_events), task)
        for cutoff, staged in folders.items():
            for name, folder in staged.items():
                _complete(manifests[cutoff][name], folder, cutoff, config)
    seconds = time.perf_counter() - started
    logger.info("built %d cutoffs from %d events in %.1f s", len(wanted), count, seconds)


def _manifests(cutoff: datetime, made_from: dict[str, str], events: dict[str, Any]) -> dict[str, dict[str, Any]]:
    complete = events["complete_through"]
    times = {"cutoff": cutoff.isoformat(), "complete_through": complete.isoformat(), "is_complete": cutoff <= complete}
    return {name: {"stage": name, "fingerprint": fingerprinted} | times for name, fingerprinted in made_from.items()}


def _complete(manifest: dict[str, Any], folder: Path, cutoff: datetime, config: Config) -> None:
    """Add to a manifest what only the written rows tell."""
    manifest["users"] = row_count(folder)
    if not manifest["users"]:
        raise CutoffError(
            f"at the cutoff {cutoff.isoformat()} nobody has an event in the "
            f"{config.windows.observation_days} days before it.",
            hint="choose another cutoff, or a longer [windows] observation_days.",
        )
    if manifest["stage"] == "labels":
        manifest["base_rates"] = _base_rates(folder, config)


def _base_rates(folder: Path, config: Config) -> dict[str, Any]:
    """Share of users (of each class) by label column; for money the share above 0 and the mean; None where censored."""
    rates: dict[str, Any] = {}
    labels = ds.dataset(data_files(folder))
    for task in config.tasks:
        column = labels.to_table(columns=[task.label_column]).column(0)
        if column.null_count == len(column):
            rates[task.label_column] = None
        elif task.kind == "binary":
            rates[task.label_column] = pc.mean(column).as_py()
        elif task.kind == "value":
            share = pc.mean(pc.greater(column, 0)).as_py()
            rates[task.label_column] = {"above_zero": share, "mean": pc.mean(column).as_py()}
        elif task.kind == "multiclass":
            found = {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
            rates[task.label_column] = {name: found.get(name, 0) / len(column) for name in task.classes}
        else:
            rates[task.label_column] = {"any": pc.mean(pc.greater(pc.list_value_length(column), 0)).as_py()}
    return rates


def _summary(cutoff: datetime, stale: list[str], layout: Layout) -> dict[str, Any]:
    behaviour = require_manifest(layout.behaviour(cutoff), "segmenter build")
    labels = require_manifest(layout.labels(cutoff), "segmenter build")
    summary = {name: "built" if name in stale else "skipped" for name in ("behaviour", "labels")}
    kept = {"users": behaviour["users"], "base_rates": labels["base_rates"], "is_complete": labels["is_complete"]}
    return summary | kept

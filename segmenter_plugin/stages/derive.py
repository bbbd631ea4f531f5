"""Second half of the stage `build`: behaviour and labels of all stale cutoffs, in one pass over the event log."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmenter_plugin.config import Config
from segmenter_plugin.data.event_log import EVENTS, EventLog
from segmenter_plugin.data.label_quality import LabelCounts, added, base_rates, label_warnings
from segmenter_plugin.data.partition import fingerprint, is_current, new_partition
from segmenter_plugin.data.staging import staged
from segmenter_plugin.errors import CutoffError
from segmenter_plugin.spark.output import LazySession
from segmenter_plugin.stages.clean import CleanEvents
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.spark.blocks import BlockCounts
    from segmenter_plugin.spark.session import SparkSession

logger = logging.getLogger(__name__)

#: Share of the log's time that is read in vain rather than filtered out.
_LITTLE = 0.1


@dataclass(frozen=True)
class Previous:
    """An earlier build.

    Attributes:
        cutoff: As of when.
        lots: Of the log, as that build found it.
    """

    cutoff: datetime
    lots: frozenset[int]


@dataclass(frozen=True)
class Derived:
    """What was made of the log.

    Attributes:
        stale: By cutoff, the outputs that were made now.
        counts: What each task met; empty where nothing was made.
        is_merged: Whether the log's segments were merged.
    """

    stale: Mapping[datetime, Sequence[str]]
    counts: Sequence[BlockCounts]
    is_merged: bool

    def total(self, name: str) -> Any:
        """A count, over all tasks."""
        return sum(getattr(counts, name) for counts in self.counts)


def derive(
    times: Sequence[datetime], events: CleanEvents, config: Config, sessions: LazySession, previous: Previous | None
) -> Derived:
    """Make the outputs that are not current; each appears whole, or none does.

    Raises:
        CutoffError: At a cutoff nobody has an event in the observation window.
    """
    layout = Layout.of(config)
    prints = {cutoff: _fingerprints(cutoff, events, config) for cutoff in times}
    stale = {
        cutoff: [name for name in of_names if not is_current(folder_of(layout, name, cutoff), of_names[name])]
        for cutoff, of_names in prints.items()
    }
    wanted = {cutoff: {name: prints[cutoff][name] for name in names} for cutoff, names in stale.items() if names}
    if not wanted:
        return Derived(stale, (), is_merged=False)
    logger.info("building %s", ", ".join(f"{cutoff:%Y-%m-%d}" for cutoff in wanted))
    if not events.log.is_scattered:
        counts = _built(wanted, events, config, sessions.get(), previous=previous, merge_into=None)
        return Derived(stale, counts, is_merged=False)
    with staged(config.root_path / EVENTS, config.root_path) as staging:
        merged = staging.folder / EVENTS
        merged.mkdir()
        counts = _built(wanted, events, config, sessions.get(), previous=previous, merge_into=merged)
        sums = {name: sum(getattr(each, name) for each in counts) for name in ("kept", "duplicates", "capped")}
        events.log.merged(**sums).commit(staging.folder, events.log)
    logger.info("merged %d segments of the event log", len(events.log.segments))
    return Derived(stale, counts, is_merged=True)


def folder_of(layout: Layout, name: str, cutoff: datetime) -> Path:
    """Where ``behaviour`` or ``labels`` of a cutoff lie."""
    return layout.behaviour(cutoff) if name == "behaviour" else layout.labels(cutoff)


def made_from(kind: str, cutoff: datetime, events: str, complete_through: datetime, config: Config) -> str:
    """The fingerprint of ``behaviour`` or ``labels``.

    Args:
        kind: Which of the two.
        cutoff: As of when.
        events: Fingerprint of the event log.
        complete_through: To when the events are known to be complete.
        config: What it is built with.
    """
    windows, inputs = config.windows.model_dump(), {"events": events, "cutoff": cutoff.isoformat()}
    if kind == "behaviour":
        return fingerprint(kind, inputs, {"windows": windows, "sequences": config.sequences.model_dump()})
    # Which users have a row depends on the observation window; how many top values are predicted is the model's affair.
    tasks = [task.model_dump(exclude={"top_count"}) for task in config.tasks]
    settings = {"tasks": tasks, "observation_days": windows["observation_days"]}
    return fingerprint(kind, inputs | {"complete_through": complete_through.isoformat()}, settings)


def _fingerprints(cutoff: datetime, events: CleanEvents, config: Config) -> dict[str, str]:
    log, through = events.log.fingerprint, events.complete_through
    return {kind: made_from(kind, cutoff, log, through, config) for kind in ("behaviour", "labels")}


def _built(
    wanted: Mapping[datetime, Mapping[str, str]],
    events: CleanEvents,
    config: Config,
    spark: SparkSession,
    *,
    previous: Previous | None,
    merge_into: Path | None,
) -> list[BlockCounts]:
    """Build all outputs in one pass over the log."""
    from segmenter_plugin.spark.blocks import BlockTask, build_blocks, first_needed

    layout = Layout.of(config)
    with ExitStack() as outputs:
        manifests = {cutoff: _manifests(cutoff, names, events) for cutoff, names in wanted.items()}
        folders = {
            cutoff: {
                name: outputs.enter_context(new_partition(folder_of(layout, name, cutoff), layout.root, manifest))
                for name, manifest in manifests[cutoff].items()
            }
            for cutoff in wanted
        }
        since = first_needed(min(wanted) - timedelta(days=config.windows.observation_days), config)
        until = _worth_leaving_out(max(config.labels_end(cutoff) for cutoff in wanted), events)
        task = BlockTask(
            config=config,
            since=since if merge_into is None else None,
            until=until if merge_into is None else None,
            complete_through=events.complete_through,
            folders=folders,
            merge_into=merge_into,
            fresh=_fresh(events.log, previous),
            late_before=None if previous is None else previous.cutoff,
        )
        counts = build_blocks(spark, events.log.parts(), task)
        for cutoff, outputs_of in manifests.items():
            _complete(cutoff, outputs_of, counts, config)
    return counts


def _worth_leaving_out(until: datetime, events: CleanEvents) -> datetime | None:
    """The end of what is needed; None where little lies beyond it: telling rows apart costs more than reading them."""
    is_little = (events.ends - until) < _LITTLE * (events.ends - events.begins)
    return None if is_little else until


def _fresh(log: EventLog, previous: Previous | None) -> frozenset[int]:
    """Numbers of the segments that a previous build has not seen; none where it was made from another log."""
    if previous is None or not previous.lots <= log.lots:
        return frozenset()
    return frozenset(segment.number for segment in log.segments if not set(segment.lots) <= previous.lots)


def _manifests(cutoff: datetime, made_from: Mapping[str, str], events: CleanEvents) -> dict[str, dict[str, Any]]:
    complete = events.complete_through
    times = {"cutoff": cutoff.isoformat(), "complete_through": complete.isoformat(), "is_complete": cutoff <= complete}
    lots = {"lots": sorted(events.log.lots)}
    return {name: {"stage": name, "fingerprint": print_} | times | lots for name, print_ in made_from.items()}


def _complete(
    cutoff: datetime, manifests: Mapping[str, dict[str, Any]], counts: Sequence[BlockCounts], config: Config
) -> None:
    """Add to the manifests of a cutoff what only its rows tell."""
    users = sum(each.users.get(cutoff, 0) for each in counts)
    if not users:
        raise CutoffError(
            f"at the cutoff {cutoff.isoformat()} nobody has an event in the "
            f"{config.windows.observation_days} days before it.",
            hint="choose another cutoff, or a longer [windows] observation_days.",
        )
    labels: LabelCounts = added(each.labels[cutoff] for each in counts if cutoff in each.labels)
    rates = base_rates(labels, config.tasks)
    found = {"base_rates": rates, "label_warnings": label_warnings(rates, labels, config.tasks)}
    for name, manifest in manifests.items():
        manifest.update({"users": users} | (found if name == "labels" else {}))

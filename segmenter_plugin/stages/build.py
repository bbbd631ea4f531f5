"""Stage `build`: the owner's events into the event log, then behaviour and labels as of each cutoff.

Spark starts only where something is to be made: when every output is current, the manifests answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import require_manifest
from segmenter_plugin.errors import CutoffError
from segmenter_plugin.spark.output import LazySession
from segmenter_plugin.stages.build_report import report_of
from segmenter_plugin.stages.clean import CleanEvents, all_events, new_events
from segmenter_plugin.stages.derive import Previous, derive
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.spark.session import SparkSession

logger = logging.getLogger(__name__)


def build(
    config: Config,
    cutoffs: Sequence[str | datetime],
    *,
    previous: str | datetime | None = None,
    spark: SparkSession | None = None,
) -> dict[str, Any]:
    """Bring the event log up to date, and make behaviour and labels of each cutoff where they are not current.

    Without `previous` the log is made from all of the owner's events, if these or `[events]` changed. With it, only
    files that the log has not consumed are cleaned and added; what comes out equals a build from all events.

    Args:
        config: The configuration.
        cutoffs: Times that rows shall be true as of; a naive one is meant in the events' zone.
        previous: An earlier cutoff that has been built; new events before it are reported as late.
        spark: Session to use; else one is opened when it is needed, and stopped at the end.

    Returns:
        What was made: event counts, users and label base rates by cutoff, "built" or "skipped" for each output; and
        ``tables`` of it.

    Raises:
        EventsError: The events cannot be read, nothing usable is left of them, `[contract]` says to stop, or with
            `previous`: what was consumed changed or is gone.
        CutoffError: No cutoff, one that the events do not cover, or one that is not after `previous`.
        MissingStageError: `previous` has not been built.
    """
    started = time.perf_counter()
    times = _cutoff_times(config, cutoffs)
    before = None if previous is None else _previous(config, config.time(previous), times)
    with ExitStack() as stack:
        sessions = LazySession(spark, stack)
        events = all_events(config, sessions) if before is None else new_events(config, sessions)
        for cutoff in times:
            _check_cutoff(cutoff, events, config)
        derived = derive(times, events, config, sessions, before)
    seconds = round(time.perf_counter() - started, 1)
    return report_of(times, events, derived, config, seconds)


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


def _previous(config: Config, previous: datetime, times: Sequence[datetime]) -> Previous:
    if previous >= times[0]:
        raise CutoffError(
            f"--from {previous.isoformat()} is not before the cutoff {times[0].isoformat()}.",
            hint="name the cutoff that was built before, or leave --from out.",
        )
    command = f"segmenter build --cutoff {previous.isoformat()}"
    manifest = require_manifest(Layout.of(config).behaviour(previous), command)
    return Previous(previous, frozenset(manifest.get("lots", ())))


def _check_cutoff(cutoff: datetime, events: CleanEvents, config: Config) -> None:
    days = config.windows.observation_days
    if cutoff <= events.begins or cutoff - timedelta(days=days) > events.ends:
        raise CutoffError(
            f"at the cutoff {cutoff.isoformat()} nobody has an event in the {days} days before it: the events run "
            f"from {events.begins.isoformat()} to {events.ends.isoformat()}.",
            hint="choose a cutoff after the first event and not long after the last one.",
        )
    if cutoff > events.complete_through:
        logger.warning(
            "the cutoff %s lies after %s, to which the events are complete: features will miss what happened between",
            cutoff.isoformat(),
            events.complete_through.isoformat(),
        )

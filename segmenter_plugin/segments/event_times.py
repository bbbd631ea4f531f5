"""When in the week and the day the users of each segment come."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config

#: Monday is 0.
FIRST_WEEKEND_DAY = 5
FIRST_EVENING_HOUR = 18
#: Events of a segment from which on its share is told.
FEWEST_EVENTS = 100


class EventTimes:
    """Counts of events at weekends and in evenings, in the events' zone, else in UTC.

    Args:
        config: The configuration.
        count: S segments.
    """

    def __init__(self, config: Config, count: int) -> None:
        self._zone = config.events.timezone or "UTC"
        self._count = count
        self._events = np.zeros(count)
        self._found = {"weekend": np.zeros(count), "evening": np.zeros(count)}

    def add(self, batch: pa.RecordBatch, ids: NDArray[np.int64]) -> None:
        """Take in rows of behaviour, with the segment of each."""
        lists = batch.column(Columns.sequence(Columns.event_timestamp))
        segments = ids[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)]
        times = lists.flatten().cast(pa.timestamp("us", tz=self._zone))
        at = {
            "weekend": pc.greater_equal(pc.day_of_week(times), FIRST_WEEKEND_DAY),
            "evening": pc.greater_equal(pc.hour(times), FIRST_EVENING_HOUR),
        }
        self._events += np.bincount(segments, minlength=self._count)
        for name, hits in at.items():
            chosen = segments[hits.to_numpy(zero_copy_only=False)]
            self._found[name] += np.bincount(chosen, minlength=self._count)

    def lifts(self, segment: int) -> dict[str, float]:
        """Share of a segment's events over the share of all, by name; nothing where there are too few events."""
        told = {}
        for name, counts in self._found.items():
            if self._events[segment] >= FEWEST_EVENTS and counts.sum():
                base = counts.sum() / self._events.sum()
                told[name] = float(counts[segment] / self._events[segment] / base)
        return told

"""Popularity and trend of what a user met in the 28 days before the cutoff T: means over her events.

| column | meaning |
|---|---|
| ``<of>_trend_mean`` | mean trend of the values in her events of ``[T - 28 d, T)`` (``item``, ``category``, …) |
| ``<of>_popularity_mean`` | mean popularity of these |

`value_traffic` says what trend and popularity of a value are. Events without a value in the column do not count; null
where none has one. Where the observation window is shorter than 28 days, it bounds her events, but not what is counted
of all users. Values are added in the block's order, so the same events give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.data.event_block import EventBlock, places_of
from segmenter_plugin.data.event_order import Integers, running
from segmenter_plugin.data.value_traffic import POPULAR_DAYS, ValueTraffic
from segmenter_plugin.schemas import trend_name


def trend_columns(
    block: EventBlock, starts: Integers, ends: Integers, cutoff: int, traffic: Mapping[str, ValueTraffic]
) -> dict[str, pa.Array]:
    """Means of each user's events.

    Args:
        block: The events.
        starts: (U,) first row of each user's observation window.
        ends: (U,) row after its last.
        cutoff: Microseconds since 1970 UTC.
        traffic: By column, what all users met.

    Returns:
        By `schemas.trend_name`, (U,) each.
    """
    if not traffic:
        return {}
    earlier = running(block.times < cutoff - POPULAR_DAYS * MICROS_PER_DAY)
    places, offsets = places_of(starts + (earlier[ends] - earlier[starts]), ends)
    user = np.repeat(np.arange(len(ends)), np.diff(offsets))
    columns: dict[str, pa.Array] = {}
    for name, met in traffic.items():
        codes = block.words[name].codes[places]
        of, which = user[codes > 0], codes[codes > 0]
        number = np.bincount(of, minlength=len(ends))
        for statistic, values in met.statistics(cutoff, block.words[name].entries).items():
            total = np.bincount(of, values[which], len(ends))
            mean = pa.array(total / np.maximum(number, 1), mask=number == 0)
            columns[trend_name(name, statistic)] = mean
    return columns

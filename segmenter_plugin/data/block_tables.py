"""Behaviour and labels of a block's users as of many cutoffs, in one pass over its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.block_activity import Windows, activity_columns
from segmenter_plugin.data.block_labels import label_columns
from segmenter_plugin.data.block_sequences import sequence_columns
from segmenter_plugin.data.event_block import EventBlock, microseconds
from segmenter_plugin.data.event_order import Integers
from segmenter_plugin.data.event_sums import EventSums
from segmenter_plugin.data.value_traffic import ValueTraffic
from segmenter_plugin.schemas import TIMESTAMP, behaviour_schema, labels_schema


@dataclass(frozen=True)
class TablesAsOf:
    """What is known of users at a cutoff, and what came of them; the same users in both, ascending.

    Attributes:
        cutoff: With a zone.
        behaviour: `schemas.behaviour_schema`, but that text in lists is a dictionary: cheap to make and to write
            (`block_files`).
        labels: `schemas.labels_schema`.
    """

    cutoff: datetime
    behaviour: pa.Table
    labels: pa.Table


def tables_as_of(
    block: EventBlock,
    cutoffs: Sequence[datetime],
    complete_through: datetime,
    config: Config,
    traffic: Mapping[str, ValueTraffic] | None = None,
) -> Iterator[TablesAsOf]:
    """Tables of each cutoff, one after the other.

    Args:
        block: All events of its users from the first cutoff's observation window to the last one's label windows.
        cutoffs: Exclusive right ends of observation windows, with a zone.
        complete_through: Events are complete before this time; a label window that ends later is censored.
        config: The configuration that the block was made with.
        traffic: Where `windows.trend_columns` names columns: what all users met of each, as of these cutoffs.
    """
    sums = EventSums.of(block, config)
    for cutoff in cutoffs:
        users, windows = _windows(block, microseconds(cutoff), config)
        sequences = sequence_columns(block, windows.first, windows.ends, config)
        activity = activity_columns(block, sums, windows, config, traffic or {})
        labels = label_columns(block, sums, users, config, cutoff=cutoff, complete_through=complete_through)
        keys = _keys(block, users, windows.cutoff)
        yield TablesAsOf(
            cutoff,
            _table(keys | sequences | activity, behaviour_schema(config, block.users.type)),
            _table(keys | labels, labels_schema(config, block.users.type)),
        )


def _windows(block: EventBlock, cutoff: int, config: Config) -> tuple[Integers, Windows]:
    """Users with an event in the observation window, and their windows."""
    observation = config.windows.observation_days
    lengths = sorted({*config.windows.activity_days, observation})
    ends = block.before(cutoff)
    starts = {days: block.before(cutoff - days * MICROS_PER_DAY) for days in lengths}
    users = np.flatnonzero(starts[observation] < ends)
    starts = {days: start[users] for days, start in starts.items()}
    return users, Windows(cutoff, starts, ends[users], observation)


def _keys(block: EventBlock, users: Integers, cutoff: int) -> dict[str, pa.Array]:
    times = pa.array(np.full(len(users), cutoff)).view(TIMESTAMP)
    return {Columns.user_id: block.users.take(pa.array(users)), Columns.event_timestamp: times}


def _table(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.Table:
    fields = [field.with_type(columns[field.name].type) for field in schema]
    return pa.table([columns[name] for name in schema.names], schema=pa.schema(fields))

"""What came of each user in the prediction windows after a cutoff.

| kind | label |
|---|---|
| binary | whether an event of the type happened |
| value | ``max(0, purchases - returns)``, in the owner's currency |
| multiclass | the highest rung of the ladder that was reached; "none" below the first |
| multilabel | the values of the target that events of the type had, sorted |
| multiclass with a target | the values that events of the ladder had, sorted, each with its highest rung |

Null means censored: the window was not over when the events end. Where it was, a user of whom nothing is heard has the
label false, 0, "none" or an empty list.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

from segmenter_plugin.columns import PURCHASE, RETURN
from segmenter_plugin.config import Config
from segmenter_plugin.data.coded_text import CodedText, entry_ranks
from segmenter_plugin.data.event_block import EventBlock, microseconds, places_of
from segmenter_plugin.data.event_order import Flags, Integers
from segmenter_plugin.data.event_sums import EventSums, OfType
from segmenter_plugin.schemas import label_fields
from segmenter_plugin.tasks import TaskConfig


def label_columns(
    block: EventBlock, sums: EventSums, users: Integers, config: Config, *, cutoff: datetime, complete_through: datetime
) -> dict[str, pa.Array]:
    """Labels of some users.

    Args:
        block: The events.
        sums: Of the block.
        users: (U,) places of the users in `block.users`.
        config: `[[tasks]]`.
        cutoff: With a zone.
        complete_through: Events are complete before this time; a window that ends later is censored.

    Returns:
        `schemas.label_fields`, (U,) each.
    """
    columns = {}
    for task, field in zip(config.tasks, label_fields(config), strict=True):
        start, end = task.window(cutoff)
        if end > complete_through:
            columns[field.name] = pa.nulls(len(users), field.type)
            continue
        starts, ends = (block.before(microseconds(time))[users] for time in (start, end))
        if task.target is None:
            columns[field.name] = _label(task, sums, config, starts=starts, ends=ends)
        else:
            columns[field.name] = _lists(task, block, sums, starts, ends)
    return columns


def _label(task: TaskConfig, sums: EventSums, config: Config, *, starts: Integers, ends: Integers) -> pa.Array:
    """Labels from each user's rows ``[starts, ends)``."""
    if task.kind == "binary":
        return pa.array(_has(task.event_type, sums, starts, ends))
    if task.kind == "value":
        minor = sums.minor_units(PURCHASE, starts, ends) - sums.minor_units(RETURN, starts, ends)
        return pa.array(np.maximum(minor, 0) / 10.0**config.events.currency_digits)
    rung = np.zeros(len(starts), np.int32)
    for height, name in enumerate(task.ladder, start=1):
        rung[_has(name, sums, starts, ends)] = height
    return pa.array(task.classes, pa.string()).take(pa.array(rung))


def _has(kind: str, sums: EventSums, starts: Integers, ends: Integers) -> Flags:
    counts = sums.types[kind].counts
    return counts[ends] > counts[starts]


def _lists(task: TaskConfig, block: EventBlock, sums: EventSums, starts: Integers, ends: Integers) -> pa.Array:
    """The different values of the target, sorted, among each user's events; with a ladder, the rung beside each."""
    words = block.words[str(task.target)]
    size, ranks = len(words.entries), entry_ranks(words.entries)
    by_type = [_pairs(words, ranks, sums.types[name], starts, ends) for name in task.event_types]
    pairs = by_type[0] if len(by_type) == 1 else np.unique(np.concatenate(by_type))
    bounds = np.searchsorted(pairs, np.arange(len(starts) + 1) * size).astype(np.int32)
    in_order = words.entries.take(pa.array(np.argsort(ranks)))
    values = in_order.take(pa.array(pairs % size))
    if task.form != "category":
        return pa.ListArray.from_arrays(pa.array(bounds), values)
    rung = np.zeros(len(pairs), np.int32)
    for height, reached in enumerate(by_type):
        rung[np.searchsorted(pairs, reached)] = height
    rungs = pa.array(task.ladder, pa.string()).take(pa.array(rung))
    return pa.ListArray.from_arrays(pa.array(bounds), pa.StructArray.from_arrays([values, rungs], ["value", "rung"]))


def _pairs(words: CodedText, ranks: Integers, events: OfType, starts: Integers, ends: Integers) -> Integers:
    """(M,) the different (user, value) pairs among events of a type, ascending: user * entries + the value's rank."""
    places, offsets = places_of(events.counts[starts].astype(np.int64), events.counts[ends].astype(np.int64))
    found = words.codes[events.rows[places]]
    user = np.repeat(np.arange(len(starts)), np.diff(offsets))[found > 0]
    return np.unique(user * len(words.entries) + ranks[found[found > 0]])

"""Per user, the last events before a cutoff as parallel lists, oldest first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import EventBlock, places_of
from segmenter_plugin.data.event_order import Integers
from segmenter_plugin.schemas import TIMESTAMP, sequence_fields


def sequence_columns(block: EventBlock, starts: Integers, ends: Integers, config: Config) -> dict[str, pa.Array]:
    """The last `sequences.length` events of each range of rows.

    Args:
        block: The events.
        starts: (U,) first row of each user's observation window.
        ends: (U,) row after its last.
        config: `sequences.length`, and which columns there are.

    Returns:
        `schemas.sequence_fields`, (U,) each; text in the lists is a dictionary.
    """
    places, offsets = places_of(np.maximum(starts, ends - config.sequences.length), ends)
    bounds = pa.array(offsets)
    columns: dict[str, pa.Array] = {}
    for field in sequence_fields(config):
        name = field.name.removesuffix("_sequence")
        if name == Columns.sequence_length:
            columns[field.name] = pa.array(np.diff(offsets))
            continue
        if name == Columns.event_timestamp:
            values = pa.array(block.times[places]).view(TIMESTAMP)
        elif name in block.numbers:
            # NaN is how the block says null.
            values = pa.array(block.numbers[name][places], from_pandas=True)
        else:
            values = block.words[name].take(places).dictionary()
        columns[field.name] = pa.ListArray.from_arrays(bounds, values)
    return columns

"""What the log has of one bucket of users, put together: each event once, whichever segments brought it.

What comes out depends on the set of the events alone, not on the segments they came in, so any chain of increments ends
where a rebuild does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.arrow_blobs import coded
from segmenter_plugin.data.event_block import EventBlock


@dataclass(frozen=True)
class BucketBlock:
    """The events of a bucket.

    Attributes:
        stored: The different rows, without what bots have beyond the cap of a day: what one segment would hold.
        resolved: Of those with one `event_id`, the earliest: what tables are made from.
        duplicates: Rows of a segment that were equal to one of another.
        capped: Rows beyond the cap that only the segments together reached.
    """

    stored: EventBlock
    resolved: EventBlock
    duplicates: int
    capped: int

    @classmethod
    def of(cls, segments: Sequence[pa.Table], config: Config) -> Self:
        """Put the rows of a bucket's segments together.

        Args:
            segments: Columns of `event_columns`, at least one table; within a table rows differ, and none is beyond
                the cap.
            config: The configuration that the events were cleaned with.
        """
        block = EventBlock.of(concatenated(segments), config)
        different = block.distinct()
        stored = different.capped(config.events.max_events_per_day)
        resolved = stored.without_duplicates()
        return cls(stored, resolved, len(block) - len(different), len(different) - len(stored))

    @property
    def corrected(self) -> int:
        """Rows that an earlier one with their `event_id` made void."""
        return len(self.stored) - len(self.resolved)

    def types(self) -> dict[str, int]:
        """Resolved events by type."""
        words = self.resolved.words[Columns.event_type]
        counts = np.bincount(words.codes, minlength=len(words.entries))
        names = words.entries.to_pylist()
        return {str(name): int(count) for name, count in zip(names, counts, strict=True) if count and name is not None}


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other; they may differ in what text is a dictionary."""
    is_coded = {field.name for table in tables for field in table.schema if pa.types.is_dictionary(field.type)}
    return pa.concat_tables([coded(table, is_coded) for table in tables])

"""Rows in order, cut into runs of one user's rows of one UTC day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.data.event_order import Flags, Integers, running


@dataclass(frozen=True)
class DayRuns:
    """R runs of N rows.

    Attributes:
        starts: (R,) first row of each.
        ends: (R,) row after its last.
        different: (R,) how many different rows it has.
        before: (N + 1,) how many different rows lie before each row.
    """

    starts: Integers
    ends: Integers
    different: Integers
    before: npt.NDArray[np.int32]

    @classmethod
    def of(cls, owners: npt.NDArray[np.integer], times: Integers, repeats: Flags) -> Self:
        """Cut rows that are in order.

        Args:
            owners: (N,) users.
            times: (N,) microseconds since 1970 UTC, ascending within each user.
            repeats: (N,) whether a row equals the one before it in every column.
        """
        days = times // MICROS_PER_DAY
        is_start = np.ones(len(owners), np.bool_)
        is_start[1:] = (owners[1:] != owners[:-1]) | (days[1:] != days[:-1])
        starts = np.flatnonzero(is_start)
        ends = np.append(starts[1:], len(owners)).astype(np.int64)
        before = running(~repeats)
        return cls(starts, ends, (before[ends] - before[starts]).astype(np.int64), before)

    def among_first(self, most: int) -> Flags:
        """(N,) whether a row is one of the first `most` different ones of its run, or repeats one of these."""
        return self.before[1:] - np.repeat(self.before[self.starts], self.ends - self.starts) <= most

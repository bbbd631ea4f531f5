"""Which users go through the network together: of like length, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

#: Positions of a forward pass on a CPU, padding included: what it computes on still fits the caches.
CPU_POSITIONS = 8_192
#: On a GPU: enough to fill it, and below 2 GB of intermediate values of the widest preset.
GPU_POSITIONS = 65_536


def by_positions(lengths: Ints, positions: int = CPU_POSITIONS) -> Iterator[Ints]:
    """Rows of like length, longest first, as many at a time as fit.

    Args:
        lengths: Events of each user, (N,).
        positions: Most positions of a batch once it is padded to its longest sequence, context token included; a
            longer sequence comes alone.

    Yields:
        Rows of a batch; each row is in one.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, positions // (int(lengths[order[start]]) + 1))
        yield order[start : start + count]
        start += count


def by_tokens(lengths: Ints, positions: int = GPU_POSITIONS) -> Iterator[Ints]:
    """As `by_positions`, for batches without padding: as many rows as have so many positions together."""
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order] + 1)
    start, before = 0, 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(ends, before + positions, side="right")))
        yield order[start:stop]
        start, before = stop, int(ends[stop - 1])

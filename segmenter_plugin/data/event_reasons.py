"""Why a row of the owner's is refused, and the record of which rows are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flags = npt.NDArray[np.bool_]

USER_ID_MISSING = "user_id_missing"
EVENT_TIMESTAMP_MISSING = "event_timestamp_missing"
EVENT_TIMESTAMP_NAIVE = "event_timestamp_naive"
EVENT_TIMESTAMP_UNPARSEABLE = "event_timestamp_unparseable"
EVENT_TIMESTAMP_ABSURD = "event_timestamp_absurd"
EVENT_TYPE_MISSING = "event_type_missing"
EVENT_TYPE_UNKNOWN = "event_type_unknown"
PRICE_UNPARSEABLE = "price_unparseable"
PRICE_ABSURD = "price_absurd"
PRICE_NEGATIVE = "price_negative"
QUANTITY_UNPARSEABLE = "quantity_unparseable"
QUANTITY_ABSURD = "quantity_absurd"
QUANTITY_NEGATIVE = "quantity_negative"

#: A row is refused for the first of these that applies.
REASONS = (
    USER_ID_MISSING,
    EVENT_TIMESTAMP_MISSING,
    EVENT_TIMESTAMP_NAIVE,
    EVENT_TIMESTAMP_UNPARSEABLE,
    EVENT_TIMESTAMP_ABSURD,
    EVENT_TYPE_MISSING,
    EVENT_TYPE_UNKNOWN,
    QUANTITY_UNPARSEABLE,
    QUANTITY_ABSURD,
    QUANTITY_NEGATIVE,
    PRICE_UNPARSEABLE,
    PRICE_ABSURD,
    PRICE_NEGATIVE,
)


class Refusals:
    """Which of N rows are refused, and for what; nothing is allocated until the first one is.

    Args:
        rows: How many rows there are.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._codes: npt.NDArray[np.uint8] | None = None

    def refuse(self, reason: str, flags: Flags | None) -> None:
        """Refuse the rows of some flags, unless they are refused already.

        Args:
            reason: One of `REASONS`; they must come in this order.
            flags: (N,) or None for no row.
        """
        if flags is None or not flags.any():
            return
        if self._codes is None:
            self._codes = np.zeros(self._rows, np.uint8)
        self._codes[flags & (self._codes == 0)] = REASONS.index(reason) + 1

    @property
    def kept(self) -> Flags | None:
        """(N,) which rows are not refused; None where all are kept."""
        return None if self._codes is None else self._codes == 0

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """(R,) places of refused rows, ascending."""
        return np.zeros(0, np.int64) if self._codes is None else np.flatnonzero(self._codes)

    @property
    def reasons(self) -> pa.StringArray:
        """(R,) why, in the order of `places`."""
        codes = np.zeros(0, np.uint8) if self._codes is None else self._codes[self._codes > 0]
        return pa.array(REASONS, pa.string()).take(pa.array(codes - np.uint8(1)))


def null_flags(column: pa.Array | pa.ChunkedArray) -> Flags | None:
    """(N,) which values are null; None where none is."""
    return column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None

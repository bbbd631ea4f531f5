"""Whether two tables hold the same rows; says in which column of which user they first differ."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Endings of columns that are quotients: they may be divided in another order.
_QUOTIENTS = ("_mean", "_mean_days", "_std", "_std_days", "recency_days", "tenure_days")


def differences(found: pa.Table, expected: pa.Table) -> list[str]:
    """What differs, a sentence a column; empty where all is equal.

    Counts, sums, lists and text must be equal; means, deviations and ages to 1e-12 of their size.
    """
    if sorted(found.column_names) != sorted(expected.column_names):
        return [f"columns differ: {sorted(set(found.column_names) ^ set(expected.column_names))}"]
    found, expected = (table.sort_by("user_id").combine_chunks() for table in (found, expected))
    if len(found) != len(expected) or not _same(found["user_id"], expected["user_id"]):
        return [f"users differ: {len(found)} and {len(expected)} rows"]
    return [text for name in expected.column_names if (text := _difference(name, found, expected))]


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    return one.combine_chunks().equals(other.cast(one.type).combine_chunks())


def _difference(name: str, found: pa.Table, expected: pa.Table) -> str:
    mine, theirs = found[name], expected[name].cast(found[name].type)
    if name.endswith(_QUOTIENTS) and pa.types.is_floating(mine.type):
        one, other = (pc.fill_null(column, float("inf")).to_numpy() for column in (mine, theirs))
        is_equal = np.isclose(one, other, rtol=1e-12, atol=1e-12)
    elif _same(mine, theirs):
        return ""
    else:
        is_equal = np.array([a == b for a, b in zip(mine.to_pylist(), theirs.to_pylist(), strict=True)])
    if is_equal.all():
        return ""
    place = int(np.flatnonzero(~is_equal)[0])
    values = (column[place].as_py() for column in (found["user_id"], mine, theirs))
    return "{} differs for {} users; of {!r} it is {!r} and not {!r}".format(name, int((~is_equal).sum()), *values)

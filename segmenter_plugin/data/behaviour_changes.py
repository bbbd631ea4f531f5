"""Whose behaviour changed from one cutoff to a later one in more than age: column by column, a file at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns

Flags = npt.NDArray[np.bool_]

_KEYS = (Columns.user_id, Columns.event_timestamp)


def is_age(column: str) -> bool:
    """Whether an aggregate counts days from an event to the cutoff, so that it grows where nothing happens."""
    return column == "tenure_days" or column.endswith("recency_days")


def changed_rows(before: Path | None, after: Path, passed: timedelta, shared: Collection[str] = ()) -> Flags:
    """Which rows of a behaviour file differ from the user's row at an earlier cutoff by more than that.

    A user who is not in the earlier file counts as changed: in files that were split otherwise nearly everyone does,
    which costs time and is never wrong.

    Args:
        before: File of the same bucket at the earlier cutoff; None where there is none.
        after: File of behaviour.
        passed: From the earlier cutoff to the later one.
        shared: Columns that other users' events move (`schemas.trend_names`): only null and not null tell them apart.

    Returns:
        (N,) flags of the rows of `after`. A user is unchanged if the sequences and all aggregates are equal, and the
        ages have grown by exactly `passed`. Beside the rows' places two columns are held at a time.
    """
    new = pq.ParquetFile(after)
    count = new.metadata.num_rows
    if before is None:
        return np.ones(count, dtype=np.bool_)
    old = pq.ParquetFile(before)
    if not new.schema_arrow.equals(old.schema_arrow):
        return np.ones(count, dtype=np.bool_)
    places = pc.index_in(_read(new, Columns.user_id), value_set=_read(old, Columns.user_id))
    is_known = pc.is_valid(places).to_numpy(zero_copy_only=False)
    here, there = np.flatnonzero(is_known), places.drop_null().to_numpy().astype(np.int64)
    changed = ~is_known
    for name in new.schema_arrow.names:
        if name in _KEYS or not len(here):
            continue
        earlier, later = _read(old, name).take(pa.array(there)), _read(new, name).take(pa.array(here))
        differs = _one_is_null(earlier, later) if name in shared else _differs(name, earlier, later, passed)
        changed[here[differs]] = True
        # The next column is compared for those only of whom nothing has told them apart yet.
        here, there = here[~differs], there[~differs]
    return changed


def users_among(users: pa.Array, files: Sequence[Path]) -> Flags:
    """(N,) which users have a row in any of the files."""
    found = np.zeros(len(users), dtype=np.bool_)
    for path in files:
        held = _read(pq.ParquetFile(path), Columns.user_id)
        found |= pc.is_in(users, value_set=held.cast(users.type)).to_numpy(zero_copy_only=False)
    return found


def users_of(path: Path) -> pa.Array:
    """(N,) ids of a file, in its order."""
    return _read(pq.ParquetFile(path), Columns.user_id)


def _read(file: pq.ParquetFile, column: str) -> pa.Array:
    chunks = file.read(columns=[column], use_threads=False).column(0)
    return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks or [pa.array([], chunks.type)])


def _differs(name: str, old: pa.Array, new: pa.Array, passed: timedelta) -> Flags:
    if is_age(name):
        return _unequal(_micros(old, passed), _micros(new, timedelta()))
    return _unequal_lists(old, new) if pa.types.is_list(old.type) else _unequal(old, new)


def _micros(days: pa.Array, more: timedelta) -> pa.Array:
    """Days as the whole microseconds that they were divided from (a double tells these apart for 285 years)."""
    micros = np.rint(pc.fill_null(days, 0).to_numpy(zero_copy_only=False) * MICROS_PER_DAY).astype(np.int64)
    is_null = days.is_null().to_numpy(zero_copy_only=False)
    return pa.array(micros + more // timedelta(microseconds=1), mask=is_null)


def _unequal(old: pa.Array, new: pa.Array) -> Flags:
    differs: Flags = pc.fill_null(pc.not_equal(old, new), False).to_numpy(zero_copy_only=False)
    return differs | _one_is_null(old, new)


def _one_is_null(old: pa.Array, new: pa.Array) -> Flags:
    return pc.xor(old.is_null(), new.is_null()).to_numpy(zero_copy_only=False)


def _unequal_lists(old: pa.ListArray, new: pa.ListArray) -> Flags:
    """Lists differ in length (null has none), or in a value."""
    lengths = [pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False) for lists in (old, new)]
    unequal: Flags = lengths[0] != lengths[1]
    same = np.flatnonzero(~unequal & (lengths[0] > 0))
    if len(same):
        # Only now do the values of both lie side by side.
        values = _unequal(*(lists.take(pa.array(same)).flatten() for lists in (old, new)))
        starts = np.cumsum(lengths[0][same]) - lengths[0][same]
        unequal[same] = np.logical_or.reduceat(values, starts)
    return unequal

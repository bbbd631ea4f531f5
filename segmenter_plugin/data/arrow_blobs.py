"""Tables as single binary values, for a shuffle that moves few large values instead of many rows.

Text of few different values travels as a dictionary: smaller, and hashed once where it is coded and not again where it
is grouped. A blob is compressed here, and not by the shuffle: what is never inflated by the JVM is copied cheaper, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.data.coded_text import one_array

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
#: With fewer rows than this share of a dictionary's entries, sorting the rows finds the entries in use sooner.
_SPARSE = 8


def pack(table: pa.Table) -> bytes:
    """A table as one binary value."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(blobs: Sequence[bytes | pa.Buffer]) -> pa.Table:
    """The rows of several packed tables, at least one, which differ at most in what text is a dictionary."""
    tables = [pa.ipc.open_stream(blob).read_all() for blob in blobs]
    schemas = [table.schema for table in tables]
    if all(schema.equals(schemas[0]) for schema in schemas):
        return pa.concat_tables(tables)
    is_coded = {field.name for schema in schemas for field in schema if pa.types.is_dictionary(field.type)}
    return pa.concat_tables([coded(table, is_coded) for table in tables])


def coded(table: pa.Table, names: set[str]) -> pa.Table:
    """A table with some of its columns of text as dictionaries."""
    for place, name in enumerate(table.column_names):
        if name in names and not pa.types.is_dictionary(table[name].type):
            table = table.set_column(place, name, table[name].dictionary_encode())
    return table


def in_one_piece(table: pa.Table) -> pa.Table:
    """A table whose columns are one chunk each, with one dictionary for all rows of a column."""
    columns = {name: one_array(table[name].unify_dictionaries()) for name in table.column_names}
    return pa.table(columns, schema=table.schema)


def split(
    table: pa.Table, parts: npt.NDArray[np.int32], count: int, places: npt.NDArray[np.int64] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each part that has any, in the order that they have.

    Args:
        table: Rows in columns of one chunk each.
        parts: (N,) which part each row belongs to, below `count`.
        count: How many parts there are.
        places: (N,) where in the table the rows are; all of them, if not given.
    """
    order = np.argsort(parts.astype(np.uint16) if count <= 1 << 16 else parts, kind="stable")
    order = order if places is None else places[order]
    rows = table.take(pa.array(order))
    ends = np.cumsum(np.bincount(parts, minlength=count))
    for part in np.flatnonzero(np.diff(ends, prepend=0)):
        start = ends[part - 1] if part else 0
        yield int(part), compact(rows.slice(start, ends[part] - start))


def compact(table: pa.Table) -> pa.Table:
    """A slice of a table, with dictionaries that hold what its rows use and nothing else."""
    columns = [
        _compact_dictionary(one_array(column)) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


def _compact_dictionary(column: pa.DictionaryArray) -> pa.DictionaryArray:
    indices, entries = column.indices, column.dictionary
    codes = indices.drop_null().to_numpy() if indices.null_count else indices.to_numpy()
    if len(codes) * _SPARSE < len(entries):
        used, codes = np.unique(codes, return_inverse=True)
    else:
        is_used = np.zeros(len(entries), np.bool_)
        is_used[codes] = True
        used, codes = np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[codes]
    return pa.DictionaryArray.from_arrays(_with_nulls_of(indices, codes), entries.take(pa.array(used)))


def _with_nulls_of(indices: pa.Array, codes: npt.NDArray[np.integer]) -> pa.Array:
    if not indices.null_count:
        return pa.array(codes.astype(np.int32))
    is_null = pc.is_null(indices).to_numpy(zero_copy_only=False)
    spread = np.zeros(len(indices), np.int32)
    spread[~is_null] = codes
    return pa.array(spread, mask=is_null)

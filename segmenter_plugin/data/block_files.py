"""Tables of a block as Parquet files.

Most of what a build costs is writing, so each column is written in the way that costs it least:

* Text in lists is a dictionary in memory already and is written as that one; numbering it anew would take as long as
  all else. The file does not say so: whoever reads it gets plain text.
* Numbers in lists repeat (prices do), so they get a dictionary; times do not.
* Counts are small whole numbers, which differ little from row to row: `DELTA_BINARY_PACKED`.
* zstd where it saves much, lz4 elsewhere.
* Statistics stand for the keys only, which are all that readers skip by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.arrow_blobs import compact
from segmenter_plugin.data.coded_text import one_array

#: A dictionary with so many times fewer entries than values is not worth looking through.
_FEW = 16
_KEYS = (Columns.user_id, Columns.event_timestamp)


def write_block_table(table: pa.Table, path: Path, rows_per_group: int) -> None:
    """Write behaviour or labels as one Parquet file.

    Args:
        table: As `tables_as_of` gives it.
        path: Where to; what is there is replaced.
        rows_per_group: Rows of a row group.
    """
    numbers = [field.name for field in table.schema if pa.types.is_integer(field.type) and field.name not in _KEYS]
    places = dict(_places(table.schema))
    coded = [place for place, field in places.items() if _is_repetitive(field)]
    options = {
        "compression": {place: "zstd" if place in coded else "lz4" for place in places},
        "use_dictionary": coded,
        "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        "write_statistics": list(_KEYS),
        "store_schema": False,
    }
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        for start in range(0, len(table), rows_per_group):
            writer.write_table(_compact_lists(table.slice(start, rows_per_group)))


def _places(schema: pa.Schema) -> Iterator[tuple[str, pa.Field]]:
    """Where Parquet keeps each column's values."""
    for field in schema:
        place = f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
            yield from ((f"{place}.{part.name}", field) for part in field.type.value_type)
        else:
            yield place, field


def _is_repetitive(field: pa.Field) -> bool:
    """Whether few different values are likely."""
    if pa.types.is_list(field.type):
        return not pa.types.is_timestamp(field.type.value_type)
    return field.name not in _KEYS and pa.types.is_string(field.type)


def _compact_lists(table: pa.Table) -> pa.Table:
    """A slice of a table, its dictionaries in lists without what is not in use: a row group gets all they hold."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for name, column in columns.items():
        if pa.types.is_list(column.type) and pa.types.is_dictionary(column.type.value_type):
            lists = one_array(column)
            values = lists.flatten()
            if _FEW * len(values.dictionary) <= len(values):
                continue
            used = compact(pa.table({name: values}))[name]
            bounds = pc.subtract(lists.offsets, lists.offsets[0])
            columns[name] = pa.ListArray.from_arrays(bounds, one_array(used), type=column.type)
    return pa.table(columns, schema=table.schema)

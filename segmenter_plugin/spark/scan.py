"""Plain Parquet files of a file system that all workers share, or of a bucket, read without Spark's reader.

Row groups are dealt out to tasks by their size; a task reads only the columns that are needed, batch by batch. The
files of one source may differ: a column that some files lack is absent there, and a type may have been widened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_cleaner import EventCleaner
from segmenter_plugin.data.event_order import Integers
from segmenter_plugin.errors import EventsError

#: Compressed bytes of the needed columns that one task reads, if there is enough for every core.
_MOST_SPLIT_BYTES, _LEAST_SPLIT_BYTES = 96 << 20, 4 << 20
_TASKS_PER_CORE = 3
_MOST_BATCH_ROWS, _LEAST_BATCH_ROWS, _BATCH_BYTES = 1 << 18, 1 << 12, 64 << 20
_REQUIRED = (Columns.user_id, Columns.item_id, Columns.event_timestamp, Columns.event_type)
#: A row group that is larger is read through a small window, which is slower, instead of at once.
_AT_ONCE_BYTES, _WINDOW_BYTES = 256 << 20, 1 << 20


@dataclass(frozen=True)
class Piece:
    """Some row groups of a file."""

    path: str
    row_groups: tuple[int, ...]


@dataclass(frozen=True)
class ParquetScan:
    """What there is to read, cut into tasks.

    Attributes:
        splits: The pieces of each task.
        types: Mapped columns by the owner's name, with the type that they have in the first file that holds them.
    """

    splits: tuple[tuple[Piece, ...], ...]
    types: dict[str, pa.DataType]


@dataclass(frozen=True)
class RawRows:
    """Some of the owner's rows.

    Attributes:
        rows: The columns that the cleaner needs.
        cleaner: Made for their schema.
        whole: Some of these rows, by their places (ascending), with all columns of the file.
    """

    rows: pa.Table
    cleaner: EventCleaner
    whole: Callable[[Integers], pa.Table]


def plan_scan(files: Sequence[Path | str], config: Config, cores: int) -> ParquetScan | None:
    """Look at the files' footers and deal out their row groups.

    Args:
        files: Paths of Parquet files, or their addresses in a bucket.
        config: Says which columns are needed.
        cores: How many tasks run at a time.

    Returns:
        None where a mapped column is in none of the files: it may stand in their folders' names, which Spark reads.

    Raises:
        EventsError: A file cannot be read, or does not fit the others or the configuration; the message names it.
    """
    wanted = set(config.events.columns.mapped.values())
    footers = {str(path): _footer(path) for path in files}
    schemas = {path: _owner_schema(footer) for path, footer in footers.items()}
    types: dict[str, pa.DataType] = {}
    for schema in schemas.values():
        types = {field.name: field.type for field in schema if field.name in wanted} | types
    if wanted - set(types):
        return None
    _check_schemas(schemas, types, config)
    sized = [
        (Piece(path, (group,)), _group_bytes(footer.row_group(group), wanted))
        for path, footer in footers.items()
        for group in range(footer.num_row_groups)
    ]
    total = sum(size for _, size in sized)
    most = min(_MOST_SPLIT_BYTES, max(_LEAST_SPLIT_BYTES, total // (_TASKS_PER_CORE * cores)))
    return ParquetScan(tuple(_dealt(sized, most)), types)


def read_split(pieces: Sequence[Piece], types: dict[str, pa.DataType], config: Config) -> Iterator[RawRows]:
    """Read the rows of one task, batch by batch.

    Args:
        pieces: What to read.
        types: `ParquetScan.types`.
        config: Says which columns are needed.

    Raises:
        EventsError: A file breaks off; the message names it.
    """
    for piece in pieces:
        try:
            yield from _read_piece(piece, types, config)
        except (pa.ArrowException, OSError) as error:
            raise _broken(piece.path, error) from error


def _read_piece(piece: Piece, types: dict[str, pa.DataType], config: Config) -> Iterator[RawRows]:
    footer = _footer(piece.path)
    wanted = set(types)
    schema = _owner_schema(footer)
    cleaner = EventCleaner.of(_aligned_schema(schema, types, config), config)
    needed = [name for name in schema.names if name in wanted]
    with pq.ParquetFile(piece.path, metadata=footer, **_options(footer, piece, needed)) as file:
        size = sum(_group_bytes(footer.row_group(group), wanted, packed=False) for group in piece.row_groups)
        count = sum(footer.row_group(group).num_rows for group in piece.row_groups)
        batch_rows = min(_MOST_BATCH_ROWS, max(_LEAST_BATCH_ROWS, count * _BATCH_BYTES // max(size, 1)))
        others = _FurtherColumns(piece, [name for name in schema.names if name not in wanted], batch_rows)
        start = 0
        for batch in file.iter_batches(batch_rows, list(piece.row_groups), needed, use_threads=False):
            rows = _instants(pa.Table.from_batches([batch]), schema)
            whole = _whole_rows(rows, others, start, schema.names)
            yield RawRows(_aligned(rows, types), cleaner, whole)
            start += batch.num_rows


def _whole_rows(
    rows: pa.Table, others: _FurtherColumns, start: int, names: Sequence[str]
) -> Callable[[Integers], pa.Table]:
    def whole(places: Integers) -> pa.Table:
        found = rows.take(pa.array(places))
        for name, column in others.take(places + start).items():
            found = found.append_column(name, column)
        return found.select(list(names))

    return whole


class _FurtherColumns:
    """Columns of a piece that are wanted of few rows: read when they are asked for, and only as far."""

    def __init__(self, piece: Piece, names: list[str], batch_rows: int) -> None:
        self._names = names
        self._path = piece.path
        self._batches = self._read(piece, batch_rows)
        self._batch: pa.Table | None = None
        self._start = 0

    def _read(self, piece: Piece, batch_rows: int) -> Iterator[pa.Table]:
        with pq.ParquetFile(piece.path) as file:
            for batch in file.iter_batches(batch_rows, list(piece.row_groups), self._names, use_threads=False):
                yield pa.Table.from_batches([batch])

    def take(self, places: Integers) -> dict[str, pa.ChunkedArray]:
        """The columns' values at some places of the piece, ascending and beyond those asked before."""
        if not self._names:
            return {}
        try:
            return self._taken(places)
        except (pa.ArrowException, OSError) as error:
            raise _broken(self._path, error) from error

    def _taken(self, places: Integers) -> dict[str, pa.ChunkedArray]:
        found = []
        while len(places):
            if self._batch is None:
                self._batch = next(self._batches)
            end = self._start + len(self._batch)
            here = places[places < end]
            found.append(self._batch.take(pa.array(here - self._start)))
            places = places[len(here) :]
            if len(places):
                self._batch, self._start = None, end
        table = pa.concat_tables(found)
        return {name: table[name] for name in self._names}


def _footer(path: Path | str) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise EventsError(
            f"{str(path)!r} is not a Parquet file: {_first_line(error)}.",
            hint='set [events] format = "csv" if it is text; else write it again or take it away.',
        ) from error


def _broken(path: str, error: Exception) -> EventsError:
    return EventsError(
        f"the Parquet file {path!r} breaks off or is damaged: {_first_line(error)}.",
        hint="write it again or take it away.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _owner_schema(footer: pq.FileMetaData) -> pa.Schema:
    """A file's columns; old times of 96 bits, which are instants, say so."""
    schema = footer.schema.to_arrow_schema()
    for place in range(len(footer.schema)):
        column = footer.schema.column(place)
        if column.physical_type == "INT96" and column.path == column.name:
            at = schema.get_field_index(column.name)
            schema = schema.set(at, pa.field(column.name, pa.timestamp("us", "UTC")))
    return schema.remove_metadata()


def _instants(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the types that `_owner_schema` says; pyarrow shows 96 bit times without a zone."""
    for place, field in enumerate(rows.schema):
        wanted = schema.field(field.name).type
        if pa.types.is_timestamp(wanted) and field.type != wanted:
            rows = rows.set_column(place, field.name, rows[field.name].cast(wanted))
    return rows


def _check_schemas(schemas: dict[str, pa.Schema], types: dict[str, pa.DataType], config: Config) -> None:
    """Refuse a file that lacks what every event needs, cannot be cleaned, or holds users of another kind."""
    mapped = config.events.columns.mapped
    required = {mapped[name] for name in _REQUIRED if name in mapped}
    user_types: dict[pa.DataType, str] = {}
    for path, schema in schemas.items():
        missing = sorted(required - set(schema.names))
        if missing:
            raise EventsError(
                f"{path!r} lacks the columns {missing}, which other files of the events have; it has {schema.names}.",
                hint="write it with the same columns, or take it away.",
            )
        aligned = _aligned_schema(schema, types, config)
        cleaned = EventCleaner.of(aligned, config).clean(aligned.empty_table()).events
        user_types.setdefault(cleaned.schema.field(Columns.user_id).type, path)
    if len(user_types) > 1:
        kinds = ", ".join(f"{kind} in {path!r}" for kind, path in user_types.items())
        raise EventsError(
            f"column {mapped[Columns.user_id]!r} (user_id) has different types: {kinds}.",
            hint="write all files with whole numbers, or all with text.",
        )


def _aligned_schema(schema: pa.Schema, types: dict[str, pa.DataType], config: Config) -> pa.Schema:
    """The needed columns of a file, in the order in which `_aligned` has them."""
    wanted = set(config.events.columns.mapped.values())
    fields = [field for field in schema if field.name in wanted]
    return pa.schema([*fields, *(pa.field(name, types[name]) for name in types if name not in schema.names)])


def _aligned(rows: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    """Rows with a column of nulls for each that their file lacks."""
    for name, kind in types.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(rows), kind))
    return rows


def _options(footer: pq.FileMetaData, piece: Piece, needed: Sequence[str]) -> dict[str, object]:
    largest = max(footer.row_group(group).total_byte_size for group in piece.row_groups)
    options: dict[str, object] = {
        "coerce_int96_timestamp_unit": "us",
        "read_dictionary": _repeating(footer, piece, needed),
    }
    if largest > _AT_ONCE_BYTES:
        options |= {"pre_buffer": False, "buffer_size": _WINDOW_BYTES}
    return options


def _repeating(footer: pq.FileMetaData, piece: Piece, needed: Sequence[str]) -> list[str]:
    """Columns of text that lie in the file as a dictionary: they are read as such, for less.

    Writers give up a dictionary that has grown beyond some 1 MB, and say so nowhere; but then the values themselves
    take more room than their numbers would.
    """
    schema = footer.schema.to_arrow_schema()
    is_text = {field.name for field in schema if pa.types.is_string(field.type)} & set(needed)
    group = footer.row_group(piece.row_groups[0])
    columns = (group.column(place) for place in range(group.num_columns))
    return [
        column.path_in_schema
        for column in columns
        if column.path_in_schema in is_text
        and column.has_dictionary_page
        and column.total_uncompressed_size <= 4 * column.num_values + (1 << 20)
    ]


def _group_bytes(group: pq.RowGroupMetaData, wanted: set[str], *, packed: bool = True) -> int:
    columns = (group.column(place) for place in range(group.num_columns))
    return sum(
        column.total_compressed_size if packed else column.total_uncompressed_size
        for column in columns
        if column.path_in_schema.split(".")[0] in wanted or column.path_in_schema in wanted
    )


def _dealt(sized: Sequence[tuple[Piece, int]], most: int) -> Iterator[tuple[Piece, ...]]:
    """Pieces in order, as many in a split as stay within `most` bytes; neighbours in a file are joined."""
    split: list[Piece] = []
    filled = 0
    for piece, size in sized:
        if split and filled + size > most:
            yield tuple(split)
            split, filled = [], 0
        if split and split[-1].path == piece.path:
            split[-1] = Piece(piece.path, split[-1].row_groups + piece.row_groups)
        else:
            split.append(piece)
        filled += size
    if split:
        yield tuple(split)

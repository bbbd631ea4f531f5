"""A bounded look at the owner's events: which columns a file, folder or glob has, and some rows from all along it."""

from __future__ import annotations

import glob
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from segmenter_plugin.errors import EventsError

SAMPLE_ROWS = 200_000
_FILES_READ = 16
_TAIL_BYTES = 8 << 20
_SMALL_FILE_BYTES = 4 * _TAIL_BYTES
_SUFFIXES = {"parquet": (".parquet", ".pq"), "csv": (".csv", ".csv.gz", ".csv.bz2", ".csv.zst")}

Format = Literal["parquet", "csv"]


@dataclass(frozen=True)
class EventSample:
    """Some of the events.

    Attributes:
        format: How they are stored.
        table: At most about `SAMPLE_ROWS` rows, first and last among them. A CSV's columns are all strings.
        row_count: Rows in all files where the format tells, else None.
        largest: Largest value of a column over all rows, for columns whose Parquet statistics tell.
    """

    format: Format
    table: pa.Table
    row_count: int | None
    largest: dict[str, object]


def read_sample(path: str) -> EventSample:
    """Read a sample of the events.

    Args:
        path: A Parquet or CSV file, a folder of such files, or a glob.

    Raises:
        EventsError: Nothing is there, it is neither Parquet nor CSV, it cannot be read, or it holds no rows.
    """
    files, file_format = _find_files(path)
    try:
        sample = _parquet_sample(files) if file_format == "parquet" else _csv_sample(files)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, EOFError) as error:
        raise EventsError(
            f"the events in {path!r} cannot be read as {file_format}: {error}.",
            hint="check that all files are whole, of one format, and have the same columns.",
        ) from error
    if sample.table.num_rows == 0:
        raise EventsError(f"the events in {path!r} hold no rows.", hint="point --events at the files that hold data.")
    return sample


def _find_files(path: str) -> tuple[list[Path], Format]:
    place = Path(path)
    if place.is_file():
        found = [place]
    elif place.is_dir():
        found = [file for file in place.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(place))]
    else:
        found = [Path(name) for name in glob.glob(path, recursive=True) if Path(name).is_file()]
    by_format: dict[Format, list[Path]] = {
        "parquet": sorted(file for file in found if file.name.lower().endswith(_SUFFIXES["parquet"])),
        "csv": sorted(file for file in found if file.name.lower().endswith(_SUFFIXES["csv"])),
    }
    if not found:
        raise EventsError(f"there are no events at {path!r}.", hint="give an existing file, folder or quoted glob.")
    if by_format["parquet"] and by_format["csv"]:
        raise EventsError(
            f"{path!r} holds both Parquet and CSV files.", hint='name one kind with a glob, such as "events/*.parquet".'
        )
    for file_format, files in by_format.items():
        if files:
            return files, file_format
    raise EventsError(
        f"{found[0].name!r} is neither Parquet nor CSV; file names must end in .parquet or .csv.",
        hint="convert the events, or rename the files.",
    )


def _is_hidden(relative: Path) -> bool:
    """Readers of folders (Spark, Arrow) skip what begins with a dot or an underscore."""
    return any(part.startswith((".", "_")) for part in relative.parts)


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` places, even, first and last included."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, wanted)).round()})


def _parquet_sample(files: list[Path]) -> EventSample:
    metadata = [pq.read_metadata(file) for file in files]
    groups = [(file, group) for file, one in enumerate(metadata) for group in range(one.num_row_groups)]
    chosen = [groups[place] for place in _spread(len(groups), 4 * _FILES_READ)] if groups else []
    share = SAMPLE_ROWS // max(len(chosen), 1)
    tables = [pq.read_schema(files[0]).empty_table()]
    for file, group in chosen:
        rows = next(pq.ParquetFile(files[file]).iter_batches(batch_size=share, row_groups=[group]), None)
        if rows is not None:
            tables.append(pa.Table.from_batches([rows]))
    table = pa.concat_tables([_without_dictionaries(one) for one in tables], promote_options="permissive")
    total = sum(one.num_rows for one in metadata)
    return EventSample("parquet", table.replace_schema_metadata(None), total, _largest(metadata))


def _without_dictionaries(table: pa.Table) -> pa.Table:
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _largest(metadata: list[pq.FileMetaData]) -> dict[str, object]:
    largest: dict[str, object] = {}
    incomplete: set[str] = set()
    for group in (one.row_group(number) for one in metadata for number in range(one.num_row_groups)):
        for column in (group.column(number) for number in range(group.num_columns)):
            name, statistics = column.path_in_schema, column.statistics
            if statistics is None or not statistics.has_min_max:
                incomplete.add(name)
            elif name not in largest or statistics.max > largest[name]:
                largest[name] = statistics.max
    return {name: value for name, value in largest.items() if name not in incomplete}


def _csv_sample(files: list[Path]) -> EventSample:
    chosen = [files[place] for place in _spread(len(files), _FILES_READ)]
    share = SAMPLE_ROWS // (len(chosen) + 1)
    tables = [_csv_head(file, share) for file in chosen]
    if tables[-1].num_rows == share:
        tables.append(_csv_rest(chosen[-1], tables[-1].column_names, share))
    return EventSample("csv", pa.concat_tables(tables), None, {})


def _csv_head(file: Path, rows: int) -> pa.Table:
    with pa.input_stream(str(file)) as stream:
        names = _header(file, stream.read(1 << 16))
    for encoding in ("utf8", "latin1"):
        try:
            return _strings(str(file), names, encoding, rows)
        except pa.ArrowInvalid as error:
            if encoding == "latin1" or "UTF8" not in str(error):
                raise
    raise EventsError(f"{file.name!r} is not text.", hint="save the events as UTF-8.")


def _header(file: Path, start: bytes) -> list[str]:
    first = start.splitlines()[0] if start.strip() else b""
    if not first:
        raise EventsError(f"{file.name!r} is empty.", hint="point --events at the files that hold data.")
    table = pc_csv.read_csv(io.BytesIO(first + b"\n"), read_options=pc_csv.ReadOptions(encoding="latin1"))
    names = [name.removeprefix("\ufeff").removeprefix("ï»¿") for name in table.column_names]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise EventsError(
            f"{file.name!r} is not separated by commas; its first line is {names[0][:80]!r}.",
            hint="write it with commas and one header line, or as Parquet.",
        )
    return names


def _strings(source: str | io.BytesIO, names: list[str], encoding: str, rows: int, skip: int = 1) -> pa.Table:
    """The first rows of a CSV, all columns as strings: what a column holds is judged on all of them, not the first."""
    reader = pc_csv.open_csv(
        source,
        read_options=pc_csv.ReadOptions(column_names=names, skip_rows=skip, encoding=encoding, block_size=1 << 22),
        parse_options=pc_csv.ParseOptions(newlines_in_values=False, invalid_row_handler=lambda _row: "skip"),
        convert_options=pc_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=["", "NULL", "null"]
        ),
    )
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if count >= rows:
            break
    return pa.Table.from_batches(batches, reader.schema).slice(0, rows)


def _csv_rest(file: Path, names: list[str], rows: int) -> pa.Table:
    """The last `rows` rows of a file whose first `rows` are read already: they tell until when the events go."""
    if file.stat().st_size <= _SMALL_FILE_BYTES:
        whole = _csv_head(file, sys.maxsize)
        return whole.slice(max(rows, whole.num_rows - rows))
    # A large compressed file cannot be entered at its end.
    tail = _csv_tail(file, names) if file.suffix.lower() == ".csv" else _csv_head(file, 0)
    return tail.slice(max(0, tail.num_rows - rows))


def _csv_tail(file: Path, names: list[str]) -> pa.Table:
    with file.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - _TAIL_BYTES))
        rest = stream.read()
    # The first line is cut somewhere; a quoted line break before it costs some skipped rows, no more.
    whole = rest[rest.find(b"\n") + 1 :]
    try:
        return _strings(io.BytesIO(whole), names, "utf8", sys.maxsize, skip=0)
    except pa.ArrowInvalid:
        return _strings(io.BytesIO(whole), names, "latin1", sys.maxsize, skip=0)

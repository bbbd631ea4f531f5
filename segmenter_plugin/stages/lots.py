"""What the owner's events consist of now, and which part of it the log has not consumed."""

from __future__ import annotations

import csv
import gzip
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import file_fingerprints
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.bucket_files import bucket_files
from segmenter_plugin.spark.files import local_files
from segmenter_plugin.spark.output import LazySession

logger = logging.getLogger(__name__)

#: What to do where an increment is not possible.
REBUILD = "build without --from: all events are then cleaned anew."


@dataclass(frozen=True)
class Lot:
    """Some of the owner's files, or a table.

    Attributes:
        states: Each file with what tells whether it changed.
        files: The files, where they lie on this machine; or the addresses of Parquet files in a bucket.
        is_listed: Whether the source tells of which files it is made; otherwise `states` never repeats.
    """

    states: dict[str, str]
    files: tuple[Path | str, ...] | None
    is_listed: bool = True

    @classmethod
    def whole(cls, config: Config, sessions: LazySession) -> Lot:
        """All of the owner's events, as they are now.

        Raises:
            EventsError: The path names no file, or the source cannot be read.
        """
        files = local_files(config.events)
        if files is not None:
            return cls(file_fingerprints(files), tuple(files))
        in_bucket = bucket_files(config.events)
        if in_bucket is not None:
            return cls(in_bucket, tuple(in_bucket))
        from segmenter_plugin.spark.listing import remote_files

        name = str(config.events.table or config.events.path)
        states = remote_files(sessions.get(), config.events)
        if states is None:
            logger.warning("%s does not tell whether it changed: it is cleaned each time", name)
            return cls({name: uuid.uuid4().hex}, None, is_listed=False)
        return cls(states, None)

    @property
    def on_this_machine(self) -> tuple[Path, ...]:
        """Those of the files that lie on this machine: all or none."""
        return tuple(path for path in self.files or () if isinstance(path, Path))

    @property
    def size(self) -> int | None:
        """Bytes, where they are known."""
        if self.on_this_machine:
            return sum(path.stat().st_size for path in self.on_this_machine)
        if not self.is_listed:
            return None
        from segmenter_plugin.spark.listing import size_of

        return size_of(self.states)

    def beyond(self, consumed: Mapping[str, str], config: Config) -> Lot:
        """What has not been consumed.

        Raises:
            EventsError: A consumed file has changed or is gone, or the source does not tell.
        """
        if not self.is_listed:
            raise EventsError(
                f"the events of {config.events.table or config.events.path!r} do not tell which files they are made "
                "of, so what is new of them cannot be known.",
                hint=REBUILD,
            )
        gone = sorted(set(consumed) - set(self.states))
        changed = sorted(path for path, state in consumed.items() if self.states.get(path, state) != state)
        for paths, what in ((changed, "have changed since they were consumed"), (gone, "are consumed and gone")):
            if paths:
                raise EventsError(f"{len(paths)} files of the events {what}: {_some(paths)}.", hint=REBUILD)
        states = {path: state for path, state in self.states.items() if path not in consumed}
        files = None if self.files is None else tuple(path for path in self.files if str(path) in states)
        return Lot(states, files)

    def columns(self, config: Config, sessions: LazySession) -> dict[str, str]:
        """The owner's columns with their types; where files differ, all types that a column has.

        Raises:
            EventsError: A file cannot be read.
        """
        if self.files is None:
            from segmenter_plugin.spark.source import read_events

            return dict(read_events(sessions.get(), config.events).dtypes)
        read_header = _csv_header if config.events.format == "csv" else _parquet_columns
        return _merged(read_header(path) for path in self.files)


def _merged(headers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for header in headers:
        for name, kind in header.items():
            found.setdefault(name, set()).add(kind)
    return {name: " or ".join(sorted(kinds)) for name, kinds in found.items()}


def _parquet_columns(path: Path | str) -> dict[str, str]:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise EventsError(
            f"{str(path)!r} is not a Parquet file: {error}.",
            hint='set [events] format = "csv" if it is text; else write it again or take it away.',
        ) from error
    return {field.name: _type_name(field.type) for field in schema}


def _type_name(kind: pa.DataType) -> str:
    """A type by what it holds, not by how it is stored."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return "string" if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else str(kind)


def _csv_header(path: Path | str) -> dict[str, str]:
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        return dict.fromkeys(next(csv.reader(file), []), "string")


def _some(paths: list[str], most: int = 3) -> str:
    return ", ".join(map(repr, paths[:most])) + (", ..." if len(paths) > most else "")

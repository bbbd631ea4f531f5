"""What an audit reads: the partitions under a root with what they say of themselves, and the published rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from segmenter_plugin.clock import parse_cutoff_key, parse_time
from segmenter_plugin.config import Config
from segmenter_plugin.data.clock_findings import Place
from segmenter_plugin.data.clock_jobs import StoredFile
from segmenter_plugin.data.event_log import EventLog, content_fingerprint
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.object_rows import ObjectFolder, committed
from segmenter_plugin.data.partition import data_files, read_manifest
from segmenter_plugin.stages.clean import event_settings
from segmenter_plugin.stages.derive import made_from
from segmenter_plugin.storage import published_folder, published_manifests, published_uri

#: Tables of ours that hold rows of users, by the folder's name.
OWN = ("behaviour", "labels", "scores", "segments")


@dataclass(frozen=True)
class StoredTable:
    """A partition with rows.

    Attributes:
        kind: One of `OWN`, or ``published``.
        place: What findings call it.
        folder: Where it lies; of rows in a bucket, where they would.
        files: With its rows.
        manifest: Empty where there is none.
    """

    kind: str
    place: Place
    folder: Path
    files: tuple[StoredFile, ...]
    manifest: Mapping[str, Any]

    @property
    def cutoff(self) -> datetime:
        """As of when; only pushed rows have none."""
        if self.place.cutoff is None:
            raise ValueError(f"{self.place.table} has no cutoff")
        return self.place.cutoff

    @property
    def complete_through(self) -> datetime | None:
        """Of what `build` made: to when it knew the events to be complete."""
        told = self.manifest.get("complete_through")
        return None if told is None else parse_time(told)

    @property
    def columns(self) -> list[str]:
        """Of its first file."""
        if not self.files:
            return []
        with self.files[0].opened() as file:
            names: list[str] = file.schema_arrow.names
        return names

    @property
    def rows(self) -> int:
        """How many, by the files' footers."""
        return sum(_rows(file) for file in self.files)


def own_tables(config: Config) -> Iterator[StoredTable]:
    """Partitions of `OWN` under the root."""
    root = config.root_path
    for kind in OWN:
        for folder in _folders(root / kind):
            cutoff, manifest = parse_cutoff_key(folder.name), read_manifest(folder)
            if cutoff is not None and manifest is not None:
                place = Place(f"{kind}/{folder.name}", cutoff)
                yield StoredTable(kind, place, folder, _files(data_files(folder)), manifest)


def published_tables(config: Config) -> Iterator[StoredTable]:
    """Published partitions, wherever ``[store]`` says that they lie, but for Spark's own tables; and pushed rows.

    Under the root all generations are found; in a bucket those of the configured one.
    """
    root, store = config.root_path, config.store
    if store.published is not None and store.table_format != "delta":
        yield from _in_bucket(config)
        return
    if store.table_format == "delta":
        for view in FeatureNames.of(config).folders:
            for folder in _folders(published_manifests(root, view)):
                yield from _published(config, view, folder)
        return
    for generation in _folders(published_folder(root, "")):
        for folder in _folders(generation):
            yield from _published(config, generation.name, folder)


def _published(config: Config, view: str, folder: Path) -> Iterator[StoredTable]:
    cutoff, manifest = parse_cutoff_key(folder.name), read_manifest(folder)
    place = Place(f"features/{view}/{folder.name}", cutoff, config.store.join_key)
    if cutoff is None:
        files = _files(sorted(folder.rglob("*.parquet")))
        if files:
            yield StoredTable("published", place, folder, files, {})
    elif manifest is not None:
        remote = tuple(StoredFile(address, config.store.published_endpoint) for address in manifest.get("objects", ()))
        yield StoredTable("published", place, folder, remote or _files(data_files(folder)), manifest)


def _in_bucket(config: Config) -> Iterator[StoredTable]:
    store = config.store
    for view in FeatureNames.of(config).folders:
        uri = published_uri(store, view)
        for name, partition in sorted(committed(ObjectFolder.of(uri, store.published_endpoint)).items()):
            place = Place(f"{uri}/{name}", parse_cutoff_key(name), store.join_key)
            files = tuple(StoredFile(f"s3://{info.path}", store.published_endpoint) for info in partition.files)
            rows = tuple(file for file in files if file.address.endswith(".parquet"))
            yield StoredTable("published", place, published_folder(config.root_path, view), rows, partition.manifest)


def has_settings(table: StoredTable, config: Config) -> bool:
    """Whether `build` made a table with the present settings, of whichever events."""
    events, through = table.manifest.get("inputs", {}).get("events"), table.complete_through
    if events is None or through is None:
        return False
    return table.manifest["fingerprint"] == made_from(table.kind, table.cutoff, events, through, config)


def log_of(table: StoredTable, log: EventLog | None, config: Config) -> EventLog | None:
    """The part of the event log that `build` made a table of; None where it cannot be told apart any more."""
    if log is None or not has_settings(table, config):
        return None
    if log.fingerprint != content_fingerprint(log.sources, event_settings(config)):
        return None
    lots = frozenset(table.manifest.get("lots", ()))
    part = replace(log, segments=tuple(segment for segment in log.segments if set(segment.lots) <= lots))
    is_whole = part.lots == lots and part.fingerprint == table.manifest["inputs"]["events"]
    return part if is_whole else None


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _files(paths: list[Path]) -> tuple[StoredFile, ...]:
    return tuple(StoredFile(str(path)) for path in paths)


def _rows(file: StoredFile) -> int:
    with file.opened() as opened:
        return int(opened.metadata.num_rows)

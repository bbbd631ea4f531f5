"""The published partitions of one view, wherever ``[store]`` says they lie: which there are, and a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.object_rows import ObjectFolder, ObjectPartition, committed, partition_as_of_now
from segmenter_plugin.data.partition import new_published, read_manifest
from segmenter_plugin.storage import published_folder, published_manifests, published_table, published_uri
from segmenter_plugin.store.object_store import new_object_partition
from segmenter_plugin.store.publish import USER_TYPE, published_cutoffs, published_user_type

#: From a partition's folder, the root and a manifest, a folder to write the partition's files in.
NewPartition = Callable[[Path, Path, dict[str, Any]], AbstractContextManager[Path]]


class Publications(Protocol):
    """Published partitions of one view."""

    def cutoffs(self) -> list[datetime]:
        """Of the whole partitions, ascending."""

    def manifest(self, cutoff: datetime) -> Mapping[str, Any] | None:
        """What a partition was made from; None where there is none."""

    def new(self, cutoff: datetime, manifest: dict[str, Any]) -> AbstractContextManager[Path]:
        """As `data.partition.new_published`: a folder whose files become the partition."""


@dataclass(frozen=True)
class LocalPublications:
    """Partitions with manifests on a file system; the rows beside them, or in a Delta table anywhere."""

    folder: Path
    root: Path
    make: NewPartition = new_published

    def cutoffs(self) -> list[datetime]:
        """See `Publications`."""
        return published_cutoffs(self.folder)

    def manifest(self, cutoff: datetime) -> Mapping[str, Any] | None:
        """See `Publications`."""
        return read_manifest(self.folder / cutoff_key(cutoff))

    def new(self, cutoff: datetime, manifest: dict[str, Any]) -> AbstractContextManager[Path]:
        """See `Publications`."""
        return self.make(self.folder / cutoff_key(cutoff), self.root, manifest)


@dataclass(frozen=True)
class ObjectPublications:
    """Partitions in a bucket, manifests and all: whichever machine publishes, all see the same."""

    uri: str
    #: Where they would lie under the root; only locks and unfinished files do.
    folder: Path
    root: Path
    endpoint: str | None

    def cutoffs(self) -> list[datetime]:
        """See `Publications`."""
        found = map(parse_cutoff_key, self.partitions())
        return sorted(cutoff for cutoff in found if cutoff is not None)

    def partitions(self) -> dict[str, ObjectPartition]:
        """All of them, by the names of their folders."""
        return committed(self._view)

    def manifest(self, cutoff: datetime) -> Mapping[str, Any] | None:
        """See `Publications`."""
        return partition_as_of_now(self._view, cutoff_key(cutoff)).manifest or None

    def new(self, cutoff: datetime, manifest: dict[str, Any]) -> AbstractContextManager[Path]:
        """See `Publications`."""
        return new_object_partition(self._view, self.folder / cutoff_key(cutoff), self.root, manifest, self.endpoint)

    @property
    def _view(self) -> ObjectFolder:
        return ObjectFolder.of(self.uri, self.endpoint)


def publications_of(config: Config, view: str) -> Publications:
    """The partitions of one view.

    Args:
        config: Its ``[store]`` section says where they lie.
        view: Unprefixed name, such as ``user_scores_g1``.
    """
    store, root = config.store, config.root_path
    if store.table_format == "delta":
        from segmenter_plugin.store.delta import new_delta_partition  # noqa: PLC0415 - its package is an extra

        table = published_table(root, view) if store.published is None else published_uri(store, view)
        make = partial(new_delta_partition, table=table, endpoint=store.published_endpoint)
        return LocalPublications(published_manifests(root, view), root, make)
    folder = published_folder(root, view)
    if store.published is None:
        return LocalPublications(folder, root)
    return ObjectPublications(published_uri(store, view), folder, root, store.published_endpoint)


def published_key_type(config: Config) -> pa.DataType:
    """Arrow type of the ids, string or int64, as the newest published partition has them.

    Raises:
        MissingStageError: Nothing has been published.
    """
    views = FeatureNames.of(config).folders
    for manifest in _newest_first(publications_of(config, view) for view in views):
        if USER_TYPE in manifest:
            return pa.type_for_alias(manifest[USER_TYPE])
    # Partitions of an earlier version do not say; all of them lie under the root.
    folder = published_manifests if config.store.table_format == "delta" else published_folder
    return published_user_type([folder(config.root_path, view) for view in views], config.store.join_key)


def _newest_first(places: Iterator[Publications]) -> Iterator[Mapping[str, Any]]:
    for place in places:
        for cutoff in reversed(place.cutoffs()):
            yield place.manifest(cutoff) or {}

"""One task's share of a view written online, wherever Spark runs the task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from feast import FeatureStore, FeatureView, RepoConfig
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.sqlite import SqliteOnlineStore

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.keys import encodes_key
from segmenter_plugin.store.online import ArrowOnlineStore, RowWriter, StoreRestarted
from segmenter_plugin.store.rows import encode_rows, join_keys_of, time_columns
from segmenter_plugin.store.wire import encodes

#: What a task yields: one row of how many rows it was given, and how many of them were not older than what is online.
COUNTS = ("rows", "written")


@dataclass(frozen=True)
class OnlineTask:
    """What each task runs; Spark ships it pickled, with all that an executor needs to reach the online store.

    A task that is retried or run twice (speculation) writes the same rows again, which changes nothing: a row goes
    online unless a newer one is there.

    Args:
        config: Of the Feast repository, read on the driver; an executor needs neither the repository nor the registry.
        view: One that `require_encodable` lets through.
        strict_stock: Feast's own rule of which row stays.
    """

    config: RepoConfig
    view: FeatureView
    strict_stock: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write a partition's rows over one connection.

        Args:
            batches: Join keys, features and timestamps under the view's names; one row a key in all batches together.

        Yields:
            One row of `COUNTS`, once everything has been acknowledged.

        Raises:
            StoreError: A row lacks its key, the store refuses or stays away, or it lost rows that it had acknowledged.
        """
        rows = written = 0
        with self.writer() as writer:
            for batch in batches:
                if batch.num_rows:
                    rows += batch.num_rows
                    written += writer.write(encode_rows(batch, self.view))
            writer.finish()
        yield pa.record_batch([pa.array([rows], pa.int64()), pa.array([written], pa.int64())], names=list(COUNTS))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look whether the store is still the same one after the tasks have run.

        A task sees a restart of the server only while it runs itself; what other tasks had written before would be
        lost without anybody's notice.

        Raises:
            StoreError: It lost rows, or cannot be reached.
        """
        with self.writer() as writer:
            writer.finish()  # now it knows which server process there is
            yield
            writer.finish()

    @contextmanager
    def writer(self) -> Iterator[RowWriter]:
        """A writer of the view, over a connection of its own.

        Raises:
            StoreError: The store cannot be reached, or lost rows that it had acknowledged.
        """
        store = online_store(self.config)
        try:
            with store.writer(self.config, self.view, strict_stock=self.strict_stock) as writer:
                yield writer
        except StoreRestarted as error:
            raise StoreError(
                f"the online store was restarted while {self.view.name!r} was written, and rows that it had "
                "acknowledged may be lost.",
                hint="run the same command again: it writes the whole window anew.",
            ) from error


def online_store(config: RepoConfig) -> ArrowOnlineStore:
    """The online store of a repository, if executors can write to it.

    Raises:
        StoreError: It is a file of one machine, or a class that takes no Arrow.
    """
    store = get_online_store_from_config(config.online_store)
    kind = config.online_store.type
    if isinstance(store, SqliteOnlineStore):
        raise StoreError(
            f"the online store {kind!r} is a file of this machine, which executors cannot reach.",
            hint="`segmenter materialize` fills it; for Spark use segmenter_plugin.store.redis.ArrowRedisOnlineStore.",
        )
    if not isinstance(store, ArrowOnlineStore):
        raise StoreError(
            f"the online store {kind!r} takes rows one message at a time, so executors do not write to it.",
            hint="set online_store type: segmenter_plugin.store.redis.ArrowRedisOnlineStore; its layout is that of "
            "Feast's own Redis store, so readers need not change.",
        )
    return store


def is_strict(store: FeatureStore) -> bool:
    """Whether the repository's engine keeps Feast's own rule of which row stays; the online store knows of itself."""
    engine = store.config.batch_engine_config
    return isinstance(engine, dict) and bool(engine.get("strict_stock", False))


def requires_verdict(store: FeatureStore) -> bool:
    """Whether the repository's engine lets rows through by a verdict of the gate only, see `store.verdicts`."""
    engine = store.config.batch_engine_config
    return isinstance(engine, dict) and bool(engine.get("require_verdict", False))


def columns_of(view: FeatureView) -> dict[str, str]:
    """What is written of a view: its join keys, features and timestamps -> the source's column of each."""
    in_source = {ours: theirs for theirs, ours in (view.batch_source.field_mapping or {}).items()}
    times = [name for name in time_columns(view) if name is not None]
    names = [*join_keys_of(view), *(feature.name for feature in view.features), *times]
    return {name: in_source.get(name, name) for name in names}


def require_encodable(view: FeatureView, schema: pa.Schema) -> None:
    """Check that a view's rows can be written as they come.

    Args:
        view: As the registry has it.
        schema: Of the batches that `OnlineTask` will be given.

    Raises:
        StoreError: The view computes its features, or a column has a type that only Feast itself converts.
    """
    hint = "leave this view to `feast materialize`, which converts every type, on one machine."
    if type(view) is not FeatureView or getattr(view, "feature_transformation", None) is not None:
        raise StoreError(f"the view {view.name!r} computes its features, which is left to Feast's engines.", hint=hint)
    keys = [name for name, kind in join_keys_of(view).items() if not encodes_key(kind)]
    features = [
        f"{feature.name} ({schema.field(feature.name).type} as {feature.dtype})"
        for feature in view.features
        if not encodes(feature.dtype.to_value_type(), schema.field(feature.name).type)
    ]
    if not join_keys_of(view) or keys or features:
        raise StoreError(f"the view {view.name!r} has columns that are not encoded here: {keys + features}.", hint=hint)

"""Feast's Redis online store, written and read in bulk, in Feast's layout or packed.

What stock's store does about connections (TLS, password, database, Sentinel, cluster) is redis-py's and stays so: raw
bytes go over connections of its pool. Its other calls keep working on both layouts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.redis import (
    RedisClient,
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    _versioned_fv_name,
)
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from pydantic import NonNegativeFloat
from redis.cluster import RedisCluster
from redis.connection import ConnectionPool

from segmenter_plugin.store.keys import KEY_VERSION
from segmenter_plugin.store.lookups import FetchedView, RowWriter, ViewLookup
from segmenter_plugin.store.online import ArrowOnlineStore
from segmenter_plugin.store.redis_cluster import ClusterWriter
from segmenter_plugin.store.redis_errors import explained
from segmenter_plugin.store.redis_keys import delete_packed
from segmenter_plugin.store.redis_layouts import LAYOUTS, HashLayout, Layout, PackedLayout, layout_for_lookups
from segmenter_plugin.store.redis_line import Line, Processes
from segmenter_plugin.store.redis_read import Channels, Question, fetch
from segmenter_plugin.store.redis_times import as_stock, unless_newer
from segmenter_plugin.store.redis_write import Patience, Rule, ServerWriter
from segmenter_plugin.store.rows import EncodedRows, ProtoRow

#: A row as `online_read` answers it.
ReadRow = tuple[Any, dict[str, Value] | None]


class ArrowRedisOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]  # feast has no types
    """Stock's configuration, and ours.

    Args:
        layout: ``stock``, which every Feast reader knows, or ``packed``, which only this store reads: see `packed`.
            `segmenter migrate-online` moves rows from one to the other.
        enforce_ttl: Answer a row that is older than its view's ttl as OUTSIDE_MAX_AGE.
        strict_stock: Skip a row whose event_timestamp equals the stored one, as Feast does, although it may be a
            correction.
        retry_seconds: How long a materialisation waits for a server that went away.
    """

    type: Literal["segmenter_plugin.store.redis.ArrowRedisOnlineStore"] = (
        "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
    )
    layout: Literal["stock", "packed"] = "stock"
    enforce_ttl: bool = False
    strict_stock: bool = False
    retry_seconds: NonNegativeFloat = 60.0


class ArrowRedisOnlineStore(ArrowOnlineStore, RedisOnlineStore):  # type: ignore[misc]  # feast has no types
    """Redis online store for Arrow record batches; safe to share between threads."""

    _channels: Channels | None = None

    _client_async: Any = None  # stock's, as it declares it

    @cached_property
    def _processes(self) -> Processes:
        return Processes()

    @contextmanager
    def writer(self, config: RepoConfig, view: FeatureView, *, strict_stock: bool = False) -> Iterator[RowWriter]:
        """Open a writer; it keeps one connection until it is closed.

        Raises:
            StoreError: The cluster cannot be reached.
        """
        settings = config.online_store
        rule = as_stock if strict_stock or settings.strict_stock else unless_newer
        layout = self._layout(config, _versioned_fv_name(view, config))
        with self.layout_writer(config, layout, None if settings.skip_dedup else rule) as writer:
            features = [feature.name for feature in view.features]
            yield _WholeRows(self, config, view, features, writer) if settings.layout == "packed" else writer

    @contextmanager
    def layout_writer(self, config: RepoConfig, layout: Layout, rule: Rule | None) -> Iterator[RowWriter]:
        """Open a writer of one layout, whichever is configured.

        Args:
            config: Of the project.
            layout: Of a view.
            rule: Which rows go online; None: all.
        """
        settings = config.online_store
        patience = Patience(settings.retry_seconds, _address(config))
        with explained(patience.address):
            client = self._get_client(settings)
        if isinstance(client, RedisCluster):
            yield ClusterWriter(client, layout, rule, patience)
            return
        # Without a wait of its own a dead network would hold a write for ever.
        longest_wait_s = max(settings.retry_seconds, 1.0)
        line = Line(client.connection_pool, patience.address, self._processes, longest_wait_s)
        try:
            yield ServerWriter(line, layout, rule, patience)
        finally:
            line.close()

    def fetch(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        """Read rows, in the order of `lookups` and of their keys.

        Raises:
            StoreError: Redis cannot be reached, or refuses; or a row is damaged.
        """
        questions = _questions(config, lookups)
        with explained(_address(config)):
            client = self._get_client(config.online_store)
            if not isinstance(client, RedisCluster) and config.online_store.client == RedisClient.redis:
                return fetch(self._channels_of(client.connection_pool), questions)
            return [self._fetch_by_client(config, layout, asked) for layout, asked in questions]

    def _channels_of(self, pool: ConnectionPool) -> Channels:
        channels = self._channels
        if channels is None or channels.pool is not pool:
            channels = self._channels = Channels(pool)
        return channels

    def _fetch_by_client(self, config: RepoConfig, layout: Layout, asked: ViewLookup) -> FetchedView:
        keys = [layout.key(key) for key in asked.keys]
        if isinstance(layout, HashLayout):
            fields = layout.fields(asked.features)
            rows = self._read_hash_fields(config, [(key, fields) for key in keys])
            return layout.found(rows, asked.features)
        with self._get_client(config.online_store).pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(key)
            return layout.found([pipe.execute()], asked.features)

    async def fetch_async(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        """The same without blocking the event loop.

        Raises:
            StoreError: As `fetch`.
        """
        questions = _questions(config, lookups)
        with explained(_address(config)):
            client = await self._get_client_async(config.online_store)
            async with client.pipeline(transaction=False) as pipe:
                for layout, asked in questions:
                    fields = layout.fields(asked.features) if isinstance(layout, HashLayout) else None
                    for key in asked.keys:
                        _ = pipe.get(layout.key(key)) if fields is None else pipe.hmget(layout.key(key), fields)
                replies = await pipe.execute() if any(asked.keys for asked in lookups) else []
        found, start = [], 0
        for layout, asked in questions:
            own, start = replies[start : start + len(asked.keys)], start + len(asked.keys)
            found.append(layout.found(own if isinstance(layout, HashLayout) else [own], asked.features))
        return found

    def _layout(self, config: RepoConfig, name: str) -> HashLayout | PackedLayout:
        settings = config.online_store
        return LAYOUTS[settings.layout](config.project, name, settings.key_ttl_seconds)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """As stock, from either layout."""
        if config.online_store.layout == "stock":
            return super().online_read(config, table, entity_keys, requested_features)
        (found,) = self.fetch(config, [_lookup(config, table, entity_keys, requested_features)])
        return self._as_read(config, table, found, requested_features)

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """As stock, from either layout."""
        if config.online_store.layout == "stock":
            return await super().online_read_async(config, table, entity_keys, requested_features)
        (found,) = await self.fetch_async(config, [_lookup(config, table, entity_keys, requested_features)])
        return self._as_read(config, table, found, requested_features)

    def _as_read(
        self, config: RepoConfig, table: FeatureView, found: FetchedView, requested_features: list[str] | None
    ) -> list[ReadRow]:
        name = _versioned_fv_name(table, config)
        columns = [*_requested(table, requested_features), f"_ts:{name}"]
        rows = list(zip(*found.cells, found.event_times, strict=True))
        return self._convert_redis_values_to_protobuf(rows, name, columns)

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[ProtoRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """As `online_write_batch`, in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    async def close(self) -> None:
        """Close the asynchronous client, as ``feast serve`` asks at its end."""
        client, self._client_async = self._client_async, None
        if client is not None:
            await client.aclose()

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Delete a view's rows, in both layouts."""
        super().delete_table(config, table)
        name = _versioned_fv_name(table, config)
        delete_packed(self._get_client(config.online_store), config.project, table.join_keys, name)

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Delete all rows of an entity, in both layouts."""
        super().delete_entity_values(config, join_keys)
        delete_packed(self._get_client(config.online_store), config.project, join_keys)


class _WholeRows:
    """Completes rows that bring some features of a view only, because a packed row is written whole."""

    def __init__(
        self,
        store: ArrowRedisOnlineStore,
        config: RepoConfig,
        view: FeatureView,
        features: Sequence[str],
        writer: RowWriter,
    ) -> None:
        self._store, self._config, self._view, self._features, self._writer = store, config, view, features, writer

    def write(self, rows: EncodedRows) -> int:
        """As `RowWriter`."""
        lacking = tuple(feature for feature in self._features if feature not in rows.values)
        if lacking and len(rows):
            name = _versioned_fv_name(self._view, self._config)
            keys = rows.keys.to_pylist()
            (found,) = self._store.fetch(self._config, [ViewLookup(self._view, name, keys, lacking)])
            stored = {
                feature: pa.array([cell or b"" for cell in cells], pa.binary())
                for feature, cells in zip(lacking, found.cells, strict=True)
            }
            rows = EncodedRows(rows.keys, rows.values | stored, rows.event_times, rows.created_times)
        return self._writer.write(rows)

    def finish(self) -> None:
        """As `RowWriter`."""
        self._writer.finish()


def _questions(config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[Question]:
    kind, project = config.online_store.layout, config.project
    return [(layout_for_lookups(kind, project, asked.name), asked) for asked in lookups]


def _requested(view: FeatureView, requested_features: list[str] | None) -> list[str]:
    return requested_features or [feature.name for feature in view.features]


def _lookup(
    config: RepoConfig, view: FeatureView, entity_keys: Sequence[EntityKey], requested_features: list[str] | None
) -> ViewLookup:
    keys = [serialize_entity_key(key, KEY_VERSION) for key in entity_keys]
    return ViewLookup(view, _versioned_fv_name(view, config), keys, tuple(_requested(view, requested_features)))


def _address(config: RepoConfig) -> str:
    """Host and port of the connection string, without what is secret in it."""
    return ",".join(part for part in config.online_store.connection_string.split(",") if "=" not in part)

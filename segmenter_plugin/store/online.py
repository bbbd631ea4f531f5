"""What an online store of ours is: rows go in as Arrow columns, and come out as the bytes that were stored."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from feast import FeatureService, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.repo_config import RepoConfig

from segmenter_plugin.clock import nanos_now
from segmenter_plugin.store.lookups import FetchedView, RowWriter, StoreRestarted, ViewLookup
from segmenter_plugin.store.message_reads import message_reads, put_into
from segmenter_plugin.store.plan import Entities, Plan, Plans, entity_keys, read_entities
from segmenter_plugin.store.read_metrics import count_rows, count_seconds, reads_are_counted
from segmenter_plugin.store.response import ArrowOnlineResponse, answered
from segmenter_plugin.store.rows import ProtoRow, rows_from_protos

__all__ = ["ArrowOnlineStore", "FetchedView", "RowWriter", "StoreRestarted", "ViewLookup"]

#: A push that a restart of the server interrupts is written again; more restarts than this are no accident.
ATTEMPTS = 3

#: As `FeatureStore.get_online_features` takes them.
EntityRows = list[dict[str, Any]] | Mapping[str, Any]


class ArrowOnlineStore(OnlineStore):  # type: ignore[misc]  # feast has no types
    """Mixin that stands before Feast's own store class.

    A request is resolved once and remembered (`plan`), read in one round (`fetch`) and decoded when it is looked at
    (`response`). What the plan does not cover goes through Feast's own code, over the same `fetch`.

    A service with ``precompute_online`` is read from its views' rows as any other: they are fresher than Feast's blobs,
    there for users who have no blob yet, and quicker to decode.
    """

    @cached_property
    def _plans(self) -> Plans:
        return Plans()

    @abstractmethod
    def writer(
        self, config: RepoConfig, view: FeatureView, *, strict_stock: bool = False
    ) -> AbstractContextManager[RowWriter]:
        """Open a writer.

        A row goes online unless what is stored is newer, by event and then by created timestamp where the store keeps
        it. With `strict_stock`, or with ``strict_stock: true`` in the store's configuration, Feast's own rule holds.
        """

    @abstractmethod
    def fetch(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        """Read rows, in the order of `lookups` and of their keys."""

    async def fetch_async(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        """The same without blocking the event loop, where the store can."""
        return self.fetch(config, lookups)

    def get_online_features(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Look entities up; Feast calls this for `FeatureStore.get_online_features`.

        Raises:
            KeyError: A join key is missing.
            ValueError: A value of it is null, or rows differ in their columns.
        """
        request = None
        if not include_feature_view_version_metadata:
            request = self._request(config, features, entity_rows, registry, project, full_feature_names)
        if request is None:
            return super().get_online_features(
                config,
                features,
                entity_rows,
                registry,
                project,
                full_feature_names,
                include_feature_view_version_metadata,
            )
        plan, entities, lookups = request
        started = time.monotonic()
        return _respond(plan, entities, self.fetch(config, lookups), started)

    async def get_online_features_async(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """`get_online_features` on the event loop; a store without an asynchronous client does what Feast's does."""
        request = None
        if self._reads_async and not include_feature_view_version_metadata:
            request = self._request(config, features, entity_rows, registry, project, full_feature_names)
        if request is None:
            return await super().get_online_features_async(
                config,
                features,
                entity_rows,
                registry,
                project,
                full_feature_names,
                include_feature_view_version_metadata,
            )
        plan, entities, lookups = request
        started = time.monotonic()
        return _respond(plan, entities, await self.fetch_async(config, lookups), started)

    @property
    def _reads_async(self) -> bool:
        return type(self).fetch_async is not ArrowOnlineStore.fetch_async

    def _request(  # noqa: PLR0917 - all that a request is
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_names: bool,
    ) -> tuple[Plan, Entities, list[ViewLookup]] | None:
        plan = self._plans.plan(config, registry, project, features, full_names)
        entities = None if plan is None else read_entities(plan, entity_rows)
        if plan is None or entities is None:
            return None
        keys = entity_keys(plan, entities)
        if keys is None:
            return None
        lookups = [ViewLookup(view.view, view.stored, keys[view.key], view.features) for view in plan.views]
        return plan, entities, lookups

    def _read_features_per_fv(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """The part of Feast's own lookup that reads."""
        reads = message_reads(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        fetched = self.fetch(config, [read.lookup for read in reads])
        for read, rows in zip(reads, fetched, strict=True):
            put_into(online_features_response, read, rows, full_feature_names, include_feature_view_version_metadata)

    async def _read_features_per_fv_async(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """The same on the event loop."""
        if not self._reads_async:
            await super()._read_features_per_fv_async(
                config,
                grouped_refs,
                join_key_values,
                entity_name_to_join_key_map,
                online_features_response,
                full_feature_names,
                include_feature_view_version_metadata,
            )
            return
        reads = message_reads(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        fetched = await self.fetch_async(config, [read.lookup for read in reads])
        for read, rows in zip(reads, fetched, strict=True):
            put_into(online_features_response, read, rows, full_feature_names, include_feature_view_version_metadata)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[ProtoRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of messages: what `push` and Feast's own engine bring.

        Raises:
            StoreRestarted: The server restarted each time.
        """
        batches = rows_from_protos(data)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.writer(config, table) as writer:
                    for rows in batches:
                        writer.write(rows)
                    writer.finish()
                break
            except StoreRestarted:
                if attempt == ATTEMPTS:
                    raise
        if progress is not None:
            progress(len(data))


def _respond(plan: Plan, entities: Entities, fetched: list[FetchedView], started: float) -> ArrowOnlineResponse:
    if reads_are_counted():
        count_seconds(time.monotonic() - started)
        for view, rows in zip(plan.views, fetched, strict=True):
            count_rows(view.view.name, rows)
    now = nanos_now() if plan.enforces_ttl else 0
    answers = [answered(view, rows, now) for view, rows in zip(plan.views, fetched, strict=True)]
    return ArrowOnlineResponse(entities, plan.join_keys, answers)

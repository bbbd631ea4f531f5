"""Feast's Spark offline store, in a session with the settings that our rows rely on.

Stock takes the active session as it is, or starts one on whatever Java and Python it finds. Its SQL holds times as
text, which Spark reads in the session's zone: in any other than UTC it answers for other moments than were asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.infra.offline_stores.contrib.spark_offline_store.spark import SparkOfflineStore, SparkOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob

from segmenter_plugin.errors import StoreError
from segmenter_plugin.spark.session import open_session


class PublishedSparkOfflineStoreConfig(SparkOfflineStoreConfig):  # type: ignore[misc]  # feast is untyped
    """``offline_store: {type: segmenter_plugin.store.spark_offline.PublishedSparkOfflineStore}``."""

    type: Literal["segmenter_plugin.store.spark_offline.PublishedSparkOfflineStore"] = (
        "segmenter_plugin.store.spark_offline.PublishedSparkOfflineStore"
    )


class PublishedSparkOfflineStore(SparkOfflineStore):  # type: ignore[misc]  # feast is untyped
    """Feast's own queries, in UTC, on a Java that is there; ``spark_conf`` as in stock."""

    @staticmethod
    def get_historical_features(config: RepoConfig, *arguments: Any, **options: Any) -> RetrievalJob:
        """Point-in-time join, as in stock."""
        _open(config)
        return SparkOfflineStore.get_historical_features(config, *arguments, **options)

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, *arguments: Any, **options: Any) -> RetrievalJob:
        """Newest row of each key, as in stock."""
        _open(config)
        return SparkOfflineStore.pull_latest_from_table_or_query(config, *arguments, **options)

    @staticmethod
    def pull_all_from_table_or_query(config: RepoConfig, *arguments: Any, **options: Any) -> RetrievalJob:
        """All rows of a window, as in stock."""
        _open(config)
        return SparkOfflineStore.pull_all_from_table_or_query(config, *arguments, **options)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,  # noqa: ARG004 - Feast's signature
        feature_view: FeatureView,
        table: pa.Table,  # noqa: ARG004
        progress: Callable[[int], Any] | None,  # noqa: ARG004
    ) -> None:
        """Refuse a push: stock would write into a folder that is called like the glob.

        Raises:
            StoreError: Always.
        """
        raise StoreError(
            f"rows pushed to {feature_view.name!r} cannot be written offline through Spark.",
            hint="push to the online store only, and append the history to your table with your own job; or set "
            '[store] offline = "duckdb", whose store takes pushes.',
        )


def _open(config: RepoConfig) -> None:
    """Make a session of ours the active one, which stock then uses."""
    open_session(f"feast {config.project}", settings=config.offline_store.spark_conf or {})

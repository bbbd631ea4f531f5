"""Move published rows into the online store from Spark's executors: for tables larger than one machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.errors import StoreError, UserError
from segmenter_plugin.spark.output import LazySession

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

    from segmenter_plugin.spark.session import DataFrame, SparkSession

logger = logging.getLogger(__name__)


def materialize_online(
    config: Config,
    window: tuple[datetime, datetime],
    *,
    views: Sequence[str] = (),
    spark: SparkSession | None = None,
) -> dict[str, Any]:
    """Write each user's newest row of a window online, each Spark task over its own connection.

    The rows are read where the view's source says, a folder or a table. What is online and newer stays, so that a run
    may be repeated, and an older window materialised later. The registry is told at the end of each view.

    Args:
        config: The shop; ``[store] feature_repo`` names the repository, which must hold declared views.
        window: First and last event_timestamp, both included.
        views: Registered names; those of our service if none is given.
        spark: Session to use; else one is opened, and stopped at the end.

    Returns:
        ``start``, ``end``, and for each of ``views`` the ``rows`` read and how many were ``written`` (the rest were
        older than what is online).

    Raises:
        UserError: The window is empty.
        StoreError: A view is not declared, the online store cannot be written from executors, there are no rows in
            the window, a task failed for good, or the server lost rows in the meantime.
        GateError: The repository requires verdicts, and one of the views' partitions lacks it; nothing is written.
    """
    from segmenter_plugin.store.bookkeeping import materialize_elsewhere
    from segmenter_plugin.store.executor import online_store, requires_verdict
    from segmenter_plugin.store.repository import open_store

    started, (start, end) = time.perf_counter(), window
    if start > end:
        raise UserError(
            f"the window from {start.isoformat()} to {end.isoformat()} ends before it starts.", hint="swap the two."
        )
    store = open_store(Path(config.store.feature_repo))
    online_store(store.config)  # told before Spark starts
    chosen = _views(store, views, FeatureNames.of(config).service)
    if requires_verdict(store):
        _require_verdicts(config, store, chosen, window)
    counts: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        sessions = LazySession(spark, stack, "segmenter materialize-online")

        def write(view: FeatureView, first: datetime, last: datetime) -> None:
            counts[view.name] = _write_view(sessions.get(), store, view, (first, last))

        materialize_elsewhere(store, chosen, start, end, write)
    result = {"stage": "materialize-online", "start": start.isoformat(), "end": end.isoformat(), "views": counts}
    return result | {"seconds": round(time.perf_counter() - started, 1)}


def _views(store: FeatureStore, names: Sequence[str], service: str) -> list[str]:
    from segmenter_plugin.store.repository import require_service, view_names

    if not names:
        return view_names(require_service(store, service))
    known = [view.name for view in store.list_feature_views()]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise StoreError(
            f"the views {unknown} are not in the registry of project {store.project!r}; it holds {sorted(known)}.",
            hint="run `feast apply`, or name others with --view.",
        )
    return list(dict.fromkeys(names))


def _require_verdicts(
    config: Config, store: FeatureStore, views: Sequence[str], window: tuple[datetime, datetime]
) -> None:
    """Before Spark starts, and of all views before any of them is written."""
    from segmenter_plugin.store.sources import published_files
    from segmenter_plugin.store.verdicts import file_source, require_verdicts
    from segmenter_plugin.store.views import FOLDER_TAG

    for name in views:
        view = store.get_feature_view(name)
        if FOLDER_TAG in view.tags:
            # A table was filled from what we publish, which is what the gate has judged.
            source = file_source(view.batch_source) or published_files(config, view.tags[FOLDER_TAG])
            require_verdicts(view, store.config.repo_path, window, source)


def _write_view(
    spark: SparkSession, store: FeatureStore, view: FeatureView, window: tuple[datetime, datetime]
) -> dict[str, int]:
    from segmenter_plugin.spark.online import arrow_schema, write_partitions
    from segmenter_plugin.store.executor import COUNTS, OnlineTask, is_strict, require_encodable

    frame = _newest(spark, store, view, window)
    require_encodable(view, arrow_schema(frame))
    task = OnlineTask(store.config, view, strict_stock=is_strict(store))
    with task.watched():
        counts = write_partitions(frame, task, COUNTS)
    if not counts["rows"]:
        raise StoreError(
            f"{view.name!r} has no rows from {window[0].isoformat()} to {window[1].isoformat()}; nothing was written.",
            hint="publish that cutoff first: `segmenter publish --cutoff TIME`.",
        )
    logger.info("%s: %d rows read, %d written online", view.name, counts["rows"], counts["written"])
    return counts


def _newest(
    spark: SparkSession, store: FeatureStore, view: FeatureView, window: tuple[datetime, datetime]
) -> DataFrame:
    from segmenter_plugin.spark.online import newest_rows, read_rows
    from segmenter_plugin.store.executor import columns_of
    from segmenter_plugin.store.rows import join_keys_of, time_columns
    from segmenter_plugin.store.sources import rows_location

    rows = read_rows(spark, **rows_location(view.batch_source, store.config.repo_path))
    times = [name for name in time_columns(view) if name is not None]
    return newest_rows(rows, columns_of(view), keys=list(join_keys_of(view)), times=times, window=window)

"""Point-in-time features for training a ranking model, without anything that the moment could not know."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
from feast import FeatureService, FeatureStore
from feast.types import Int64

from segmenter_plugin.columns import Columns
from segmenter_plugin.errors import CutoffError, LeakageError, SchemaError, StoreError, UserError
from segmenter_plugin.store.asked import asked_service
from segmenter_plugin.store.generations import generations_of, require_one_generation
from segmenter_plugin.store.repository import join_key_of, require_service, view_names
from segmenter_plugin.store.retrieve import to_pandas
from segmenter_plugin.store.views import FOLDER_TAG

logger = logging.getLogger(__name__)

OnLeak = Literal["refuse", "drop", "null"]

_ROW = "segmenter_row_number"


def training_frame(
    store: FeatureStore, service: str, entity_df: pd.DataFrame, *, on_leak: OnLeak = "refuse"
) -> pd.DataFrame:
    """Join to each (user, time) the newest published row at or before that time.

    A row that was published with an old cutoff may come from weights trained later. What such weights say of a user
    knows the user's future, so each row's ``trained_through`` is held against the time it is joined to.

    Args:
        store: An open Feast store.
        service: Registered name of a feature service that holds ``trained_through``.
        entity_df: The join key, ``event_timestamp`` (with a zone) and any further columns, such as labels.
        on_leak: ``refuse`` raises, ``drop`` leaves those rows out, ``null`` keeps them and empties what the weights
            made (embedding, scores, segment); the aggregates stay.

    Returns:
        The rows of `entity_df` in their order, with the features; null where there is no earlier row.
        ``frame.attrs["leaking_rows"]`` counts the rows that `on_leak` applied to.

    Raises:
        SchemaError: `entity_df` lacks a column.
        CutoffError: Its times name no zone.
        StoreError: The service is not declared, holds no ``trained_through``, or mixes generations.
        LeakageError: Rows leak, and `on_leak` is ``refuse``.
    """
    if on_leak not in get_args(OnLeak):
        raise UserError(f"on_leak = {on_leak!r} is not known.", hint=f"one of {', '.join(get_args(OnLeak))}.")
    declared = require_service(store, service)
    require_one_generation(service, generations_of(store, declared))
    features = [feature.name for projection in declared.feature_view_projections for feature in projection.features]
    if Columns.trained_through not in features:
        raise StoreError(
            f"the service {service!r} holds no {Columns.trained_through}, so leakage could not be seen.",
            hint="add it from the view user_scores to the service.",
        )
    asked = _entity_rows(entity_df, join_key_of(store, declared))
    frame = _joined(store, declared, asked)
    leaking = frame[Columns.trained_through] > frame[Columns.event_timestamp]
    count = int(leaking.sum())
    logger.info("training frame: %d rows, %d of them from weights that had seen later events", len(frame), count)
    if count and on_leak == "refuse":
        raise LeakageError(
            f"{count} of {len(frame)} rows would carry features of weights that had seen events after the row's time.",
            hint='publish history with `segmenter backfill`, or pass on_leak="drop" or "null".',
        )
    if on_leak == "drop":
        frame = frame[~leaking].reset_index(drop=True)
    elif count:
        frame.loc[leaking, _made_by_weights(store, declared)] = None
    frame.attrs["leaking_rows"] = count
    return frame


def moments_frame(store: FeatureStore, service: str, moments: Iterable[tuple[int | str, datetime]]) -> pd.DataFrame:
    """An `entity_df` for `training_frame`: the join key and ``event_timestamp``.

    Raises:
        UserError: An id does not have the entity's type.
    """
    asked = asked_service(store, service)
    users, times = zip(*moments, strict=True)
    stamps = pd.to_datetime(list(times), utc=True)
    return pd.DataFrame({asked.join_key: asked.user_ids(users), Columns.event_timestamp: stamps})


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as dicts of plain values; None where nothing is known."""
    return pa.Table.from_pandas(frame, preserve_index=False).to_pylist()


def _entity_rows(entity_df: pd.DataFrame, join_key: str) -> pd.DataFrame:
    missing = [name for name in (join_key, Columns.event_timestamp) if name not in entity_df.columns]
    if missing:
        raise SchemaError(
            f"entity_df lacks the columns {missing}; it has {list(entity_df.columns)}.",
            hint="one row for each moment that the ranking model is trained on: the user and the time.",
        )
    times = entity_df[Columns.event_timestamp]
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        raise CutoffError(
            f"entity_df[{Columns.event_timestamp!r}] has the type {times.dtype}; times with a zone are needed.",
            hint='pd.to_datetime(..., utc=True), or .dt.tz_localize("Europe/Berlin") for local times.',
        )
    # DuckDB refuses nanoseconds with a zone.
    stamped = {Columns.event_timestamp: times.dt.tz_convert("UTC").dt.as_unit("us"), _ROW: range(len(entity_df))}
    return entity_df.assign(**stamped)


def _joined(store: FeatureStore, service: FeatureService, asked: pd.DataFrame) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)  # ibis 12 on DuckDB 2.0
        table: pa.Table = store.get_historical_features(entity_df=asked, features=service).to_arrow()
    table = table.sort_by(_ROW)
    if table.num_rows != len(asked):
        raise StoreError(
            f"the offline store {store.config.offline_store.type!r} answered {table.num_rows} rows for {len(asked)}.",
            hint="Feast's dask store drops rows without an earlier value; set offline_store: duckdb.",
        )
    frame = to_pandas(table.drop_columns([_ROW]))
    # Feast's Spark store hands out times without a zone, as its session shows them.
    times = {
        name: pd.to_datetime(frame[name], utc=True).dt.as_unit("us")
        for name in (Columns.event_timestamp, Columns.trained_through)
    }
    if not asked[Columns.event_timestamp].reset_index(drop=True).equals(times[Columns.event_timestamp]):
        raise StoreError(
            f"the offline store {store.config.offline_store.type!r} answered for other times than were asked.",
            hint='Spark does so in another zone: set "spark.sql.session.timeZone" to "UTC".',
        )
    # It hands out counts as floats where one is null, too.
    counts = [
        feature.name
        for projection in service.feature_view_projections
        for feature in projection.features
        if feature.dtype == Int64
    ]
    return frame.assign(**times).astype(dict.fromkeys(counts, "Int64"))


def _made_by_weights(store: FeatureStore, service: FeatureService) -> list[str]:
    """Features of our views other than the aggregates."""
    tags = {name: store.get_feature_view(name).tags.get(FOLDER_TAG, "user_activity") for name in view_names(service)}
    return [
        feature.name
        for projection in service.feature_view_projections
        if tags.get(projection.name) != "user_activity"
        for feature in projection.features
    ]

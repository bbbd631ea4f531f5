"""Online features of users, as an Arrow table or a pandas frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureService, FeatureStore, ValueType
from feast.types import PrimitiveFeastType, UnixTimestamp, from_feast_to_pyarrow_type

from segmenter_plugin.errors import StoreError, UserError
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.store.repository import join_key_of, require_service, view_names

#: SQLite takes at most 32,766 values in one statement, and one answer is held whole by Feast.
USERS_PER_CALL = 1_000

#: Column that tells a user without online rows from one whose features are null.
FOUND = "found"


def online_table(store: FeatureStore, service: str, user_ids: Sequence[int | str]) -> pa.Table:
    """Look users up online.

    Args:
        store: An open Feast store.
        service: Registered name of a feature service, for example ``ranking_g1``.
        user_ids: Strings or integers, as the entity has them; a text of digits will do for an integer.

    Returns:
        One row a user, in the order asked: the join key, ``found`` (False where no view holds the user; all features
        are null then), and the features. Timestamps are UTC.

    Raises:
        UserError: An id does not have the entity's type.
        StoreError: The service is not declared, or nothing has been materialised yet.
    """
    declared = require_service(store, service)
    join_key = join_key_of(store, declared)
    schema = _features_schema(declared)
    users = typed_user_ids(store, declared, user_ids)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for start in range(0, len(users), USERS_PER_CALL):
        answer = _ask(store, declared, {join_key: users[start : start + USERS_PER_CALL]})
        for name in schema.names:
            columns[name] += answer[name]
    features = pa.table(columns, schema=schema)
    found = [any(value is not None for value in row) for row in zip(*columns.values(), strict=True)]
    if users and not any(found):
        _require_materialized(store, declared)
    ids = pa.array(users, pa.string() if _is_text(store, declared) else pa.int64())
    return pa.table(
        {join_key: ids, FOUND: pa.array(found, pa.bool_())} | dict(zip(schema.names, features.columns, strict=True))
    )


def online_frame(store: FeatureStore, service: str, user_ids: Sequence[int | str]) -> pd.DataFrame:
    """`online_table` as pandas; integers are nullable ``Int64``: a missing user does not turn them to floats."""
    return to_pandas(online_table(store, service, user_ids))


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A frame whose integers stay integers where some are null."""
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def typed_user_ids(
    store: FeatureStore, service: FeatureService, user_ids: Sequence[int | str]
) -> list[int] | list[str]:
    """User ids as the entity has them.

    Raises:
        UserError: An integer was expected and something else given.
    """
    if _is_text(store, service):
        return [str(user_id) for user_id in user_ids]
    numbers = []
    for user_id in user_ids:
        try:
            number = int(user_id)
        except (TypeError, ValueError):
            number = None
        if number is None or not -(2**63) <= number < 2**63:
            raise UserError(
                f"the user id {user_id!r} is not an int64, and the join key {join_key_of(store, service)!r} is one.",
                hint="give the id as the events have it.",
            )
        numbers.append(number)
    return numbers


def _is_text(store: FeatureStore, service: FeatureService) -> bool:
    view = store.get_feature_view(view_names(service)[0])
    return view.entity_columns[0].dtype.to_value_type() == ValueType.STRING


def _features_schema(service: FeatureService) -> pa.Schema:
    fields = [feature for projection in service.feature_view_projections for feature in projection.features]
    return pa.schema([pa.field(field.name, _arrow_type(field.dtype)) for field in fields])


def _arrow_type(dtype: Any) -> pa.DataType:
    # Feast's own table gives timestamps no zone.
    is_time = isinstance(dtype, PrimitiveFeastType) and dtype == UnixTimestamp
    return TIMESTAMP if is_time else from_feast_to_pyarrow_type(dtype)


def _require_materialized(store: FeatureStore, service: FeatureService) -> None:
    """Feast answers nulls for a view that never went online: tell it from users that are not there."""
    views = [store.get_feature_view(name) for name in view_names(service)]
    if not any(view.materialization_intervals for view in views):
        raise StoreError(
            f"none of the views of {service.name!r} has been materialised yet, so no user is online.",
            hint="run `segmenter materialize --cutoff TIME` first.",
        )


def _ask(store: FeatureStore, service: FeatureService, entity_rows: dict[str, Any]) -> dict[str, list[Any]]:
    try:
        return store.get_online_features(features=service, entity_rows=entity_rows).to_dict()
    except ValueError as error:
        raise StoreError(
            f"Feast does not serve {service.name!r}: {error}",
            hint="wait for the materialisation to end, or run it again if it was killed; with registry: "
            "serve_features_while_materializing: true in feature_store.yaml reads go on meanwhile.",
        ) from error

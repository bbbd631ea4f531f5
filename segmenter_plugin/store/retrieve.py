"""Online features of users: a table for people and batch jobs, a matrix for ranking models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from feast import FeatureService, FeatureStore, ValueType

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.asked import AskedService, asked_service
from segmenter_plugin.store.decode import is_numeric, number_array
from segmenter_plugin.store.generations import require_one_generation
from segmenter_plugin.store.repository import view_names
from segmenter_plugin.store.response import ArrowOnlineResponse
from segmenter_plugin.store.stock_answer import StockAnswer

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
    asked = asked_service(store, service)
    users = asked.user_ids(user_ids)
    answers = _ask(store, asked, users)
    columns = {
        field.name: pa.chunked_array([answer.column(field.name, field.type) for answer in answers], field.type)
        for field in asked.schema
    }
    found = _found(answers)
    if users and not found.any():
        _require_materialized(store, asked.service)
    return pa.table({asked.join_key: pa.array(users, asked.key_type), FOUND: pa.array(found, pa.bool_())} | columns)


def online_frame(store: FeatureStore, service: str, user_ids: Sequence[int | str]) -> pd.DataFrame:
    """`online_table` as pandas; integers are nullable ``Int64``: a missing user does not turn them to floats."""
    return to_pandas(online_table(store, service, user_ids))


@dataclass(frozen=True)
class OnlineMatrix:
    """Numbers of N users for a ranking model.

    Args:
        values: (N, C) float32; NaN where nothing is known.
        columns: Their names, C of them: a feature's own, or ``embedding_0`` … ``embedding_{D-1}`` for a list.
        found: (N,) bool: some view holds the user.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    found: np.ndarray


def online_matrix(
    store: FeatureStore, service: str, users: Sequence[int | str], *, columns: Sequence[str] | None = None
) -> OnlineMatrix:
    """Look users up online, as one matrix of numbers.

    Args:
        store: An open Feast store.
        service: Registered name of a feature service.
        users: Strings or integers, as the entity has them.
        columns: The columns that the model was trained on, in its order. Without them all numbers and lists of numbers
            of the service come, in its order; texts and timestamps stay out, and how long a list is has to be seen
            from some user who is online.

    Returns:
        A row a user, in the order asked. Integers beyond 2^24 are rounded, as float32 is.

    Raises:
        UserError: An id does not have the entity's type.
        StoreError: The service is not declared or mixes generations; lists of one feature differ in length; none of
            the users has one, and `columns` does not say how long it is; or a column is not in the service.
    """
    asked = asked_service(store, service)
    require_one_generation(service, asked.generations)
    answers = _ask(store, asked, asked.user_ids(users))
    found = _found(answers)
    blocks = {
        feature: _stacked(answers, feature, value_type)
        for feature, value_type in asked.types.items()
        if is_numeric(value_type)
    }
    unseen = [feature for feature, block in blocks.items() if block.ndim > 1 and not block.shape[1]]
    if unseen and columns is None:
        raise StoreError(
            f"none of the {len(users)} users has {unseen[0]!r}, so its length is not known.",
            hint="pass columns=, the columns that the model was trained on.",
        )
    names = [name for feature, block in blocks.items() for name in _names(feature, block)]
    values = np.column_stack([np.zeros((len(found), 0), dtype=np.float32), *blocks.values()]).astype(np.float32)
    if columns is None or list(columns) == names:
        return OnlineMatrix(values, tuple(names), found)
    places = {name: place for place, name in enumerate(names)}
    unknown = [name for name in columns if name not in places and name.rpartition("_")[0] not in unseen]
    if unknown:
        raise StoreError(
            f"the service {service!r} gives no column {unknown[0]!r}; it gives {_shortened(names)}.",
            hint="ask for the service that the model was trained on.",
        )
    chosen = np.full((len(found), len(columns)), np.nan, dtype=np.float32)
    held = [i for i, name in enumerate(columns) if name in places]
    chosen[:, held] = values[:, [places[columns[i]] for i in held]]
    return OnlineMatrix(chosen, tuple(columns), found)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A frame whose integers stay integers where some are null."""
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def _require_materialized(store: FeatureStore, service: FeatureService) -> None:
    """Feast answers nulls for a view that never went online: tell it from users that are not there."""
    views = [store.get_feature_view(name) for name in view_names(service)]
    if not any(view.materialization_intervals for view in views):
        raise StoreError(
            f"none of the views of {service.name!r} has been materialised yet, so no user is online.",
            hint="run `segmenter materialize --cutoff TIME` first.",
        )


def _ask(
    store: FeatureStore, asked: AskedService, users: Sequence[int | str]
) -> list[ArrowOnlineResponse | StockAnswer]:
    """One answer for each `USERS_PER_CALL` users."""
    answers: list[ArrowOnlineResponse | StockAnswer] = []
    for start in range(0, len(users), USERS_PER_CALL):
        chunk = list(users[start : start + USERS_PER_CALL])
        try:
            answer = store.get_online_features(features=asked.service, entity_rows={asked.join_key: chunk})
        except ValueError as error:
            raise StoreError(
                f"Feast does not serve {asked.service.name!r}: {error}",
                hint="wait for the materialisation to end, or run it again if it was killed; with registry: "
                "serve_features_while_materializing: true in feature_store.yaml reads go on meanwhile.",
            ) from error
        fast = isinstance(answer, ArrowOnlineResponse)
        answers.append(answer if fast else StockAnswer(answer.to_dict(), asked.types))
    return answers


def _found(answers: Sequence[ArrowOnlineResponse | StockAnswer]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=bool), *(answer.found for answer in answers)])


def _stacked(answers: Sequence[ArrowOnlineResponse | StockAnswer], feature: str, value_type: ValueType) -> np.ndarray:
    """(N,) or (N, D); D is 0 where no user has the list."""
    blocks = [number_array([], value_type, feature), *(answer.to_numpy(feature) for answer in answers)]
    lengths = {block.shape[1] for block in blocks if block.ndim > 1} - {0}
    if len(lengths) > 1:
        raise StoreError(
            f"lists of the lengths {sorted(lengths)} stand in {feature!r}; one length makes a matrix.",
            hint="materialise rows of one model only.",
        )
    if lengths:
        width = lengths.pop()
        blocks = [
            block if block.shape[1] else np.full((len(block), width), np.nan, dtype=block.dtype) for block in blocks
        ]
    return np.concatenate(blocks)


def _names(feature: str, block: np.ndarray) -> list[str]:
    return [feature] if block.ndim == 1 else [f"{feature}_{i}" for i in range(block.shape[1])]


def _shortened(names: list[str]) -> list[str]:
    return names if len(names) <= 12 else [*names[:6], "…", *names[-5:]]

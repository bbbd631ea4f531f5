"""A feature service as a lookup needs to know it, resolved once for each state of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
from feast import FeatureService, FeatureStore, ValueType
from feast.types import PrimitiveFeastType, UnixTimestamp, from_feast_to_pyarrow_type

from segmenter_plugin.errors import UserError
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.store.generations import generations_of
from segmenter_plugin.store.repository import join_key_of, require_service, view_names


@dataclass(frozen=True)
class AskedService:
    """What a lookup by users needs of a service.

    Args:
        service: As registered.
        join_key: The one column that names users.
        key_type: string or int64.
        schema: Arrow fields of the features, in the order of the service.
        types: Their Feast types.
        generations: As `generations_of`.
    """

    service: FeatureService
    join_key: str
    key_type: pa.DataType
    schema: pa.Schema
    types: Mapping[str, ValueType]
    generations: Mapping[str, list[str]]

    def user_ids(self, user_ids: Sequence[int | str]) -> list[int] | list[str]:
        """User ids as the entity has them.

        Raises:
            UserError: An integer was expected and something else given.
        """
        if self.key_type == pa.string():
            return [str(user_id) for user_id in user_ids]
        numbers = []
        for user_id in user_ids:
            try:
                number = int(user_id)
            except (TypeError, ValueError):
                number = None
            if number is None or not -(2**63) <= number < 2**63:
                raise UserError(
                    f"the user id {user_id!r} is not an int64, and the join key {self.join_key!r} is one.",
                    hint="give the id as the events have it.",
                )
            numbers.append(number)
        return numbers


_resolved: WeakKeyDictionary[FeatureStore, tuple[Any, dict[str, AskedService]]] = WeakKeyDictionary()


def asked_service(store: FeatureStore, name: str) -> AskedService:
    """The service of that name, as fresh as Feast's own registry cache is.

    Raises:
        StoreError: The registry does not hold it, or its views have several join keys.
    """
    registry = store.registry
    made, known = _resolved.get(store, (None, {}))
    if name in known and made == registry.cached_registry_proto_created and registry.is_cache_valid():
        return known[name]
    # Asking for a service or a view reads the registry anew, so the state that counts is the one after.
    asked = _resolve(store, name)
    now = registry.cached_registry_proto_created
    _resolved[store] = (now, (known if made == now else {}) | {name: asked})
    return asked


def _resolve(store: FeatureStore, name: str) -> AskedService:
    service = require_service(store, name)
    join_key = join_key_of(store, service)
    view = store.get_feature_view(view_names(service)[0])
    is_text = view.entity_columns[0].dtype.to_value_type() == ValueType.STRING
    features = [feature for projection in service.feature_view_projections for feature in projection.features]
    return AskedService(
        service=service,
        join_key=join_key,
        key_type=pa.string() if is_text else pa.int64(),
        schema=pa.schema([pa.field(feature.name, _arrow_type(feature.dtype)) for feature in features]),
        types={feature.name: feature.dtype.to_value_type() for feature in features},
        generations=generations_of(store, service),
    )


def _arrow_type(dtype: Any) -> pa.DataType:
    # Feast's own table gives timestamps no zone.
    is_time = isinstance(dtype, PrimitiveFeastType) and dtype == UnixTimestamp
    return TIMESTAMP if is_time else from_feast_to_pyarrow_type(dtype)

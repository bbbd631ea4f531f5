"""What a request for online features means, worked out once for each kind of request."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from feast import FeatureService, FeatureView, ValueType
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.utils import _get_online_request_context, _parse_feature_ref

from segmenter_plugin.store.decode import Decoder
from segmenter_plugin.store.keys import KeyEncoder, encodes_key

#: Requests are told apart by their features, so a caller that puts lists together at will could make any number.
PLANS_KEPT = 1_024

_NATIVE = {ValueType.INT64: {int}, ValueType.INT32: {int}, ValueType.STRING: {str}}

#: Columns of join keys, (N,) plain values each.
Entities = dict[str, list[Any]]


@dataclass(frozen=True)
class KeyPlan:
    """Entity keys that one or more views share.

    Args:
        columns: For each join key of the views the column of the request that holds it.
        encode: Serialises them.
    """

    columns: tuple[tuple[str, str], ...]
    encode: KeyEncoder

    def keys(self, entities: Entities) -> list[bytes]:
        """(N,) serialised entity keys."""
        return self.encode({own: entities[asked] for own, asked in self.columns})


@dataclass(frozen=True)
class ViewPlan:
    """What is read of one view.

    Args:
        view: With the projection of this request.
        stored: Its name in the store.
        label: Its name in the request (an alias, where the projection has one).
        key: Position of its `KeyPlan`.
        features: Names as stored, F of them.
        answers: Names in the response, (F,).
        decoders: (F,) of the declared types.
        ttl_nanos: Age in nanoseconds from which rows are no longer served; None: never.
    """

    view: FeatureView
    stored: str
    label: str
    key: int
    features: tuple[str, ...]
    answers: tuple[str, ...]
    decoders: tuple[Decoder, ...]
    ttl_nanos: int | None


@dataclass(frozen=True)
class Plan:
    """A resolved request.

    Args:
        keys: The distinct entity keys.
        views: In the order in which the request names them.
        join_keys: Columns that the request must bring, with their types.
        foreign: Columns that mean something to Feast, and that this request does not need.
    """

    keys: tuple[KeyPlan, ...]
    views: tuple[ViewPlan, ...]
    join_keys: Mapping[str, ValueType]
    foreign: frozenset[str]

    @cached_property
    def enforces_ttl(self) -> bool:
        """Whether rows of some view may be too old to be served."""
        return any(view.ttl_nanos is not None for view in self.views)


def make_plan(
    config: RepoConfig, registry: BaseRegistry, project: str, features: list[str] | FeatureService, full_names: bool
) -> Plan | None:
    """Resolve a request.

    Returns:
        None for what is left to Feast's own code: on-demand views, views without an entity, version-qualified
        references, join keys whose type differs between views.

    Raises:
        Exception: What Feast raises for a view, service or feature that is not there, or cannot be served.
    """
    context = _get_online_request_context(registry, project, features, full_names)
    references, on_demand, entity_map, types, join_keys, grouped, _, request_data, entityless = context
    views = {view.projection.name_to_use(): view for view, _ in grouped}
    if on_demand or request_data or entityless or not all(_is_plain(view) for view in views.values()):
        return None
    columns = {label: _key_columns(view) for label, view in views.items()}
    key_types = {asked: types[asked] for pairs in columns.values() for _, asked in pairs}
    if any(_own_types(view) != {own: types[asked] for own, asked in columns[label]} for label, view in views.items()):
        return None
    if not set(key_types) <= set(join_keys) or not all(encodes_key(value_type) for value_type in key_types.values()):
        return None
    distinct = list(dict.fromkeys(columns.values()))
    wanted: dict[str, list[str]] = {}
    for reference in references:
        label, _, feature = _parse_feature_ref(reference)
        wanted.setdefault(label, []).append(feature)
    versioned = config.registry.enable_online_feature_view_versioning
    return Plan(
        keys=tuple(KeyPlan(pairs, KeyEncoder({own: types[asked] for own, asked in pairs})) for pairs in distinct),
        views=tuple(
            ViewPlan(
                view=views[label],
                stored=compute_versioned_name(views[label], versioned),
                label=label,
                key=distinct.index(columns[label]),
                features=tuple(names),
                answers=tuple(f"{label}__{name}" if full_names else name for name in names),
                decoders=_decoders(views[label], names),
                ttl_nanos=ttl_nanos(config, views[label]),
            )
            for label, names in wanted.items()
        ),
        join_keys=key_types,
        foreign=frozenset(set(join_keys) | set(entity_map)) - frozenset(key_types),
    )


def ttl_nanos(config: RepoConfig, view: Any) -> int | None:
    """Age in nanoseconds from which rows of a view are not served; None unless the store has ``enforce_ttl: true``."""
    ttl = getattr(view, "ttl", None)
    if not ttl or not getattr(config.online_store, "enforce_ttl", False):
        return None
    return (ttl.days * 86_400 + ttl.seconds) * 1_000_000_000 + ttl.microseconds * 1_000


def _is_plain(view: Any) -> bool:
    has_rows = isinstance(view, FeatureView) and view.projection.version_tag is None
    return has_rows and bool(view.entity_columns) and len(view.entity_columns) == len(view.entities)


def _key_columns(view: FeatureView) -> tuple[tuple[str, str], ...]:
    renamed = view.projection.join_key_map
    return tuple((column.name, renamed.get(column.name, column.name)) for column in view.entity_columns)


def _own_types(view: FeatureView) -> dict[str, ValueType]:
    return {column.name: column.dtype.to_value_type() for column in view.entity_columns}


def _decoders(view: FeatureView, names: list[str]) -> tuple[Decoder, ...]:
    declared = {feature.name: feature.dtype.to_value_type() for feature in view.features}
    return tuple(Decoder(declared[name]) for name in names)


class Plans:
    """The plans of one store object, good for as long as Feast's registry cache is.

    Feast has a cache of its own, one for the whole process and emptied whenever another FeatureStore asks.
    """

    def __init__(self) -> None:
        self._kept: tuple[datetime | None, dict[Any, Plan | None]] = (None, {})

    def plan(
        self, config: RepoConfig, registry: BaseRegistry, project: str, features: Any, full_names: bool
    ) -> Plan | None:
        """`make_plan`, or what it gave before."""
        asked = ("service", features.name) if isinstance(features, FeatureService) else tuple(features)
        key = (asked, project, full_names)
        made = getattr(registry, "cached_registry_proto_created", None)
        kept = self._kept
        if made is not None and made == kept[0] and key in kept[1] and registry.is_cache_valid():
            return kept[1][key]
        plan = make_plan(config, registry, project, features, full_names)
        # Resolving may have refreshed the registry in the middle: then the next request resolves again.
        if made is not None and made == getattr(registry, "cached_registry_proto_created", None):
            if kept[0] != made or len(kept[1]) >= PLANS_KEPT:
                kept = self._kept = (made, {})
            kept[1][key] = plan
        return plan


def read_entities(plan: Plan, entity_rows: Any) -> Entities | None:
    """The join keys of a request as plain values.

    Args:
        plan: Of the request.
        entity_rows: A list of dicts or a dict of columns, as `FeatureStore.get_online_features` takes them.

    Returns:
        Columns in the order of the request; None for anything that Feast's own code has to see: messages instead of
        values, deprecated entity names, and what it refuses (no rows, rows that differ in their columns).

    Raises:
        KeyError: A join key is missing.
    """
    columns = _columns(entity_rows) if isinstance(entity_rows, list) else entity_rows
    if columns is None or not all(isinstance(values, list | tuple) for values in columns.values()):
        return None
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or 0 in lengths or not plan.foreign.isdisjoint(columns):
        return None
    missing = sorted(plan.join_keys.keys() - columns.keys())
    if missing:  # Feast asks for a part of the key then, and answers that nobody is there
        raise KeyError(f"Missing join key values for keys: {missing}. Provided: {list(columns)}")
    entities: Entities = {}
    for name in columns:
        if name in plan.join_keys:
            values = _plain(columns[name], plan.join_keys[name])
            if values is None:
                return None
            entities[name] = values
    return entities


def _columns(rows: list[Mapping[str, Any]]) -> dict[str, list[Any]] | None:
    if not rows:
        return None
    names = list(rows[0])
    if any(len(row) != len(names) for row in rows):
        return None
    try:
        return {name: [row[name] for row in rows] for name in names}
    except KeyError:
        return None


def _plain(values: list[Any] | tuple[Any, ...], value_type: ValueType) -> list[Any] | None:
    kinds = set(map(type, values))
    if kinds == _NATIVE.get(value_type):
        return list(values)
    if Value in kinds:
        return None
    messages = python_values_to_proto_values(list(values), value_type)
    return [feast_value_type_to_python_type(message) for message in messages]


def entity_keys(plan: Plan, entities: Entities) -> list[list[bytes]] | None:
    """For each `KeyPlan` (N,) serialised keys; None where a value does not fit its type, for Feast to say so.

    Raises:
        ValueError: A value is null.
    """
    try:
        return [key.keys(entities) for key in plan.keys]
    except struct.error:
        return None

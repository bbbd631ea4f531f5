"""Lookups in Feast's own messages, for the requests that Feast's code answers: on-demand views and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.utils import _get_entity_key_protos, _get_unique_entities, _populate_response_from_feature_data

from segmenter_plugin.clock import nanos_now
from segmenter_plugin.store.keys import KEY_VERSION
from segmenter_plugin.store.lookups import FetchedView, ViewLookup
from segmenter_plugin.store.plan import ttl_nanos
from segmenter_plugin.store.wire import decode_time

#: What Feast takes for a row: its time, and messages by feature; None and None where there is none.
MessageRow = tuple[datetime | None, dict[str, Value] | None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class MessageRead:
    """One view of such a request.

    Args:
        lookup: Its distinct entities.
        places: For each of them its rows in the response.
        count: Rows of the response, N.
        ttl_nanos: As in `ViewPlan`.
    """

    lookup: ViewLookup
    places: Sequence[Sequence[int]]
    count: int
    ttl_nanos: int | None


def message_reads(
    config: RepoConfig, grouped: Sequence[Any], join_key_values: dict[str, Any], entity_map: dict[str, str]
) -> list[MessageRead]:
    """What to read, from what Feast has resolved.

    Args:
        config: Of the store.
        grouped: Pairs of a view and the features asked of it.
        join_key_values: (N,) messages a column.
        entity_map: Join key of each entity.
    """
    versioned = config.registry.enable_online_feature_view_versioning
    reads = []
    for view, features in grouped:
        entities, places, count = _get_unique_entities(view, join_key_values, entity_map)
        keys = [serialize_entity_key(key, KEY_VERSION) for key in _get_entity_key_protos(entities)]
        lookup = ViewLookup(view, compute_versioned_name(view, versioned), keys, tuple(features))
        reads.append(MessageRead(lookup, places, count, ttl_nanos(config, view)))
    return reads


def put_into(response: Any, read: MessageRead, fetched: FetchedView, full_names: bool, with_versions: bool) -> None:
    """Append the view's columns to a ``GetOnlineFeaturesResponse``."""
    features, view = list(read.lookup.features), read.lookup.view
    rows = _rows(features, fetched)
    expired = _expired(rows, read.ttl_nanos)
    for row in expired:
        rows[row] = (rows[row][0], None)
    _populate_response_from_feature_data(
        features, rows, read.places, response, full_names, view, read.count, with_versions
    )
    for vector in response.results[len(response.results) - len(features) :]:
        for row in expired:
            for place in read.places[row]:
                vector.statuses[place] = FieldStatus.OUTSIDE_MAX_AGE


def _rows(features: list[str], fetched: FetchedView) -> list[MessageRow]:
    cells = zip(*fetched.cells, strict=True)
    return [
        (None, None)
        if time is None
        else (
            _EPOCH + timedelta(microseconds=decode_time(time) // 1_000),
            {name: Value.FromString(cell) for name, cell in zip(features, row, strict=True) if cell is not None},
        )
        for time, row in zip(fetched.event_times, cells, strict=True)
    ]


def _expired(rows: list[MessageRow], ttl: int | None) -> list[int]:
    if ttl is None:
        return []
    oldest = _EPOCH + timedelta(microseconds=(nanos_now() - ttl) // 1_000)
    return [place for place, (time, _) in enumerate(rows) if time is not None and time < oldest]

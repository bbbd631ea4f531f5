"""Feature rows ready to be written online: keys, cells and times, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from feast import FeatureView, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.keys import KEY_VERSION, encode_keys
from segmenter_plugin.store.wire import encode_values, to_nanos

#: A row as Feast hands it to an online store: key, values, event_timestamp, created_timestamp.
ProtoRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


@dataclass(frozen=True)
class EncodedRows:
    """N rows of one view.

    Args:
        keys: (N,) ``binary``: serialised entity keys, without the project; no two are equal.
        values: For each feature, in the order in which they are stored, (N,) ``binary`` of ``Value`` messages.
        event_times: (N,) int64, nanoseconds since the epoch.
        created_times: (N,) int64 likewise, or None where the source has none.
    """

    keys: pa.Array
    values: dict[str, pa.Array]
    event_times: np.ndarray
    created_times: np.ndarray | None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, index: np.ndarray) -> EncodedRows:
        """The rows at (M,) positions, or where an (N,) mask is true."""
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index
        chosen = pa.array(index)
        created = self.created_times
        return EncodedRows(
            keys=self.keys.take(chosen),
            values={name: cells.take(chosen) for name, cells in self.values.items()},
            event_times=self.event_times[index],
            created_times=None if created is None else created[index],
        )


def join_keys_of(view: FeatureView) -> dict[str, ValueType]:
    """Join keys of a view with their Feast types."""
    return {column.name: column.dtype.to_value_type() for column in view.entity_columns}


def time_columns(view: FeatureView) -> tuple[str, str | None]:
    """Names of the event and created timestamps, as they are after the source's field mapping.

    Raises:
        StoreError: The view has no batch source.
    """
    source = view.batch_source
    if source is None:
        raise StoreError(f"the view {view.name!r} has no batch source.", hint="declare it with one.")
    mapping: Mapping[str, str] = source.field_mapping or {}
    event, created = source.timestamp_field, source.created_timestamp_column
    return mapping.get(event, event), mapping.get(created, created) if created else None


def encode_rows(batch: pa.RecordBatch, view: FeatureView) -> EncodedRows:
    """Encode a batch.

    Args:
        batch: Join keys, features and timestamps under the names that the view gives them; one row a key.
        view: Its features, all of types that `wire.encodes` covers.

    Raises:
        StoreError: A row lacks its key or its event_timestamp.
    """
    event, created = time_columns(view)
    values = {
        feature.name: encode_values(batch.column(feature.name), feature.dtype.to_value_type())
        for feature in view.features
    }
    return EncodedRows(
        keys=encode_keys(batch, join_keys_of(view)),
        values=values,
        event_times=_times(batch.column(event), event),
        # A missing created_timestamp counts as the oldest.
        created_times=None if created is None else to_nanos(batch.column(created).fill_null(0)),
    )


def _times(column: pa.Array, name: str) -> np.ndarray:
    if column.null_count:
        raise StoreError(
            f"{column.null_count} of {len(column)} rows have no {name}; each row needs one.",
            hint="it is the time as of which the row is true; look at what writes the source.",
        )
    return to_nanos(column)


def rows_from_protos(data: Sequence[ProtoRow]) -> list[EncodedRows]:
    """Encode rows of messages, as `OnlineStore.online_write_batch` gets them.

    Of the rows that share a key the newest stays, by event and created timestamp; of equals the last.

    Returns:
        One object for each set of features that rows bring: a row must not touch the features that it lacks.
    """
    newest: dict[tuple[bytes, tuple[str, ...]], tuple[tuple[int, int], ProtoRow]] = {}
    for row in data:
        key, values, event, created = row
        age = (_nanos(event), _nanos(created) if created is not None else 0)
        place = (serialize_entity_key(key, KEY_VERSION), tuple(values))
        if place not in newest or newest[place][0] <= age:
            newest[place] = (age, row)
    feature_sets = dict.fromkeys(names for _, names in newest)
    return [
        _from_protos(names, {key: aged for (key, own), aged in newest.items() if own == names})
        for names in feature_sets
    ]


def _from_protos(names: tuple[str, ...], rows: Mapping[bytes, tuple[tuple[int, int], ProtoRow]]) -> EncodedRows:
    has_created = any(row[3] is not None for _, row in rows.values())
    return EncodedRows(
        keys=pa.array(rows, pa.binary()),
        values={
            name: pa.array([row[1][name].SerializeToString() for _, row in rows.values()], pa.binary())
            for name in names
        },
        event_times=np.array([age[0] for age, _ in rows.values()], dtype=np.int64),
        created_times=np.array([age[1] for age, _ in rows.values()], dtype=np.int64) if has_created else None,
    )


def _nanos(time: datetime) -> int:
    """A naive time is UTC, as everywhere in Feast."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    whole = int(aware.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + aware.microsecond * 1_000

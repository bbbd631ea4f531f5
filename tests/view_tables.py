"""Random feature views and tables of them, over the schemas that Feast allows in a view and keeps as they are.

What stock Feast itself corrupts or refuses (int64 above 2^53 beside nulls, null integers in lists, bytes that are all
empty) is left out here: `tests/store/test_wire.py` shows those one by one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import (
    Array,
    Bool,
    Bytes,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
    from_value_type,
)
from hypothesis import strategies as st

TIME = pa.timestamp("us", "UTC")

_int32 = st.integers(-(2**31), 2**31 - 1)
_int64 = st.integers(-(2**63), 2**63 - 1)
# One NaN only: what reads a source in between need not keep the spare bits of others.
_float32 = st.floats(width=32, allow_nan=False) | st.just(float("nan"))
_float64 = st.floats(allow_nan=False) | st.just(float("nan"))
_text = st.text(max_size=20)
_bytes = st.binary(min_size=1, max_size=20)
# Feast reads a scalar datetime back with its whole seconds; both ends are UTC.
_moment = st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@dataclass(frozen=True)
class Kind:
    """A type of feature: how Feast and Arrow name it, its values, and whether null may stand among them."""

    feast: FeastType
    arrow: pa.DataType
    values: st.SearchStrategy
    nullable: bool = True


def _list(feast: FeastType, arrow: pa.DataType, elements: st.SearchStrategy, *, null_elements: bool = True) -> Kind:
    inside = st.none() | elements if null_elements else elements
    return Kind(Array(feast), pa.list_(arrow), st.lists(inside, max_size=5))


SCALARS = (
    Kind(Int32, pa.int32(), _int32),
    Kind(Int64, pa.int64(), st.integers(-(2**53), 2**53)),
    Kind(Int64, pa.int64(), _int64, nullable=False),
    Kind(Float32, pa.float32(), _float32),
    Kind(Float64, pa.float64(), _float64),
    Kind(Bool, pa.bool_(), st.booleans()),
    Kind(String, pa.string(), _text),
    Kind(Bytes, pa.binary(), _bytes),
    Kind(UnixTimestamp, TIME, _moment),
)

LISTS = (
    _list(Int32, pa.int32(), _int32, null_elements=False),
    _list(Int64, pa.int64(), _int64, null_elements=False),
    _list(Float32, pa.float32(), _float32),
    _list(Float64, pa.float64(), _float64),
    _list(Bool, pa.bool_(), st.booleans()),
    _list(String, pa.string(), _text),
    _list(Bytes, pa.binary(), _bytes),
    _list(UnixTimestamp, TIME, _moment),
)

KEYS = {
    ValueType.STRING: (pa.string(), st.text(min_size=1, max_size=12)),
    ValueType.INT64: (pa.int64(), _int64),
    ValueType.INT32: (pa.int32(), _int32),
}


@dataclass(frozen=True)
class ViewTable:
    """A view, and rows of it with one row a key."""

    view: FeatureView
    rows: pa.RecordBatch
    key_types: dict[str, ValueType]

    @property
    def keys(self) -> dict[str, list]:
        """The values of the join keys, by column."""
        return {name: self.rows.column(name).to_pylist() for name in self.key_types}


def declare(key_types: dict[str, ValueType], features: dict[str, FeastType], name: str = "random_view") -> FeatureView:
    """A view with one entity a join key and a Parquet source."""
    entities = [Entity(name=f"of_{key}", join_keys=[key], value_type=kind) for key, kind in key_types.items()]
    schema = [Field(name=key, dtype=from_value_type(kind)) for key, kind in key_types.items()]
    schema += [Field(name=feature, dtype=dtype) for feature, dtype in features.items()]
    source = FileSource(
        name=f"{name}_source",
        path="rows/*.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    return FeatureView(name=name, entities=entities, schema=schema, source=source, online=True)


@st.composite
def view_tables(draw: st.DrawFn, max_rows: int = 8, keys: int = 2) -> ViewTable:
    """Views of up to `keys` join keys and five features, with rows that hold nulls, unicode, NaN and ragged lists."""
    key_types = {
        f"key_{i}": draw(st.sampled_from(sorted(KEYS, key=lambda kind: kind.value)))
        for i in range(draw(st.integers(1, keys)))
    }
    kinds = draw(st.lists(st.sampled_from(SCALARS + LISTS), min_size=1, max_size=5))
    ids = draw(
        st.lists(st.tuples(*(KEYS[kind][1] for kind in key_types.values())), min_size=1, max_size=max_rows, unique=True)
    )
    columns: dict[str, pa.Array] = {
        name: pa.array(column, KEYS[kind][0])
        for (name, kind), column in zip(key_types.items(), zip(*ids, strict=True), strict=True)
    }
    for i, kind in enumerate(kinds):
        # The first value is there: from it Feast tells what a column holds.
        first = draw(kind.values.filter(lambda value: value != []))
        cell = st.none() | kind.values if kind.nullable else kind.values
        rest = draw(st.lists(cell, min_size=len(ids) - 1, max_size=len(ids) - 1))
        columns[f"feature_{i}"] = pa.array([_started(kind, first), *rest], kind.arrow)
    times = draw(st.lists(_moment, min_size=len(ids), max_size=len(ids)))
    columns["event_timestamp"] = pa.array(times, TIME)
    columns["created_timestamp"] = pa.array(times, TIME)
    view = declare(key_types, {f"feature_{i}": kind.feast for i, kind in enumerate(kinds)})
    return ViewTable(view, pa.record_batch(columns), key_types)


def _started(kind: Kind, value: object) -> object:
    """Of a list that starts with null Feast cannot tell the type either."""
    if isinstance(value, list):
        return [element for element in value if element is not None] or None
    return value

"""Entity keys equal Feast's own serialisation."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from feast import ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.keys import KeyEncoder, encode_keys, encodes_key

KINDS = {
    ValueType.STRING: (pa.string(), st.text(max_size=40)),
    ValueType.INT64: (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    ValueType.INT32: (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    ValueType.BYTES: (pa.binary(), st.binary(min_size=1, max_size=20)),
    ValueType.UNIX_TIMESTAMP: (
        pa.timestamp("us", "UTC"),
        st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
}


@st.composite
def keyed_rows(draw):
    names = draw(st.lists(st.text("abü_9", min_size=1, max_size=4), min_size=1, max_size=3, unique=True))
    types = {name: draw(st.sampled_from(sorted(KINDS, key=lambda kind: kind.value))) for name in names}
    count = draw(st.integers(1, 8))
    rows = {name: draw(st.lists(KINDS[types[name]][1], min_size=count, max_size=count)) for name in names}
    return types, rows


def stock(types: dict[str, ValueType], rows: dict[str, list]) -> list[bytes]:
    protos = {name: python_values_to_proto_values(rows[name], types[name]) for name in types}
    return [
        serialize_entity_key(EntityKey(join_keys=list(types), entity_values=row), 3)
        for row in zip(*protos.values(), strict=True)
    ]


@given(keyed_rows())
def test_columns_and_lookups_give_feast_s_keys(drawn):
    types, rows = drawn
    if any(kind == ValueType.UNIX_TIMESTAMP for kind in types.values()):  # Feast cuts datetimes towards zero
        rows = {name: [_whole(value) for value in column] for name, column in rows.items()}
    batch = pa.record_batch({name: pa.array(rows[name], KINDS[types[name]][0]) for name in rows})
    expected = stock(types, rows)
    assert all(encodes_key(kind) for kind in types.values())
    assert encode_keys(batch, types).to_pylist() == expected
    assert encode_keys(batch[1:], types).to_pylist() == expected[1:]
    assert KeyEncoder(types)(rows) == expected


def _whole(value):
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


@pytest.mark.parametrize(
    ("value_type", "asked"),
    [(ValueType.INT64, ["5", 5.0, True]), (ValueType.STRING, [5, 5.5, True]), (ValueType.INT32, ["-7"])],
)
def test_lookups_convert_as_feast_does(value_type, asked):
    assert KeyEncoder({"user_id": value_type})({"user_id": asked}) == stock({"user_id": value_type}, {"user_id": asked})


_NAN_IS_NULL = (ValueType.STRING, ValueType.INT64, ValueType.INT32)  # Feast refuses a float for the others


@pytest.mark.parametrize(
    ("value_type", "missing"), [(kind, None) for kind in KINDS] + [(kind, float("nan")) for kind in _NAN_IS_NULL]
)
def test_a_lookup_without_a_value_is_refused(value_type, missing):
    with pytest.raises(ValueError, match="null"):
        KeyEncoder({"user_id": value_type})({"user_id": [missing]})


def test_a_row_without_a_key_is_refused():
    batch = pa.record_batch({"user_id": pa.array(["a", None])})
    with pytest.raises(StoreError, match="1 of 2 rows have no user_id"):
        encode_keys(batch, {"user_id": ValueType.STRING})


def test_other_types_are_no_keys():
    assert not encodes_key(ValueType.FLOAT)
    assert not encodes_key(ValueType.FLOAT_LIST)

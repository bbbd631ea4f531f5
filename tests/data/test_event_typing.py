"""The owner's columns under our names and types."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.event_typing import TYPE_MISSING, TYPE_UNKNOWN, as_text, check_columns, event_types, user_ids
from segmenter_plugin.errors import EventsError

COLUMNS = {
    "user_id": "customer",
    "item_id": "sku",
    "event_type": "kind",
    "event_timestamp": "at",
    "price": "paid",
    "quantity": "units",
}
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS.values()])
CODED = pa.dictionary(pa.int32(), pa.string())


def config_of(columns=COLUMNS, **events):
    types = {"view": ["seen", "looked"], "purchase": ["bought"]}
    return parse_config({"events": {"path": "unused", "columns": columns, "types": types} | events})


def chunked(*parts, kind=None):
    return pa.chunked_array([pa.array(part, kind) for part in parts], kind)


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(EventsError, match=r"lack the column 'custmer'.*have \['at', .*'units'\]") as caught:
        check_columns(SCHEMA, config_of(COLUMNS | {"user_id": "custmer"}))
    assert caught.value.hint == "did you mean 'customer'?"
    with pytest.raises(EventsError, match="lack the column 'xyz'") as caught:
        check_columns(SCHEMA, config_of(COLUMNS | {"brand": "xyz"}))
    assert "leave it out" in caught.value.hint


def test_a_column_that_comes_twice_is_none():
    with pytest.raises(EventsError, match="lack the column 'sku'"):
        check_columns(pa.schema([*SCHEMA, pa.field("sku", pa.int64())]), config_of())


@pytest.mark.parametrize(
    ("ours", "kind"),
    [
        ("user_id", pa.float64()),
        ("user_id", pa.uint64()),
        ("user_id", pa.bool_()),
        ("user_id", pa.struct([("id", pa.int64())])),
        ("item_id", pa.float64()),
        ("item_id", pa.list_(pa.string())),
        ("item_id", pa.binary()),
        ("event_type", pa.decimal128(9, 2)),
        ("event_timestamp", pa.bool_()),
        ("price", pa.list_(pa.string())),
        ("quantity", pa.timestamp("us", tz="UTC")),
    ],
)
def test_a_wrong_type_is_refused(ours, kind):
    theirs = COLUMNS[ours]
    schema = SCHEMA.set(SCHEMA.get_field_index(theirs), pa.field(theirs, kind))
    with pytest.raises(EventsError, match=rf"column '{theirs}'.*type {re.escape(str(kind))}.*allowed are"):
        check_columns(schema, config_of())


@pytest.mark.parametrize(
    ("values", "kind", "expected", "ours"),
    [
        (["007", "", " ", None], pa.string(), ["007", None, " ", None], pa.string()),
        (["007", ""], pa.large_string(), ["007", None], pa.string()),
        (["007", "", None], CODED, ["007", None, None], pa.string()),
        ([7, None], pa.int16(), [7, None], pa.int64()),
        ([7, None], pa.uint32(), [7, None], pa.int64()),
        ([Decimal(7), None], pa.decimal128(18, 0), [7, None], pa.int64()),
        ([None], pa.null(), [None], pa.string()),
    ],
)
def test_users(values, kind, expected, ours):
    found = user_ids(chunked(values, values, kind=kind))
    assert (found.to_pylist(), found.type) == (expected * 2, ours)


@pytest.mark.parametrize(
    ("values", "kind", "expected", "ours"),
    [
        (["a", "", " ", None], pa.string(), ["a", None, " ", None], pa.string()),
        (["a", "b", None], CODED, ["a", "b", None], CODED),
        (["a", "", None], CODED, ["a", None, None], pa.string()),
        (["a", "b"], pa.dictionary(pa.int8(), pa.large_string()), ["a", "b"], CODED),
        (["a", ""], pa.string_view(), ["a", None], pa.string()),
        ([-7, None], pa.int64(), ["-7", None], pa.string()),
        ([Decimal(-10), None], pa.decimal128(9, 0), ["-10", None], pa.string()),
        ([True, None, False], pa.bool_(), ["true", None, "false"], pa.string()),
        ([date(2024, 5, 1), None], pa.date32(), ["2024-05-01", None], pa.string()),
        ([None], pa.null(), [None], pa.string()),
    ],
)
def test_text(values, kind, expected, ours):
    found = as_text(chunked(values, values, kind=kind))
    assert (found.to_pylist(), found.type) == (expected * 2, ours)


def typed(column, **events):
    found = event_types(column, config_of(**events).events)
    names = {TYPE_MISSING: None, TYPE_UNKNOWN: "?"} | dict(enumerate(found.names))
    return [names[code] for code in found.codes.tolist()]


OWNERS = ["seen", "bought", "looked", "danced", "", None, "purchase"]


@pytest.mark.parametrize("kind", [pa.string(), CODED])
def test_event_types(kind):
    column = chunked(OWNERS, OWNERS[::-1], kind=kind)
    expected = ["view", "purchase", "view", "?", None, None, "?"]
    assert typed(column) == expected + expected[::-1]
    kept = ["view", "purchase", "view", "danced", None, None, "purchase"]
    assert typed(column, unknown_type="keep") == kept + kept[::-1]


def test_chunks_may_have_dictionaries_of_their_own():
    chunks = [pa.array(["seen", "bought"]).dictionary_encode(), pa.array(["bought", "danced"]).dictionary_encode()]
    assert typed(pa.chunked_array(chunks)) == ["view", "purchase", "purchase", "?"]


def test_null_in_a_dictionary_is_missing():
    entries = pa.array(["seen", None])
    column = pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int32()), entries)])
    assert typed(column) == ["view", None, None]


def test_dates_and_instants_are_checked_as_times():
    stamps = SCHEMA.set(SCHEMA.get_field_index("at"), pa.field("at", pa.date32()))
    with pytest.raises(EventsError, match="naive"):
        check_columns(stamps, config_of())
    check_columns(stamps, config_of(timezone="UTC", latest_timestamp=str(datetime(2030, 1, 1, tzinfo=UTC))))

"""Cleaning: every reason of quarantine, every refused column, duplicates, returns, money."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from native_spark import events as module
from native_spark.events import REASONS, clean_events, event_columns
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import parse_config
from segmenter_plugin.errors import EventsError

MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)
COLUMNS = {
    "user_id": "customer",
    "item_id": "sku",
    "event_type": "kind",
    "event_timestamp": "at",
    "price": "paid",
    "quantity": "units",
}
TYPES = {"view": ["seen", "looked"], "purchase": ["bought"], "return": ["sent_back"]}
GOOD = {"customer": "anna", "sku": "s1", "kind": "bought", "at": "2024-05-01T12:00:00Z", "paid": "2.50", "units": "2"}
TEXT = pa.schema([(name, pa.string()) for name in GOOD])


def config_of(columns=COLUMNS, types=TYPES, **events):
    return parse_config({"events": {"path": "unused.csv", "columns": columns, "types": types} | events})


def text_rows(spark, *changes):
    return spark.createDataFrame(pa.Table.from_pylist([GOOD | change for change in changes], schema=TEXT))


def cleaned(raw, config):
    clean = clean_events(raw, config, partitions=1)
    kept, refused, counts = (frame.toArrow().to_pylist() for frame in (clean.events, clean.quarantine, clean.counts))
    return kept, refused, counts[0]


BAD = [
    ({"customer": None}, module.USER_ID_MISSING),
    ({"customer": ""}, module.USER_ID_MISSING),
    ({"at": None}, module.EVENT_TIMESTAMP_MISSING),
    ({"at": " "}, module.EVENT_TIMESTAMP_MISSING),
    ({"at": "yesterday"}, module.EVENT_TIMESTAMP_UNPARSEABLE),
    ({"at": "2024-13-01T00:00:00Z"}, module.EVENT_TIMESTAMP_UNPARSEABLE),
    ({"at": "2024-05-01T12:00:00"}, module.EVENT_TIMESTAMP_NAIVE),
    ({"at": "2024-05-01"}, module.EVENT_TIMESTAMP_NAIVE),
    ({"at": "1970-01-01T00:00:00Z"}, module.EVENT_TIMESTAMP_ABSURD),
    ({"at": "2999-01-01T00:00:00Z"}, module.EVENT_TIMESTAMP_ABSURD),
    ({"kind": None}, module.EVENT_TYPE_MISSING),
    ({"kind": "danced"}, module.EVENT_TYPE_UNKNOWN),
    ({"units": "two"}, module.QUANTITY_UNPARSEABLE),
    ({"units": "Infinity"}, module.QUANTITY_ABSURD),
    ({"units": "1e300"}, module.QUANTITY_ABSURD),
    ({"kind": "seen", "units": "-1"}, module.QUANTITY_NEGATIVE),
    ({"paid": "cheap"}, module.PRICE_UNPARSEABLE),
    ({"paid": "NaN"}, module.PRICE_ABSURD),
    ({"paid": "1e300"}, module.PRICE_ABSURD),
    ({"paid": "-0.01"}, module.PRICE_NEGATIVE),
]


def test_every_reason_of_quarantine(spark):
    kept, refused, counts = cleaned(text_rows(spark, {}, *(change for change, _ in BAD)), config_of())
    assert len(kept) == 1
    rows = {row[Columns.raw_row]: row[Columns.quarantine_reason] for row in refused}
    for change, reason in BAD:
        assert rows[json.dumps(GOOD | change, separators=(",", ":"))] == reason, change
    expected = [reason for _, reason in BAD]
    assert {reason: counts[reason] for reason in REASONS} == {reason: expected.count(reason) for reason in REASONS}
    assert set(expected) == set(REASONS)
    assert counts["rows"] == len(BAD) + 1
    assert counts["first"] == counts["last"] == int(MOMENT.timestamp() * 1_000_000)


def test_first_reason_wins(spark):
    _, refused, _ = cleaned(text_rows(spark, {"customer": None, "at": None, "paid": "-1"}), config_of())
    assert [row[Columns.quarantine_reason] for row in refused] == [module.USER_ID_MISSING]


def test_an_event_needs_no_item_and_no_price(spark):
    kept, refused, _ = cleaned(text_rows(spark, {"kind": "seen", "sku": "", "paid": None, "units": None}), config_of())
    assert not refused
    assert kept == [
        {
            "user_id": "anna",
            "event_timestamp": MOMENT,
            "event_type": "view",
            "item_id": None,
            "amount": None,
            "quantity": None,
        }
    ]


def test_money_and_returns(spark):
    changes = [
        {"customer": "unit price", "paid": "0.285", "units": "3"},
        {"customer": "no quantity", "units": None},
        {"customer": "negative quantity", "units": "-2"},
        {"customer": "negative return", "kind": "sent_back", "paid": "-2.50", "units": "1"},
    ]
    kept, refused, _ = cleaned(text_rows(spark, *changes), config_of())
    assert not refused
    found = {row["user_id"]: (row["event_type"], row["amount"], row["quantity"]) for row in kept}
    assert found == {
        "unit price": ("purchase", 0.86, 3.0),
        "no quantity": ("purchase", 2.5, None),
        "negative quantity": ("return", 5.0, 2.0),
        "negative return": ("return", 2.5, 1.0),
    }


def test_negative_quantity_without_returns_is_refused(spark):
    types = {name: TYPES[name] for name in ("view", "purchase")}
    kept, refused, _ = cleaned(text_rows(spark, {"units": "-2"}), config_of(types=types))
    assert (kept, refused[0][Columns.quarantine_reason]) == ([], module.QUANTITY_NEGATIVE)


def test_a_line_price_is_not_multiplied(spark):
    kept, _, _ = cleaned(text_rows(spark, {"paid": "1.005", "units": "7"}), config_of(price_is="line"))
    assert kept[0]["amount"] == 1.01


def test_unknown_types_are_kept_on_request(spark):
    kept, refused, _ = cleaned(text_rows(spark, {"kind": "danced"}, {"kind": "looked"}), config_of(unknown_type="keep"))
    assert sorted(row["event_type"] for row in kept) == ["danced", "view"]
    assert not refused


def test_a_constant_type_needs_no_column(spark):
    columns = {name: theirs for name, theirs in COLUMNS.items() if name != "event_type"}
    kept, _, _ = cleaned(text_rows(spark, {"kind": "whatever"}), config_of(columns, constant_event_type="purchase"))
    assert kept[0]["event_type"] == "purchase"


def test_equal_rows_are_duplicates(spark):
    """Unmapped columns do not count; the owner's own type and price do, even where ours come out equal."""
    columns = {name: theirs for name, theirs in COLUMNS.items() if name != "item_id"} | {"item_id": "customer"}
    raw = text_rows(spark, {}, {}, {"sku": "other"}, {"kind": "seen"}, {"kind": "looked"}, {"paid": "2.501"})
    kept, _, _ = cleaned(raw, config_of(columns))
    assert len(kept) == 4


def test_the_earliest_of_an_event_id_stays(spark):
    rows = [
        {"sku": "e1", "at": "2024-05-03T00:00:00Z", "customer": "berta"},
        {"sku": "e1", "at": "2024-05-02T00:00:00Z", "customer": "anna"},
        {"sku": "e1", "at": "2024-05-01T00:00:00Z", "customer": None},
        {"sku": None, "at": "2024-05-02T00:00:00Z"},
        {"sku": None, "at": "2024-05-02T00:00:00Z"},
        {"sku": None, "at": "2024-05-03T00:00:00Z"},
    ]
    kept, refused, _ = cleaned(text_rows(spark, *rows), config_of(COLUMNS | {"event_id": "sku", "item_id": "kind"}))
    assert len(refused) == 1
    found = sorted((row["event_id"] or "", row["user_id"], row["event_timestamp"].day) for row in kept)
    assert found == [("", "anna", 2), ("", "anna", 3), ("e1", "anna", 2)]


def test_further_columns(spark):
    table = pa.table(
        {
            "customer": pa.array([7, 8], pa.int32()),
            "sku": pa.array([Decimal(12), None], pa.decimal128(10, 0)),
            "kind": ["bought", "seen"],
            "at": pa.array([MOMENT, MOMENT], pa.timestamp("ms", tz="Europe/Berlin")),
            "a.b": pa.array([True, None]),
            "day": pa.array([date(2024, 5, 1), None]),
            "weight": ["1.5", "heavy"],
            "score": [float("nan"), 2.0],
        }
    )
    columns = {name: theirs for name, theirs in COLUMNS.items() if name not in ("price", "quantity")}
    config = config_of(columns | {"category": "a.b", "categorical": ["day"], "numeric": ["weight", "score"]})
    kept, refused, counts = cleaned(spark.createDataFrame(table), config)
    assert not refused
    assert sorted((list(row.values()) for row in kept), key=lambda row: row[0]) == [
        [7, MOMENT, "purchase", "12", "true", "2024-05-01", 1.5, None],
        [8, MOMENT, "view", None, None, None, None, 2.0],
    ]
    assert list(kept[0]) == event_columns(config)
    assert (counts["unreadable_weight"], counts["unreadable_score"]) == (1, 0)


def test_a_missing_column_is_named_with_the_nearest(spark):
    with pytest.raises(EventsError, match=r"lack the column 'custmer'.*have \['at', .*'units'\]") as caught:
        clean_events(text_rows(spark, {}), config_of(COLUMNS | {"user_id": "custmer"}))
    assert caught.value.hint == "did you mean 'customer'?"


@pytest.mark.parametrize(
    ("ours", "values", "kind"),
    [
        ("user_id", [1.5], "double"),
        ("user_id", [{"id": 1}], "struct<id:bigint>"),
        ("item_id", [1.5], "double"),
        ("item_id", [["a"]], "array<string>"),
        ("event_type", [1.5], "double"),
        ("event_timestamp", [True], "boolean"),
        ("price", [["a"]], "array<string>"),
        ("quantity", [MOMENT], "timestamp"),
    ],
)
def test_a_wrong_type_is_refused(spark, ours, values, kind):
    theirs = COLUMNS[ours]
    table = pa.Table.from_pylist([GOOD], schema=TEXT)
    table = table.set_column(table.column_names.index(theirs), theirs, pa.array(values))
    with pytest.raises(EventsError, match=f"column '{theirs}'.*type {kind}.*allowed are"):
        clean_events(spark.createDataFrame(table), config_of())

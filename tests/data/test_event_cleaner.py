"""Cleaning: equal to Spark SQL's on untidy tables, whatever the batches; every reason, returns, money."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import messy_world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import parse_config
from segmenter_plugin.data import event_reasons as module
from segmenter_plugin.data.event_block import event_columns
from segmenter_plugin.data.event_cleaner import REASONS, EventCleaner
from segmenter_plugin.errors import EventsError
from segmenter_plugin.schemas import TIMESTAMP

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


def text_rows(*changes):
    return pa.Table.from_pylist([GOOD | change for change in changes], schema=TEXT)


def replaced(rows, **columns):
    return pa.table(dict(zip(rows.column_names, rows.columns, strict=True)) | columns)


def cleaned(rows, config):
    return EventCleaner.of(rows.schema, config).clean(rows)


def kept_of(rows, config):
    found = cleaned(rows, config)
    assert not len(found.refused), found.reasons
    return found.events.to_pylist()


def counted(events):
    """Rows as a multiset."""
    return Counter(tuple(row.values()) for row in events.to_pylist())


@pytest.fixture(scope="module")
def reference(spark, tmp_path_factory):
    """Cleaning in Spark SQL: clean rows with duplicates, and counts."""
    from native_spark.events import clean_events

    path = str(tmp_path_factory.mktemp("reference") / "raw.parquet")

    def clean(raw, config):
        pq.write_table(raw, path)
        found = clean_events(spark.read.parquet(path), config)
        return found.repeated.toArrow(), found.counts.toArrow().to_pylist()[0]

    return clean


def check_against(reference, world):
    raw, config = world
    ours = cleaned(raw, config)
    theirs, counts = reference(raw, config)
    assert ours.events.column_names == theirs.column_names
    assert counted(ours.events) == counted(theirs)
    refused = Counter(ours.reasons.to_pylist())
    assert {reason: refused[reason] for reason in REASONS} == {reason: counts[reason] for reason in REASONS}
    assert ours.unreadable == {"weight": counts["unreadable_weight"]}


@given(world=messy_world.raw_tables(rows=1500))
@settings(max_examples=6, phases=[Phase.generate])
def test_equals_spark_sql(reference, world):
    check_against(reference, world)


@pytest.mark.slow
@given(world=messy_world.raw_tables(rows=1500))
@settings(max_examples=100)
def test_equals_spark_sql_in_many_worlds(reference, world):
    check_against(reference, world)


@given(world=messy_world.raw_tables(rows=60), size=st.integers(1, 61))
@settings(max_examples=40)
def test_batches_do_not_matter(world, size):
    raw, config = world
    whole = cleaned(raw, config)
    cleaner = EventCleaner.of(raw.schema, config)
    batches = raw.to_batches(max_chunksize=size)
    parts = [cleaner.clean(batch) for batch in batches]
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    assert pa.concat_tables([part.events for part in parts], promote_options="permissive").to_pylist() == (
        whole.events.to_pylist()
    )
    places = [start + part.refused for start, part in zip(starts, parts, strict=False)]
    assert np.concatenate(places).tolist() == whole.refused.tolist()
    assert [reason for part in parts for reason in part.reasons.to_pylist()] == whole.reasons.to_pylist()
    chunked = pa.Table.from_batches(batches)
    assert cleaner.clean(chunked).events.to_pylist() == whole.events.to_pylist()


@given(world=messy_world.raw_tables(rows=40))
@settings(max_examples=40)
def test_types_are_as_promised(world):
    raw, config = world
    found = cleaned(raw, config)
    assert found.events.column_names == event_columns(config)
    assert found.events.num_rows + len(found.refused) == raw.num_rows
    text = (pa.string(), pa.dictionary(pa.int32(), pa.string()))
    numbers = {Columns.amount, Columns.quantity, "weight"}
    for field in found.events.schema:
        if field.name == Columns.user_id:
            assert field.type in (pa.string(), pa.int64())
        elif field.name == Columns.event_timestamp:
            assert field.type == TIMESTAMP
        else:
            assert field.type == pa.float64() if field.name in numbers else field.type in text
    found.events.validate(full=True)


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
    ({"kind": ""}, module.EVENT_TYPE_MISSING),
    ({"kind": "danced"}, module.EVENT_TYPE_UNKNOWN),
    ({"units": "two"}, module.QUANTITY_UNPARSEABLE),
    ({"units": "Infinity"}, module.QUANTITY_ABSURD),
    ({"units": "1e300"}, module.QUANTITY_ABSURD),
    ({"kind": "seen", "units": "-1"}, module.QUANTITY_NEGATIVE),
    ({"paid": "cheap"}, module.PRICE_UNPARSEABLE),
    ({"paid": "NaN"}, module.PRICE_ABSURD),
    ({"paid": "1e300"}, module.PRICE_ABSURD),
    ({"paid": "9e11", "units": "3"}, module.PRICE_ABSURD),
    ({"paid": "-0.01"}, module.PRICE_NEGATIVE),
]


def test_every_reason():
    found = cleaned(text_rows({}, *(change for change, _ in BAD)), config_of())
    assert found.events.num_rows == 1
    assert found.refused.tolist() == list(range(1, len(BAD) + 1))
    assert found.reasons.to_pylist() == [reason for _, reason in BAD]
    assert set(REASONS) == {reason for _, reason in BAD}


def test_first_reason_wins():
    found = cleaned(text_rows({"customer": None, "at": None, "paid": "-1"}, {"at": "x", "kind": None}), config_of())
    assert found.reasons.to_pylist() == [module.USER_ID_MISSING, module.EVENT_TIMESTAMP_UNPARSEABLE]


def test_an_event_needs_no_item_and_no_price():
    kept = kept_of(text_rows({"kind": "seen", "sku": "", "paid": None, "units": None}), config_of())
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


def test_money_and_returns():
    changes = [
        {"customer": "unit price", "paid": "0.285", "units": "3"},
        {"customer": "no quantity", "units": None},
        {"customer": "negative quantity", "units": "-2"},
        {"customer": "negative return", "kind": "sent_back", "paid": "-2.50", "units": "1"},
    ]
    kept = kept_of(text_rows(*changes), config_of())
    assert {row["user_id"]: (row["event_type"], row["amount"], row["quantity"]) for row in kept} == {
        "unit price": ("purchase", 0.86, 3.0),
        "no quantity": ("purchase", 2.5, None),
        "negative quantity": ("return", 5.0, 2.0),
        "negative return": ("return", 2.5, 1.0),
    }


def test_negative_quantity_without_returns_is_refused():
    types = {name: TYPES[name] for name in ("view", "purchase")}
    found = cleaned(text_rows({"units": "-2"}), config_of(types=types))
    assert found.reasons.to_pylist() == [module.QUANTITY_NEGATIVE]


def test_a_line_price_is_not_multiplied():
    kept = kept_of(text_rows({"paid": "1.005", "units": "7"}), config_of(price_is="line"))
    assert kept[0]["amount"] == 1.01


def test_a_constant_type_needs_no_column():
    columns = {name: theirs for name, theirs in COLUMNS.items() if name != "event_type"}
    config = config_of(columns, constant_event_type="purchase")
    assert kept_of(text_rows({"kind": "whatever"}), config)[0]["event_type"] == "purchase"
    assert "kind" not in EventCleaner.of(TEXT, config).columns


def test_bounds_of_time_are_the_configuration_s():
    times = [
        "2024-04-30T23:59:59.999999Z",
        "2024-05-01T00:00:00Z",
        "2024-05-02T00:00:00Z",
        "2024-05-02T00:00:00.000001Z",
    ]
    config = config_of(earliest_timestamp="2024-05-01T00:00:00Z", latest_timestamp="2024-05-02T00:00:00Z")
    found = cleaned(text_rows(*({"at": at} for at in times)), config)
    assert found.refused.tolist() == [0, 3]


def test_a_widened_column_is_read_as_it_comes():
    rows = text_rows({})
    narrow = replaced(rows, customer=pa.array([7], pa.int32()), paid=pa.array([2.5], pa.float32()))
    wide = replaced(rows, customer=pa.array([2**40]), paid=pa.array([Decimal("2.50")], pa.decimal128(9, 2)))
    cleaner = EventCleaner.of(narrow.schema, config_of())
    first, second = (cleaner.clean(table).events for table in (narrow, wide))
    assert first.schema == second.schema
    assert first["amount"].to_pylist() == second["amount"].to_pylist() == [5.0]
    with pytest.raises(EventsError, match=r"'customer' \(user_id\) has type double"):
        cleaner.clean(replaced(rows, customer=pa.array([1.5])))


def test_a_column_of_nulls_alone_is_absent():
    rows = replaced(text_rows({}), sku=pa.nulls(1), paid=pa.nulls(1))
    (row,) = kept_of(rows, config_of())
    assert (row["item_id"], row["amount"]) == (None, None)


def test_nothing_comes_of_nothing():
    found = cleaned(text_rows(), config_of())
    assert (found.events.num_rows, len(found.refused), len(found.reasons)) == (0, 0, 0)
    assert found.events.column_names == event_columns(config_of())


def test_clean_columns_are_not_copied():
    rows = text_rows({}, {"customer": "berta"})
    found = cleaned(rows, config_of())
    for ours, theirs in (("user_id", "customer"), ("item_id", "sku")):
        assert found.events[ours].chunk(0).buffers()[2].address == rows[theirs].chunk(0).buffers()[2].address

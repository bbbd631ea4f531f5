"""Feast types and descriptions of our columns."""

from __future__ import annotations

import pyarrow as pa
import pytest
from feast import ValueType
from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp

from segmenter_plugin.errors import ConfigError, StoreError
from segmenter_plugin.schemas import TIMESTAMP, activity_fields, provenance_fields, score_fields, segment_fields
from segmenter_plugin.store.fields import arrow_field, description, feast_field, feast_type, key_type


@pytest.fixture
def columns(shop, tmp_path):
    config = shop.shop_config(tmp_path)
    embedding = pa.field("embedding", pa.list_(pa.float32()))
    return [*activity_fields(config), *score_fields(config), embedding, *provenance_fields(), *segment_fields()]


@pytest.mark.parametrize(
    ("arrow", "feast"),
    [
        (pa.float32(), Float32),
        (pa.float64(), Float64),
        (pa.int64(), Int64),
        (pa.string(), String),
        (TIMESTAMP, UnixTimestamp),
        (pa.list_(pa.float32()), Array(Float32)),
        (pa.large_list(pa.string()), Array(String)),
    ],
)
def test_arrow_types_have_feast_types(arrow, feast):
    assert feast_type(arrow) == feast


def test_a_type_that_feast_would_convert_is_refused():
    with pytest.raises(StoreError, match="decimal128"):
        feast_type(pa.decimal128(10, 2))


def test_the_naming_rule_gives_the_types_of_the_schemas(shop, tmp_path):
    config = shop.shop_config(tmp_path)
    for column in [*activity_fields(config), *score_fields(config)]:
        assert arrow_field(column.name) == column


def test_every_column_says_what_it_holds(columns):
    for column in columns:
        text = feast_field(column).description
        assert text.endswith("."), column.name
        assert "{" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("view_count_28d", "Number of view in the 28 days before the cutoff."),
        ("active_day_count_7d", "Days with at least one event, of the 7 days before the cutoff."),
        ("purchase_sum_7d", "Money of purchase events in the 7 days before the cutoff, events' currency."),
        ("distinct_item_count", "Number of distinct item values in the observation window."),
        ("return_recency_days", "Days from the last return event to the cutoff; null where there is none."),
        ("spend_28d_expected", "Expected money of spend in the next 28 days, events' currency."),
        (
            "spend_14d_gap7d_probability",
            "Probability of spend in 14 days that begin 7 days after the cutoff, in [0, 1].",
        ),
        (
            "spend_28d_p90",
            "Money of spend in the next 28 days; 90 in 100 such users stay within it, events' currency.",
        ),
        (
            "spend_14d_gap7d_p10",
            (
                "Money of spend in 14 days that begin 7 days after the cutoff; 10 in 100 such users stay within it, "
                "events' currency."
            ),
        ),
        ("their_own_column", ""),
    ],
)
def test_descriptions_name_window_and_unit(name, text):
    assert description(name) == text


def test_ids_are_strings_or_int64():
    assert key_type(pa.string()) == ValueType.STRING
    assert key_type(pa.int64()) == ValueType.INT64
    with pytest.raises(ConfigError, match="double"):
        key_type(pa.float64())

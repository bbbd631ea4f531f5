import pyarrow as pa
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.errors import SchemaError
from segmenter_plugin.schemas import (
    activity_fields,
    behaviour_schema,
    conform,
    label_fields,
    labels_schema,
    score_fields,
    scores_schema,
    scores_schema_of,
    segments_schema,
    user_type_of,
)


def test_names_derive_from_windows_and_types(config):
    names = [field.name for field in activity_fields(config)]
    assert len(set(names)) == len(names)
    for expected in ("view_count_7d", "purchase_sum_28d", "return_sum_365d", "order_count_90d", "distinct_item_count"):
        assert expected in names


def test_a_shop_without_prices_has_no_money(tree):
    columns = {key: value for key, value in tree["events"]["columns"].items() if key != "price"}
    tree["events"]["columns"] = columns
    config = parse_config(tree | {"tasks": tree["tasks"][:1]})
    schema = behaviour_schema(config, pa.int64())
    assert not [name for name in schema.names if "sum" in name or "amount" in name]


def test_every_table_starts_with_user_and_cutoff(config):
    for schema in (
        behaviour_schema(config, pa.int64()),
        labels_schema(config, pa.int64()),
        scores_schema(config, pa.int64()),
        segments_schema(pa.int64()),
    ):
        assert schema.names[:2] == ["user_id", "event_timestamp"]
        assert schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


def test_scores_hold_each_tasks_columns_and_one_number_for_all(config):
    names = [field.name for field in score_fields(config)]
    assert names == [*(name for task in config.tasks for name in task.score_columns), "value_score"]
    assert {field.type for field in score_fields(config)} == {pa.float32()}
    assert scores_schema(config, pa.int64()) == scores_schema_of(config.tasks, pa.int64())


def test_classes_alone_give_no_value_score(tree):
    ladder = {"name": "funnel", "kind": "multiclass", "prediction_days": 7, "ladder": ["view", "purchase"]}
    config = parse_config(tree | {"tasks": [ladder]})
    assert score_fields(config) == [pa.field("funnel_7d_probabilities", pa.list_(pa.float32()))]
    assert scores_schema(config, pa.int64()) == scores_schema_of(config.tasks, pa.int64())


def test_labels_of_a_ladder_of_each_category_name_value_and_rung(tree):
    ladder = {"name": "funnel", "kind": "multiclass", "prediction_days": 7, "ladder": ["view", "purchase"]}
    config = parse_config(tree | {"tasks": [ladder | {"target": "item_id"}]})
    (field,) = label_fields(config)
    assert field.name == "funnel_7d_label"
    assert field.nullable
    assert field.type == pa.list_(pa.struct([("value", pa.string()), ("rung", pa.string())]))
    assert score_fields(config) == [pa.field("funnel_7d_probabilities", pa.list_(pa.float32()))]


def test_conform_orders_and_casts(config):
    schema = pa.schema([pa.field("a", pa.int64()), pa.field("b", pa.float32())])
    table = pa.table({"c": ["x"], "b": pa.array([1.0]), "a": pa.array([3], pa.int32())})
    assert conform(table, schema, "rows").schema == schema


def test_conform_names_what_is_missing_or_does_not_fit():
    schema = pa.schema([pa.field("a", pa.int64())])
    with pytest.raises(SchemaError, match=r"rows lacks the columns \['a'\]"):
        conform(pa.table({"b": [1]}), schema, "rows")
    with pytest.raises(SchemaError, match="expected types"):
        conform(pa.table({"a": ["x"]}), schema, "rows")


def test_the_user_type_is_string_or_integer():
    assert user_type_of(pa.schema([pa.field("user_id", pa.large_string())])) == pa.string()
    assert user_type_of(pa.schema([pa.field("user_id", pa.int64())])) == pa.int64()

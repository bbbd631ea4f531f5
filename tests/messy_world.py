"""Raw tables of the owner's in every type that a column may come in, with values as untidy as they get."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from segmenter_plugin.config import Config, parse_config

MOMENT = datetime(2024, 7, 1, 10, 30, 15, 123456, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())
#: When clocks in Berlin are put back and forward, by the wall clock.
WALLS = [datetime(2023, 10, 29, 2, 30), datetime(2024, 3, 31, 2, 30), datetime(2024, 7, 1, 12)]  # noqa: DTZ001

_STAMPS = [MOMENT + timedelta(minutes=47 * step) for step in range(9)]
_STAMPS += [datetime(1971, 1, 1, tzinfo=UTC), datetime(2150, 1, 1, tzinfo=UTC), None]
_EPOCHS = [SECONDS, SECONDS + 86_400, -1, 0, 2**62, -(2**62), None]

#: Names of types -> type, and values to choose from.
TIMES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "instant": (pa.timestamp("us", tz="UTC"), _STAMPS),
    "berlin": (pa.timestamp("ms", tz="Europe/Berlin"), [at and at.replace(microsecond=0) for at in _STAMPS]),
    "naive": (pa.timestamp("us"), [*WALLS, datetime(1971, 1, 1), None]),  # noqa: DTZ001
    "date": (pa.date32(), [date(2024, 7, 1), date(2024, 3, 31), date(1970, 1, 1), None]),
    "epoch": (pa.int64(), _EPOCHS),
    "small epoch": (pa.int32(), [SECONDS, SECONDS + 1, -1, None]),
    "double epoch": (pa.float64(), [SECONDS + 0.25, SECONDS + 0.1, 1e300, float("nan"), float("inf"), -0.5, None]),
    "decimal epoch": (pa.decimal128(20, 6), [Decimal(SECONDS) + Decimal("0.123457"), Decimal(3), None]),
    "text epoch": (pa.string(), [str(SECONDS), f" {SECONDS}.5 ", "", " ", "x", "\t", "1e300", "nan", None]),
    "text": (
        pa.string(),
        [
            "2024-07-01T10:30:15.123456Z", "2024-07-01T10:30:15Z", "2024-07-01 10:30:15 UTC",
            "2024-07-01T12:30:15+02:00", "2024-07-01T12:30:15+0200", "2024-07-01T12:30:15+2:00",
            "2024-07-01 05:30:15.5-05:00", "2024-02-29T00:00:00Z", "2024-07-01 12:30:15 Europe/Berlin",
            "2023-10-29 02:30:00 Europe/Berlin", "2024-03-31 02:30:00 Europe/Berlin",
            "2024-07-01T10:30:15", "2024-07-01 10:30", "2024-07-01", "2024-7-1 3:07", "2024-07", "2024", "2024-07-01 9",
            "2023-10-29 02:30:00", "2024-03-31 02:30:00", " 2024-07-01T10:30:15Z ", "\t2024-07-01T10:30:15Z",
            "2024-07-01T10:30:15.1234567891Z", "2024-07-01T10:30:15.", "+2024-07-01", "20240-01-01", "-2024-01-01",
            "300000-01-01", "2024-13-01", "2024-02-30T00:00:00Z", "2024-07-01T24:00:00", "2024-07-01T10:30:60Z",
            "2024-07-01T", "2024-07-01T10:", "2024-07-01  10:30", "2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z",
            "2024-07-01 10:30:15 europe/berlin", "2024-07-01 10:30:15z", "yesterday", "", " ", "\t", None,
        ],
    ),
}  # fmt: skip
USERS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["anna", "berta", "007", " ", "ü", "", None]),
    "coded": (pa.dictionary(pa.int32(), pa.string()), ["anna", "berta", "", None]),
    "large": (pa.large_string(), ["anna", "", None]),
    "int": (pa.int32(), [7, 8, -1, None]),
    "long": (pa.int64(), [7, 2**60, None]),
    "decimal": (pa.decimal128(18, 0), [Decimal(7), None]),
}
LABELS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["seen", "bought", "sent_back", "danced", "purchase", "return", "", " ", None]),
    "coded": (pa.dictionary(pa.int32(), pa.string()), ["seen", "bought", "sent_back", "bought", "x", "", None]),
    "int": (pa.int16(), [1, 2, 3, None]),
    "decimal": (pa.decimal128(9, 0), [Decimal(2), Decimal(-10), None]),
    "bool": (pa.bool_(), [True, False, None]),
    "date": (pa.date32(), [date(2024, 5, 1), date(1969, 12, 31), None]),
}
NUMBERS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "double": (
        pa.float64(),
        [2.5, 1.005, 0.285, 2.675, 19.99, 0.1, -2.5, -0.0, 0.0, 1e12, 1.1e12, 123456789.125, float("nan"), float("inf"),
         None],
    ),
    "float": (pa.float32(), [2.5, 0.1, -1.0, float("nan"), None]),
    "int": (pa.int32(), [1, 3, -2, 0, None]),
    "decimal": (pa.decimal128(12, 3), [*map(Decimal, ("1.005", "0.290", "-7.125", "999999999.999")), None]),
    "wide decimal": (pa.decimal128(30, 10), [Decimal("0.2900000001"), Decimal("12345678901234.57"), None]),
    "bool": (pa.bool_(), [True, False, None]),
    "text": (
        pa.string(),
        ["2.50", " 3 ", "\t3", "+4", "-1", "1.", ".5", "1e2", "1E-3", "1.005", "two", "1,5", "1_000", "-", "0x10", "٣",
         "Infinity", "-inf", "NaN", " nan ", "1e400", "1e300", "", " ", "\t", None],
    ),
}  # fmt: skip

#: The owner's column -> types that it comes in; the first value of each is drawn most often, so that rows are kept.
COLUMNS = {
    "customer": USERS,
    "at": TIMES,
    "kind": LABELS,
    "sku": LABELS,
    "receipt": LABELS,
    "depart.ment": LABELS,
    "paid": NUMBERS,
    "units": NUMBERS,
    "weight": NUMBERS,
}
_ZONED = {"instant", "berlin", "text", "epoch", "small epoch", "double epoch", "decimal epoch", "text epoch"}


def raw_tables(rows: int) -> st.SearchStrategy[tuple[pa.Table, Config]]:
    """Tables of some rows, each column in one of its types, and a configuration that reads them."""
    kinds = st.fixed_dictionaries({name: st.sampled_from(sorted(types)) for name, types in COLUMNS.items()})
    options = st.fixed_dictionaries(
        {
            "price_is": st.sampled_from(["unit", "line"]),
            "unknown_type": st.sampled_from(["quarantine", "keep"]),
            "currency_digits": st.integers(0, 4),
            "timezone": st.sampled_from([None, "UTC", "Europe/Berlin"]),
            "timestamp_unit": st.sampled_from(["s", "s", "ms", "us"]),
            "types": st.sampled_from(
                [
                    {"view": ["seen", "1", "true"], "purchase": ["bought", "2"], "return": ["sent_back", "3"]},
                    {"view": ["seen", "1"], "purchase": ["bought", "2", "false"]},
                ]
            ),
        }
    )
    constant = st.sampled_from([False, False, True])
    return st.builds(lambda *drawn: _raw_table(rows, *drawn), kinds, options, constant, st.integers(0, 2**32))


def _raw_table(
    rows: int, kinds: dict[str, str], options: dict[str, Any], is_constant: bool, seed: int
) -> tuple[pa.Table, Config]:
    random = Random(seed)
    table = {}
    for name, kind in kinds.items():
        arrow, values = COLUMNS[name][kind]
        table[name] = pa.array([random.choice([*values, *values[:1] * 4]) for _ in range(rows)], arrow)
    if kinds["at"] not in _ZONED and options["timezone"] is None:
        options = options | {"timezone": "Europe/Berlin"}
    if "epoch" not in kinds["at"]:
        options = options | {"timestamp_unit": None}
    named = {"user_id": "customer", "item_id": "sku", "event_timestamp": "at", "event_id": "receipt"}
    named |= {"category": "depart.ment", "price": "paid", "quantity": "units"}
    columns = named | {"numeric": ["weight"]} | ({} if is_constant else {"event_type": "kind"})
    constant = {"constant_event_type": "purchase"} if is_constant else {}
    events = {"path": "unused.parquet", "columns": columns} | options | constant
    return pa.table(table), parse_config({"events": events})

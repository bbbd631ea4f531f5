"""What `segmenter init` does: look at events that nobody has described, and guess a configuration for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.data.column_profiles import ColumnProfile, profile_columns
from segmenter_plugin.data.column_roles import Roles, assign_roles, price_is_line
from segmenter_plugin.data.event_sample import EventSample, read_sample
from segmenter_plugin.data.event_words import event_type_of, name_score
from segmenter_plugin.data.guessed_config import Guess, render_config
from segmenter_plugin.errors import EventsError

logger = logging.getLogger(__name__)

__all__ = ["Guess", "inspect_events", "render_config"]

_MOST_EVENT_TYPES = 40
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def inspect_events(path: str) -> Guess:
    """Guess what the events hold from their schema and a sample of some 200,000 rows.

    Args:
        path: A Parquet or CSV file, a folder of such files, or a glob.

    Raises:
        EventsError: There is nothing to read, or no column tells the time, the user or the item.
    """
    sample = read_sample(path)
    roles = assign_roles(profile_columns(sample.table))
    _require(roles, sample)
    time = roles.columns[Columns.event_timestamp]
    span = _time_span(time, sample)
    types, constant, checks = _event_types(roles)
    if name_score(Columns.user_id, roles.columns[Columns.user_id].name) <= 0:
        checks[Columns.user_id] = "no name says user; this one comes nearest"
    checks |= {role: f"{rival!r} could be meant as well" for role, rival in roles.rivals.items()}
    quantity = roles.columns.get(Columns.quantity)
    if quantity is not None and quantity.negative_share > 0 and PURCHASE in types and RETURN not in types:
        # Spark's cleaning takes a purchase of negative quantity for a return, where there are returns.
        types[RETURN] = (RETURN,)
    guess = Guess(
        path=path,
        format=sample.format,
        columns={ours: profile.name for ours, profile in roles.columns.items()},
        categorical=roles.categorical,
        numeric=roles.numeric,
        types=types,
        constant_event_type=constant,
        timezone="UTC" if time.time_form == "naive" else None,
        timestamp_unit=time.time_form if time.time_form in {"s", "ms", "us"} else None,
        price_is=_price_is(roles, checks),
        first=span.first,
        last=span.last,
        bounds=None if span.stray_count == 0 else (span.low, span.high),
        facts=_facts(roles, span.stray_count),
        checks=checks,
        sampled_rows=sample.table.num_rows,
        row_count=sample.row_count,
    )
    logger.info("looked at %s rows of %s: %s", f"{guess.sampled_rows:,}", path, guess.columns)
    return guess


def _require(roles: Roles, sample: EventSample) -> None:
    names = sample.table.column_names
    if Columns.event_timestamp not in roles.columns:
        suspects = [name for name in names if name_score(Columns.event_timestamp, name) >= 8]
        shown = "".join(f"; {name!r} holds {_example(sample, name)!r}" for name in suspects[:1])
        raise EventsError(
            f"no column tells when an event happened (ISO 8601 text, a timestamp, or seconds since 1970){shown}; "
            f"the columns are {names}.",
            hint="write the time as 2017-10-01T06:00:00+00:00 or as epoch seconds, in a column such as event_time.",
        )
    for role, what in ((Columns.user_id, "whose event it was"), (Columns.item_id, "what it was about")):
        if role not in roles.columns:
            raise EventsError(
                f"no column tells {what}; the columns are {names}.",
                hint=f"name one {role}, or copy segmenter.toml from the project and map it in [events.columns].",
            )


def _example(sample: EventSample, name: str) -> Any:
    values = sample.table[name].drop_null()
    return values[0].as_py() if len(values) else None


def _event_types(roles: Roles) -> tuple[dict[str, tuple[str, ...]], str | None, dict[str, str]]:
    """`[events.types]`, the constant type where no column has one, and what to check."""
    column = roles.columns.get(Columns.event_type)
    if column is None:
        unsure = not {Columns.price, Columns.quantity, Columns.order_id} & set(roles.columns)
        note = {"constant_event_type": "no column tells the type, so every row is taken for a purchase"}
        return {PURCHASE: (PURCHASE,)}, PURCHASE, note if unsure else {}
    types: dict[str, tuple[str, ...]] = {}
    for value, _ in column.most_common(_MOST_EVENT_TYPES):
        ours = f"type_{value}" if column.kind == "number" else event_type_of(value)
        types[ours] = (*types.get(ours, ()), value)
    if column.kind == "number":
        return (
            types,
            None,
            {"types": f'numbers, the most frequent first: rename the keys, and call the purchase "{PURCHASE}"'},
        )
    checks = {} if PURCHASE in types else {"types": f'none looks like a purchase; if one is, call it "{PURCHASE}"'}
    return types, None, checks


def _price_is(roles: Roles, checks: dict[str, str]) -> str | None:
    price = roles.columns.get(Columns.price)
    if price is None:
        return None
    quantity, item = (roles.columns.get(role) for role in (Columns.quantity, Columns.item_id))
    is_line = price_is_line(price, quantity, item)
    if is_line is None and quantity is not None:
        checks["price_is"] = f'"line" if {price.name} is for all units of a row together'
    return "line" if is_line and quantity is not None else "unit"


@dataclass(frozen=True)
class _Span:
    """When events happen, in UTC: the bulk of them, the bounds beyond which rows are stray, and how many those are."""

    first: datetime
    last: datetime
    low: datetime
    high: datetime
    stray_count: int


def _time_span(time: ColumnProfile, sample: EventSample) -> _Span:
    times = np.sort(time.times) if time.times is not None else np.empty(0, np.int64)
    low, high = (int(times[int(share * (len(times) - 1))]) for share in (0.005, 0.995))
    # What lies further from the bulk than a quarter of its length is stray: a wrong clock, a default date.
    reach = max((high - low) // 4, _DAY_US)
    kept = times[(times >= low - reach) & (times <= high + reach)]
    # The first few of the rest may be stray still, and the windows should not reach back for their sake.
    first, last = int(kept[len(kept) // 2_000]), int(kept[-1])
    largest = _largest_time(sample.largest.get(time.name), time)
    if largest is not None and last < largest <= high + reach:
        last = largest
    return _Span(_moment(first), _moment(last), _moment(low - reach), _moment(high + reach), len(times) - len(kept))


def _largest_time(value: object, time: ColumnProfile) -> int | None:
    scale = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(time.time_form or "")
    if scale is not None and isinstance(value, int):
        return value * scale
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1)
    return None


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _facts(roles: Roles, outside: int) -> dict[str, str]:
    """What the sample showed, as comments beside the guesses."""
    facts = {}
    for role, profile in roles.columns.items():
        nulls = f", {profile.null_share:.1%} empty" if profile.null_share > 0.0005 else ""
        facts[role] = f"{profile.distinct_count:,} different in the sample{nulls}"
    quantity = roles.columns.get(Columns.quantity)
    if quantity is not None and quantity.negative_share > 0:
        facts[Columns.quantity] += f", {quantity.negative_share:.1%} negative: returns"
    if outside:
        facts["stray"] = f"{outside:,} sampled rows lie outside"
    return facts

"""Model-free aggregates in Spark SQL; `segmenter_plugin.data.block_activity` says what each column means."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from native_spark.timeline import (
    AMOUNT_MINOR,
    NEXT_EVENT_AT,
    distinct_keys,
    has_key,
    in_observation,
    is_last,
    next_at,
)
from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.schemas import activity_fields

#: Where there is no `session_id`, a pause longer than this starts a new session (the web's usual convention).
SESSION_GAP_MINUTES = 30

_DAY_MICROS = 24 * 60 * 60 * 1_000_000


def build_activity(timeline: DataFrame, cutoff: datetime, config: Config) -> DataFrame:
    """Aggregates of each user's observation window.

    Args:
        timeline: As `timeline.arrange` gives it.
        cutoff: Exclusive right end of the window, with a zone.
        config: `[windows]`, and which event types and columns there are.

    Returns:
        One row for each user with an event in the window: `user_id` and `schemas.activity_fields`.
    """
    days = config.windows.observation_days
    flagged = timeline.where(in_observation(cutoff, cutoff - timedelta(days=days))).withColumns(_marks(cutoff, config))
    windows = sorted({*config.windows.activity_days, days})
    aggregates = _counts(windows, config) | _sums(windows, config)
    aggregates |= _ages(config) | _gaps() | _distinct(config) | _further(config)
    grouped = flagged.groupBy(Columns.user_id).agg(*(column.alias(name) for name, column in aggregates.items()))
    final = {name: F.col(name) for name in aggregates} | _derived(days, config)
    return grouped.select(Columns.user_id, *(final[field.name].alias(field.name) for field in activity_fields(config)))


def _marks(cutoff: datetime, config: Config) -> dict[str, Column]:
    """What an event is as seen from the cutoff: its age, and whether it is the last of its day, order, session, ..."""
    age = F.unix_micros(F.lit(cutoff)) - F.unix_micros(Columns.event_timestamp)
    next_age = F.unix_micros(F.lit(cutoff)) - F.unix_micros(NEXT_EVENT_AT)
    is_newest = is_last(NEXT_EVENT_AT, cutoff)
    day_gap = _day(age) - _day(next_age)
    pause_ends = age - next_age > SESSION_GAP_MINUTES * 60 * 1_000_000
    marks = {
        "_age": age,
        # Days to the next active day; null within a day and after the last one.
        "_gap": F.when(~is_newest & (day_gap > 0), day_gap),
        "_last_active_day": is_newest | (day_gap > 0),
        "_last_session": is_newest | pause_ends,
    }
    for kind in distinct_keys(config):
        marks[f"_last_{kind}"] = F.col(has_key(kind)) & is_last(next_at(kind), cutoff)
    return marks


def _day(age: Column) -> Column:
    """0 for the 24 hours before the cutoff, 1 for those before them; of an age in microseconds, above 0."""
    return F.floor((age - 1) / F.lit(_DAY_MICROS))


def _within(days: int) -> Column:
    return F.col("_age") <= days * _DAY_MICROS


def _is_type(kind: str) -> Column:
    return F.col(Columns.event_type) == kind


def _counts(windows: list[int], config: Config) -> dict[str, Column]:
    counts = {}
    for days in windows:
        within = _within(days)
        counts[f"event_count_{days}d"] = F.count_if(within)
        for kind in ("order", "active_day", "session"):
            counts[f"{kind}_count_{days}d"] = F.count_if(within & F.col(f"_last_{kind}"))
        for kind in config.events.types:
            counts[f"{kind}_count_{days}d"] = F.count_if(within & _is_type(kind))
    return counts


def _sums(windows: list[int], config: Config) -> dict[str, Column]:
    if Columns.price not in config.events.columns.mapped:
        return {}
    sums = {}
    for kind in (PURCHASE, RETURN):
        for days in windows if kind in config.events.types else []:
            minor = F.coalesce(F.sum(F.when(_within(days) & _is_type(kind), F.col(AMOUNT_MINOR))), F.lit(0))
            sums[f"{kind}_sum_{days}d"] = minor / _scale(config)
    priced = F.when(_is_type(PURCHASE), F.col(AMOUNT_MINOR))
    sums["purchase_amount_mean"] = F.sum(priced) / F.count(priced) / _scale(config)
    sums["purchase_amount_max"] = F.max(priced) / _scale(config)
    sums["purchase_amount_min"] = F.min(priced) / _scale(config)
    # Squares of cents of a few large purchases are beyond a long.
    wide = priced.cast("decimal(19, 0)")
    number, total, squares = F.count(priced), F.sum(wide), F.sum(wide * wide)
    deviation = F.sqrt((number * squares - total * total).cast("double"))
    sums["purchase_amount_std"] = F.try_divide(deviation, number) / _scale(config)
    return sums


def _further(config: Config) -> dict[str, Column]:
    numbers = {}
    for name in config.events.columns.numeric:
        numbers[f"{name}_known_count"], numbers[f"{name}_mean"] = F.count(name), F.avg(name)
    return numbers


def _scale(config: Config) -> Column:
    return F.lit(10.0**config.events.currency_digits)


def _ages(config: Config) -> dict[str, Column]:
    day = F.lit(float(_DAY_MICROS))
    ages = {"recency_days": F.min("_age") / day, "tenure_days": F.max("_age") / day}
    for kind in config.events.types:
        ages[f"{kind}_recency_days"] = F.min(F.when(_is_type(kind), F.col("_age"))) / day
    return ages


def _gaps() -> dict[str, Column]:
    number, total = F.count("_gap"), F.sum("_gap")
    squares = F.sum(F.col("_gap") * F.col("_gap"))
    return {
        "gap_mean_days": F.try_divide(total, number),
        "gap_std_days": F.try_divide(F.sqrt(number * squares - total * total), number),
    }


def _distinct(config: Config) -> dict[str, Column]:
    kinds = [kind for kind in distinct_keys(config) if kind not in ("order", "session")]
    return {f"distinct_{kind}_count": F.count_if(F.col(f"_last_{kind}")) for kind in kinds}


def _derived(days: int, config: Config) -> dict[str, Column]:
    if Columns.price not in config.events.columns.mapped:
        return {}
    if PURCHASE not in config.events.types:
        return {"order_amount_mean": F.lit(None).cast("double")}
    orders = F.col(f"order_count_{days}d")
    return {"order_amount_mean": F.try_divide(F.col(f"purchase_sum_{days}d"), orders)}

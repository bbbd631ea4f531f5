"""Raw events to typed, deduplicated ones; what is malformed goes to quarantine with its reason.

A row is refused for the first reason, in the order of `REASONS`, that applies. An event without an item is fine (a
campaign receipt has none). A purchase of negative quantity is a return where `[events.types]` has returns.

Duplicates are rows with the same `event_id`, of which the earliest is kept: an event before a cutoff can then not be
displaced by one after it. Rows without an `event_id` are duplicates if they are equal in all mapped columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from native_spark.mapping import as_number, as_text, check_columns, is_finite, owner_column, text_columns
from native_spark.mapping import user_ids as typed_user_ids
from native_spark.times import parse_times
from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import event_columns
from segmenter_plugin.errors import EventsError
from segmenter_plugin.schemas import numeric_columns

USER_ID_MISSING = "user_id_missing"
EVENT_TIMESTAMP_MISSING = "event_timestamp_missing"
EVENT_TIMESTAMP_NAIVE = "event_timestamp_naive"
EVENT_TIMESTAMP_UNPARSEABLE = "event_timestamp_unparseable"
EVENT_TIMESTAMP_ABSURD = "event_timestamp_absurd"
EVENT_TYPE_MISSING = "event_type_missing"
EVENT_TYPE_UNKNOWN = "event_type_unknown"
PRICE_UNPARSEABLE = "price_unparseable"
PRICE_ABSURD = "price_absurd"
PRICE_NEGATIVE = "price_negative"
QUANTITY_UNPARSEABLE = "quantity_unparseable"
QUANTITY_ABSURD = "quantity_absurd"
QUANTITY_NEGATIVE = "quantity_negative"

REASONS = (
    USER_ID_MISSING,
    EVENT_TIMESTAMP_MISSING,
    EVENT_TIMESTAMP_NAIVE,
    EVENT_TIMESTAMP_UNPARSEABLE,
    EVENT_TIMESTAMP_ABSURD,
    EVENT_TYPE_MISSING,
    EVENT_TYPE_UNKNOWN,
    QUANTITY_UNPARSEABLE,
    QUANTITY_ABSURD,
    QUANTITY_NEGATIVE,
    PRICE_UNPARSEABLE,
    PRICE_ABSURD,
    PRICE_NEGATIVE,
)

#: Upper bound of event times where `[events] latest_timestamp` gives none; what lies beyond is a broken clock.
LATEST_TIMESTAMP = "2100-01-01T00:00:00+00:00"
#: Upper bound of one event's money and quantity; sums of integer minor units stay within 64 bits.
LARGEST_AMOUNT = 1e12

_OWNER_TYPE, _PRICE, _QUANTITY = "_owner_type", "_price", "_quantity"
_TIME_PROBLEM, _PRICE_IS_TEXT, _QUANTITY_IS_TEXT = "_time_problem", "_price_is_text", "_quantity_is_text"
#: Prefix of the counts of values that are no numbers.
UNREADABLE = "unreadable_"


@dataclass(frozen=True)
class CleanEvents:
    """What cleaning yields; nothing is computed until a frame is written or counted.

    Attributes:
        events: One row an event, columns of `event_columns`, partitioned by user.
        repeated: The same with duplicates still in, in no particular order.
        quarantine: `quarantine_reason`, and the owner's whole row as JSON in `raw_row`.
        counts: One row: `rows`; one count by each of `REASONS`; `unreadable_<column>`, values of a further numeric
            column that are no numbers and became null; `first` and `last` time of valid events, in microseconds since
            1970 UTC. A pass of its own: Spark's observed metrics are lost where nothing is left to write.
    """

    events: DataFrame
    repeated: DataFrame
    quarantine: DataFrame
    counts: DataFrame


def clean_events(raw: DataFrame, config: Config, partitions: int | None = None) -> CleanEvents:
    """Type, judge and deduplicate raw events.

    Args:
        raw: The owner's rows, as `source.read_events` gives them.
        config: `[events]` says what the columns mean.
        partitions: In how many partitions, by hash of the user, clean events come; Spark's default if not given.

    Raises:
        EventsError: A mapped column is missing or of a type that cannot hold it; times are naive and no zone is named.
    """
    check_columns(raw, config)
    raw_row = F.to_json(F.struct("*"), {"ignoreNullFields": "false"}).alias(Columns.raw_row)
    typed, unreadable = _typed(raw, config)
    judged = raw.select(*typed).withColumn(Columns.quarantine_reason, _reason(config))
    is_kept = F.col(Columns.quarantine_reason).isNull()
    time = F.when(is_kept, F.unix_micros(Columns.event_timestamp))
    metrics = [F.count_if(F.col(Columns.quarantine_reason) == reason).alias(reason) for reason in REASONS]
    metrics += [F.count_if(is_kept & F.col(name)).alias(name) for name in unreadable]
    metrics += [F.count(F.lit(1)).alias("rows"), F.min(time).alias("first"), F.max(time).alias("last")]
    counts = judged.agg(*metrics)
    kept = judged.where(is_kept).withColumns(_money(config)).drop(*unreadable)
    by_user = (Columns.user_id,) if partitions is None else (partitions, Columns.user_id)
    events = _without_duplicates(kept, config, by_user).select(*event_columns(config))
    refused = raw.select(raw_row, *typed).withColumn(Columns.quarantine_reason, _reason(config)).where(~is_kept)
    repeated = kept.select(*event_columns(config))
    return CleanEvents(events, repeated, refused.select(Columns.quarantine_reason, Columns.raw_row), counts)


def count_events(clean: CleanEvents, where: str) -> dict[str, Any]:
    """The one row of `clean.counts`; this is the first time that the owner's rows are read.

    Raises:
        EventsError: They cannot be read to the end; `where` names them in the message.
    """
    try:
        (found,) = clean.counts.toArrow().to_pylist()
    except PySparkException as error:
        raise EventsError(
            f"the events of {where!r} break off: {str(error).splitlines()[0]}",
            hint="look for a file that is damaged, or whose columns differ from the others'.",
        ) from error
    return dict(found)


def _typed(raw: DataFrame, config: Config) -> tuple[list[Column], list[str]]:
    """Our columns and what judging needs, from the owner's; and the names of the `unreadable_` flags among them."""
    events, columns = config.events, config.events.columns
    moment, kind = owner_column(raw, columns.event_timestamp)
    time = parse_times(moment, columns.event_timestamp, kind, events)
    problem = (
        F.when(time.is_missing, EVENT_TIMESTAMP_MISSING)
        .when(time.is_naive, EVENT_TIMESTAMP_NAIVE)
        .when(time.is_out_of_range, EVENT_TIMESTAMP_ABSURD)
        .when(time.instant.isNull(), EVENT_TIMESTAMP_UNPARSEABLE)
    )
    if columns.event_type is None:
        owner_type = F.lit(events.types[str(events.constant_event_type)][0])
    else:
        owner_type = as_text(raw, Columns.event_type, columns.event_type)
    typed = {Columns.user_id: typed_user_ids(raw, columns), Columns.event_timestamp: time.instant}
    typed |= {_TIME_PROBLEM: problem, _OWNER_TYPE: owner_type} | text_columns(raw, columns)
    for name, ours, is_text in ((_PRICE, "price", _PRICE_IS_TEXT), (_QUANTITY, "quantity", _QUANTITY_IS_TEXT)):
        theirs = columns.mapped.get(ours)
        absent = (F.lit(None).cast("double"), F.lit(False))
        typed[name], typed[is_text] = absent if theirs is None else as_number(raw, ours, theirs)
    unreadable = []
    for name in columns.numeric:
        number, is_text = as_number(raw, name, name)
        typed[name] = F.when(is_finite(number), number)
        typed[UNREADABLE + name] = is_text
        unreadable.append(UNREADABLE + name)
    return [column.alias(name) for name, column in typed.items()], unreadable


def _event_type(config: Config) -> Column:
    """Our name of the owner's event type; null where unknown and unknown ones are refused."""
    owner = F.col(_OWNER_TYPE)
    known = reduce(
        lambda chain, entry: chain.when(owner.isin(*entry[1]), F.lit(entry[0])),
        config.events.types.items(),
        F.when(F.lit(False), F.lit("")),
    )
    return known.otherwise(owner) if config.events.unknown_type == "keep" else known


def _is_refund(config: Config) -> Column:
    """Whether a row takes money back: a return, or a purchase of negative quantity where there are returns."""
    kind = _event_type(config)
    negative = (kind == PURCHASE) & (F.col(_QUANTITY) < 0) & F.lit(RETURN in config.events.types)
    return F.coalesce((kind == RETURN) | negative, F.lit(False))


def _amount(config: Config) -> Column:
    """Money of the event, sign as the owner has it; null where there is no price."""
    price, quantity = F.col(_PRICE), F.coalesce(F.col(_QUANTITY), F.lit(1.0))
    return price if config.events.price_is == "line" else price * F.abs(quantity)


def _reason(config: Config) -> Column:
    time, price, quantity = F.col(Columns.event_timestamp), F.col(_PRICE), F.col(_QUANTITY)
    earliest = F.lit(config.time(config.events.earliest_timestamp))
    latest = F.lit(config.time(config.events.latest_timestamp or LATEST_TIMESTAMP))
    is_refund = _is_refund(config)
    checks = {
        EVENT_TIMESTAMP_ABSURD: (time < earliest) | (time > latest),
        EVENT_TYPE_MISSING: F.col(_OWNER_TYPE).isNull(),
        EVENT_TYPE_UNKNOWN: _event_type(config).isNull(),
        QUANTITY_UNPARSEABLE: F.col(_QUANTITY_IS_TEXT),
        QUANTITY_ABSURD: ~is_finite(quantity) | (F.abs(quantity) > LARGEST_AMOUNT),
        QUANTITY_NEGATIVE: (quantity < 0) & ~is_refund,
        PRICE_UNPARSEABLE: F.col(_PRICE_IS_TEXT),
        PRICE_ABSURD: ~is_finite(price) | (F.abs(_amount(config)) > LARGEST_AMOUNT),
        PRICE_NEGATIVE: (price < 0) & ~is_refund,
    }
    user = F.when(F.col(Columns.user_id).isNull(), USER_ID_MISSING)
    return F.coalesce(user, F.col(_TIME_PROBLEM), *(F.when(check, reason) for reason, check in checks.items()))


def _money(config: Config) -> dict[str, Column]:
    """Event type, amount and quantity of rows that are kept; a refund's are positive, its type says the direction."""
    columns = {Columns.event_type: F.when(_is_refund(config), F.lit(RETURN)).otherwise(_event_type(config))}
    wanted = numeric_columns(config)
    if Columns.amount in wanted:
        columns[Columns.amount] = F.round(F.abs(_amount(config)), config.events.currency_digits)
    if Columns.quantity in wanted:
        columns[Columns.quantity] = F.abs(F.col(_QUANTITY))
    return columns


def _without_duplicates(kept: DataFrame, config: Config, by_user: tuple[int | str, ...]) -> DataFrame:
    helpers = [_TIME_PROBLEM, _PRICE_IS_TEXT, _QUANTITY_IS_TEXT, Columns.quarantine_reason]
    mapped = kept.drop(*helpers)
    # The owner's own type and price stay until here: rows that differ in them are different rows.
    every = [*event_columns(config), *(name for name in mapped.columns if name not in event_columns(config))]
    if Columns.event_id not in config.events.columns.mapped:
        # One sort, which is the order that events are written in; a hash of this many columns costs thrice as much.
        return _first(mapped.repartition(*by_user), Window.partitionBy(*every).orderBy(Columns.user_id))
    others = [name for name in every if name not in (Columns.event_id, Columns.event_timestamp)]
    anonymous = F.when(F.col(Columns.event_id).isNull(), F.struct(Columns.event_timestamp, *others))
    same = Window.partitionBy(Columns.event_id, anonymous).orderBy(Columns.event_timestamp, *others)
    return _first(mapped, same).repartition(*by_user)


def _first(frame: DataFrame, same: WindowSpec) -> DataFrame:
    return frame.withColumn("_rank", F.row_number().over(same)).where(F.col("_rank") == 1).drop("_rank")

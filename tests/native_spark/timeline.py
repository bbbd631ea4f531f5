"""Clean events put in order once, so that every cutoff is one pass over them without a sort or a shuffle.

Two things are added to each event:

* ``recency_rank``: 1 for a user's newest event. The order is total (time, then every other column), so it depends
  neither on how rows were partitioned nor on the order they came in.
* ``next_<key>_at``: when the same user is next seen with the same key (order, session, item, ...), null if never.
  Before a cutoff T an event is the last of its key exactly if this is null or >= T; so the number of distinct keys in
  [S, T) is the number of events there that are last of their key, a plain sum, for any S and T. What happens at or
  after T moves the value only among "null or >= T", so nothing leaks.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from segmenter_plugin.columns import PURCHASE, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import event_columns
from segmenter_plugin.schemas import categorical_columns, numeric_columns

RECENCY_RANK = "recency_rank"
ORDER_KEY = "order_key"
AMOUNT_MINOR = "amount_minor"
NEXT_EVENT_AT = "next_event_at"


def next_at(key: str) -> str:
    """Column that holds when a key is next seen."""
    return f"next_{key}_at"


def distinct_keys(config: Config) -> dict[str, str]:
    """Kinds of keys that activity counts -> the column whose values they are."""
    mapped = config.events.columns.mapped
    sessions = {"session": Columns.session_id} if Columns.session_id in mapped else {}
    things = {"item": Columns.item_id}
    things |= {name: name for name in (Columns.category, Columns.brand) if name in mapped}
    return {"order": ORDER_KEY} | sessions | things


def arrange(
    events: DataFrame, config: Config, partitions: int, since: datetime | None = None, until: datetime | None = None
) -> DataFrame:
    """Order clean events for `build_sequences`, `build_activity` and `build_labels`.

    Args:
        events: As `events.clean_events` gives them.
        config: Says which keys there are.
        partitions: In how many partitions, by hash of the user.
        since: Events before it are left out.
        until: Events at or after it are left out.

    Returns:
        Rows in order of user and `recency_rank` within each partition; worth persisting when several cutoffs follow.
    """
    time = F.col(Columns.event_timestamp)
    bounds = [time >= F.lit(since)] if since else []
    bounds += [time < F.lit(until)] if until else []
    for bound in bounds:
        events = events.where(bound)
    newest_first = [F.desc(name) for name in event_columns(config)[1:]]
    by_user = Window.partitionBy(Columns.user_id).orderBy(*newest_first)
    arranged = events.repartition(partitions, Columns.user_id).withColumns(
        {
            RECENCY_RANK: F.row_number().over(by_user),
            NEXT_EVENT_AT: F.lag(Columns.event_timestamp).over(by_user),
            ORDER_KEY: _order_key(config),
        }
    )
    if Columns.amount in numeric_columns(config):
        scale = F.lit(10.0**config.events.currency_digits)
        arranged = arranged.withColumn(AMOUNT_MINOR, F.round(F.col(Columns.amount) * scale).cast("long"))
    for kind, column in distinct_keys(config).items():
        same_key = Window.partitionBy(Columns.user_id, column).orderBy(RECENCY_RANK)
        arranged = arranged.withColumn(next_at(kind), F.lag(Columns.event_timestamp).over(same_key))
    return arranged.select(*_kept_columns(config)).sortWithinPartitions(Columns.user_id, RECENCY_RANK)


def is_last(next_seen: str, cutoff: datetime) -> Column:
    """Whether an event before the cutoff is, as seen from there, the last of its key."""
    return F.col(next_seen).isNull() | (F.col(next_seen) >= F.lit(cutoff))


def in_observation(cutoff: datetime, since: datetime) -> Column:
    """Whether an event lies in the observation window ``[since, cutoff)``."""
    time = F.col(Columns.event_timestamp)
    return (time >= F.lit(since)) & (time < F.lit(cutoff))


def _order_key(config: Config) -> Column:
    """What purchases bought together share: the order, else the session, else the moment; null for other events."""
    mapped = config.events.columns.mapped
    named = [
        F.concat(F.lit(f"{name}:"), F.col(name)) for name in (Columns.order_id, Columns.session_id) if name in mapped
    ]
    moment = F.concat(F.lit("at:"), F.unix_micros(Columns.event_timestamp).cast("string"))
    return F.when(F.col(Columns.event_type) == PURCHASE, F.coalesce(*named, moment))


def _kept_columns(config: Config) -> list[str | Column]:
    columns: list[str | Column] = [Columns.user_id, Columns.event_timestamp, RECENCY_RANK, NEXT_EVENT_AT]
    columns += [*categorical_columns(config), *numeric_columns(config)]
    targets = [task.target for task in config.tasks if task.target is not None]
    columns += [name for name in dict.fromkeys(targets) if name not in columns]
    columns += [AMOUNT_MINOR] if Columns.amount in columns else []
    flags = []
    for kind, column in distinct_keys(config).items():
        columns.append(next_at(kind))
        flags.append(F.col(column).isNotNull().alias(has_key(kind)))
    return [*columns, *flags]


def has_key(kind: str) -> str:
    """Column that tells whether an event has a key of that kind."""
    return f"has_{kind}"

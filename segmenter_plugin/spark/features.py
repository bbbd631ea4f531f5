"""Published features in a Spark job: as of one cutoff, point-in-time beside rows of the caller's, or all there are.

What is read is what Feast's offline store answers: of a user's rows at or before a time the newest counts, of those the
one published last, unless it is older than ``[store] ttl_days``. Views are read side by side and meet in one shuffle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention
from pyspark.sql.types import DataType, IntegralType, TimestampType

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.errors import SchemaError, UserError
from segmenter_plugin.spark.published import CREATED, TIME, USER, Bounds, chosen_views, published_rows
from segmenter_plugin.spark.source import quoted

#: Up to so many asked users their ids are sent to every executor, which then shuffles no one else's rows.
_FEW_USERS = 1_000_000
_ASKED = "asked"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_features(
    spark: SparkSession,
    config: Config,
    views: Sequence[str],
    entity_df: DataFrame | None = None,
    cutoff: datetime | str | None = None,
) -> DataFrame:
    """Features of published views.

    Args:
        spark: An open session.
        config: ``[store]`` says where the rows are, what the user's column is called, and how old a row may be.
        views: Names such as ``user_scores_g1``, with or without ``[store] name_prefix``.
        entity_df: Rows to join features to: a user column (``[store] join_key``, or ``user_id``), ``event_timestamp``
            and any others. It is evaluated twice (for the times it spans first), so cache it where that is dear.
        cutoff: Instead of `entity_df`, features of every user as of then; a naive time is meant in the events' zone.

    Returns:
        With `entity_df` its rows and columns, each row once, with the features known at its time: null where there
        are none. With `cutoff` one row a user: the user, the cutoff as ``event_timestamp``, and features. With
        neither, one row for every user and ``event_timestamp`` that a view holds.

    Raises:
        UserError: Both `entity_df` and `cutoff` are given.
        CutoffError: The cutoff is no time, or names no zone.
        StoreError: A view is not known, has not been published, or lacks a column.
        SchemaError: `entity_df` lacks a column, holds times without a zone, has users of another type, or a column
            that is called like a feature.

    Example:
        ``read_features(spark, config, ["user_scores_g1"], entity_df=impressions)``
    """
    chosen = chosen_views(config, views)
    if entity_df is not None and cutoff is not None:
        raise UserError(
            f"both entity_df and cutoff = {str(cutoff)!r} are given; each row of entity_df has a time of its own.",
            hint="give one of them; join the answer as of a cutoff to your rows by user.",
        )
    if entity_df is not None:
        return _beside(spark, config, chosen, entity_df)
    key = F.col(USER).alias(config.store.join_key)
    if cutoff is not None:
        time = config.time(cutoff)
        newest = _as_of(spark, config, chosen, time)
        return newest.select(key, F.lit(time).alias(Columns.event_timestamp), *_features(chosen))
    parts = [published_rows(spark, config, view, names, Bounds()) for view, names in chosen.items()]
    newest = _newest(_union(parts), [USER, TIME], chosen, F.col(CREATED))
    return newest.select(key, F.col(TIME).alias(Columns.event_timestamp), *_features(chosen))


def _union(frames: Iterable[DataFrame]) -> DataFrame:
    return reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), frames)


def _features(chosen: Mapping[str, Sequence[str]]) -> list[Column]:
    return [F.col(view)[name].alias(name) for view, names in chosen.items() for name in names]


def _newest(rows: DataFrame, keys: Sequence[str], views: Iterable[str], age: Column) -> DataFrame:
    """Of each key and view the row of the highest `age`; a row holds one view, and null for the others."""
    picked = (F.max_by(view, F.when(F.col(view).isNotNull(), age)).alias(view) for view in views)
    return rows.groupBy(*keys).agg(*picked)


def _as_of(spark: SparkSession, config: Config, chosen: Mapping[str, Sequence[str]], cutoff: datetime) -> DataFrame:
    """`USER` and a struct of each view."""
    bounds = Bounds(_oldest(cutoff, config), cutoff)
    parts = [_few_each(published_rows(spark, config, view, names, bounds), cutoff) for view, names in chosen.items()]
    return _newest(_union(parts), [USER], chosen, F.struct(TIME, CREATED))


def _oldest(time: datetime, config: Config) -> datetime | None:
    ttl_days = config.store.ttl_days
    return time - timedelta(days=ttl_days) if ttl_days else None


def _few_each(rows: DataFrame, cutoff: datetime) -> DataFrame:
    """Rows of the cutoff itself, and of users who have none there their newest.

    A partition may hold the users that changed only, so history counts; but of it the ids and times alone are
    shuffled, and features are fetched for those who need an older row.
    """
    now, older = rows.where(F.col(TIME) == F.lit(cutoff)), rows.where(F.col(TIME) < F.lit(cutoff))
    keys = older.select(USER, TIME, CREATED).join(now.select(USER), USER, "left_anti")
    last = keys.groupBy(USER).agg(F.max(F.struct(TIME, CREATED)).alias("last"))
    return now.unionByName(older.join(last.select(USER, "last.*"), [USER, TIME, CREATED], "left_semi"))


def _beside(
    spark: SparkSession, config: Config, chosen: Mapping[str, Sequence[str]], entity_df: DataFrame
) -> DataFrame:
    """Point-in-time join: the caller's rows and ours in order of time, each of theirs takes the last of ours before it.

    Nothing is paired up, so a user with many rows on both sides costs the sum of them, not the product.
    """
    user = _check_asked(entity_df, config, chosen)
    bounds, users = _span(entity_df, user, config)
    published = [published_rows(spark, config, view, names, bounds) for view, names in chosen.items()]
    asked = entity_df.select(
        _as_published(entity_df, user, published[0].schema[USER].dataType).alias(USER),
        F.col(Columns.event_timestamp).alias(TIME),
        F.struct(*(F.col(quoted(name)) for name in entity_df.columns)).alias(_ASKED),
    )
    if users <= _FEW_USERS:
        ids = F.broadcast(asked.select(USER).distinct())
        published = [rows.join(ids, USER, "left_semi") for rows in published]
    is_asked = F.col(_ASKED).isNotNull()
    in_time = Window.partitionBy(USER).orderBy(F.col(TIME).asc_nulls_first(), is_asked, CREATED)
    until_now = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    known = {view: F.last(view, ignorenulls=True).over(until_now) for view in chosen}
    joined = _union([asked, *published]).withColumns(known).where(is_asked)
    fresh = {view: _unless_old(F.col(view), config) for view in chosen}
    features = [fresh[view][name].alias(name) for view, names in chosen.items() for name in names]
    return joined.select(f"{_ASKED}.*", *features)


def _check_asked(entity_df: DataFrame, config: Config, chosen: Mapping[str, Sequence[str]]) -> str:
    """Refuse rows that cannot be joined to; the name of their user column."""
    columns = entity_df.columns
    users = [name for name in (config.store.join_key, Columns.user_id) if name in columns]
    missing = [] if users else [config.store.join_key]
    missing += [] if Columns.event_timestamp in columns else [Columns.event_timestamp]
    if missing:
        raise SchemaError(
            f"entity_df lacks the columns {missing}; it has {columns}.",
            hint="each row says whose features are asked for, and as of when: rename its columns.",
        )
    kind = entity_df.schema[Columns.event_timestamp].dataType
    if not isinstance(kind, TimestampType):
        raise SchemaError(
            f"entity_df holds event_timestamp as {kind.simpleString()}, which names no zone; timestamp is allowed.",
            hint='to_utc_timestamp(column.cast("timestamp"), "Europe/Berlin"), in a session in UTC, makes it one.',
        )
    taken = sorted({name for names in chosen.values() for name in names} & set(columns))
    if taken:
        raise SchemaError(
            f"entity_df has columns that are called like features: {taken}.", hint="rename or drop them first."
        )
    return users[0]


def _span(entity_df: DataFrame, user: str, config: Config) -> tuple[Bounds, int]:
    """Times of published rows that can matter, and about how many users are asked for."""
    time = F.col(Columns.event_timestamp)
    # As numbers: a collected timestamp is in the zone of this process, and names none.
    row = entity_df.agg(
        F.unix_micros(F.min(time)), F.unix_micros(F.max(time)), F.approx_count_distinct(F.col(quoted(user)))
    ).collect()[0]
    first, last = (None if micros is None else _EPOCH + timedelta(microseconds=micros) for micros in row[:2])
    return Bounds(None if first is None else _oldest(first, config), last), row[2]


def _as_published(entity_df: DataFrame, user: str, published: DataType) -> Column:
    """The caller's users in the type of ours."""
    kind, column = entity_df.schema[user].dataType, F.col(quoted(user))
    if kind == published:
        return column
    if isinstance(kind, IntegralType) and isinstance(published, IntegralType):
        return column.cast(published)
    raise SchemaError(
        f"entity_df has users of type {kind.simpleString()} in {user!r}; the published ones are "
        f"{published.simpleString()}.",
        hint="cast them as they are written there: 007 and 7 are two users in text.",
    )


def _unless_old(row: Column, config: Config) -> Column:
    """A view's row, null where it is older than Feast would serve it; in microseconds, as days have none in a zone."""
    age = F.unix_micros(TIME) - F.unix_micros(row[TIME])
    ttl_days = config.store.ttl_days
    return F.when(age <= F.lit(ttl_days * MICROS_PER_DAY), row) if ttl_days else row

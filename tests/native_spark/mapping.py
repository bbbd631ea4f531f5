"""The owner's columns under our names and types; what cannot fit is refused before any row is read."""

from __future__ import annotations

import difflib

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    IntegralType,
    NumericType,
    StringType,
    StructType,
)

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config, EventColumnsConfig
from segmenter_plugin.errors import EventsError

_TEXTS = (Columns.item_id, Columns.event_id, Columns.order_id, Columns.session_id, Columns.category, Columns.brand)


def check_columns(raw: DataFrame, config: Config) -> None:
    """Refuse events that lack a mapped column.

    Raises:
        EventsError: Names the column, the nearest one there is, and all there are.
    """
    for ours, theirs in config.events.columns.mapped.items():
        if raw.columns.count(theirs) == 1:
            continue
        near = difflib.get_close_matches(theirs, raw.columns, n=1, cutoff=0.5)
        mapped = f"[events.columns] {ours} = {theirs!r}"
        raise EventsError(
            f"the events lack the column {theirs!r} ({mapped}); they have {sorted(raw.columns)}.",
            hint=f"did you mean {near[0]!r}?" if near else f"map {ours} to one of them, or leave it out if optional.",
        )


def owner_column(raw: DataFrame, name: str) -> tuple[Column, DataType]:
    """An owner's column and its type."""
    schema: StructType = raw.schema
    return F.col(quoted(name)), schema[name].dataType


def user_ids(raw: DataFrame, columns: EventColumnsConfig) -> Column:
    """The user: int64 from whole numbers, else text; null where empty.

    Raises:
        EventsError: The column is neither.
    """
    column, kind = owner_column(raw, columns.user_id)
    if _is_whole(kind):
        return column.cast("long")
    if isinstance(kind, StringType):
        return F.nullif(column, F.lit(""))
    raise _wrong_type(Columns.user_id, columns.user_id, kind, "whole numbers or text")


def text_columns(raw: DataFrame, columns: EventColumnsConfig) -> dict[str, Column]:
    """Identifiers, categories and text under our names, all as text; null where empty.

    Raises:
        EventsError: One is a fraction, a list, a struct or the like.
    """
    mapped = columns.mapped
    names = [name for name in _TEXTS if name in mapped]
    names += [*columns.categorical, *([Columns.text] if Columns.text in mapped else [])]
    return {name: as_text(raw, name, mapped[name]) for name in names}


def as_text(raw: DataFrame, ours: str, theirs: str) -> Column:
    """One column as text; null where empty.

    Raises:
        EventsError: It is a fraction, a list, a struct or the like.
    """
    column, kind = owner_column(raw, theirs)
    if not (_is_whole(kind) or isinstance(kind, (StringType, BooleanType, DateType))):
        raise _wrong_type(ours, theirs, kind, "text, whole numbers, booleans or dates")
    return F.nullif(column.cast("string"), F.lit(""))


def as_number(raw: DataFrame, ours: str, theirs: str) -> tuple[Column, Column]:
    """One column as float64, and whether it holds a value that is no number.

    Raises:
        EventsError: It is a date, a list, a struct or the like.
    """
    column, kind = owner_column(raw, theirs)
    if isinstance(kind, StringType):
        number = column.try_cast("double")
        return number, column.isNotNull() & (F.trim(column) != "") & number.isNull()
    if isinstance(kind, (NumericType, BooleanType)):
        return column.cast("double"), F.lit(False)
    raise _wrong_type(ours, theirs, kind, "numbers, or text that holds numbers")


def is_finite(number: Column) -> Column:
    """Whether a float64 is a number proper; null where there is none."""
    return ~F.isnan(number) & (F.abs(number) != F.lit(float("inf")))


def quoted(name: str) -> str:
    """An owner's column name as Spark's SQL reads it, dots and all."""
    return "`" + name.replace("`", "``") + "`"


def _is_whole(kind: DataType) -> bool:
    return isinstance(kind, IntegralType) or (isinstance(kind, DecimalType) and kind.scale == 0 and kind.precision < 19)


def _wrong_type(ours: str, theirs: str, kind: DataType, allowed: str) -> EventsError:
    return EventsError(
        f"column {theirs!r} ({ours}) has type {kind.simpleString()}; allowed are {allowed}.",
        hint=f"cast it where the events are written, or map another column to {ours}.",
    )

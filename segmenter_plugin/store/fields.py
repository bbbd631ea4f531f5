"""Our columns as Feast fields: the type, and a description that says what is in it and in which unit."""

from __future__ import annotations

import re

import pyarrow as pa
from feast import Field, ValueType
from feast.types import Array, Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from segmenter_plugin.columns import Columns
from segmenter_plugin.errors import ConfigError, StoreError
from segmenter_plugin.tasks import PERCENTILES

_SCALARS: dict[pa.DataType, FeastType] = {
    pa.float32(): Float32,
    pa.float64(): Float64,
    pa.int32(): Int32,
    pa.int64(): Int64,
    pa.string(): String,
    pa.large_string(): String,
    pa.bool_(): Bool,
}

#: Ends of the names of money's percentiles.
_PERCENTILES = "|".join(f"p{percentile}" for percentile in PERCENTILES)

_KEYS = {ValueType.STRING: pa.string(), ValueType.INT64: pa.int64()}


def feast_type(arrow_type: pa.DataType) -> FeastType:
    """Feast's type of an Arrow type.

    Raises:
        StoreError: Feast would have to convert the values to hold them.
    """
    if pa.types.is_timestamp(arrow_type):
        return UnixTimestamp
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        return Array(feast_type(arrow_type.value_type))
    if arrow_type not in _SCALARS:
        raise StoreError(
            f"the Arrow type {arrow_type} has no Feast type here; known are {[str(known) for known in _SCALARS]}, "
            "timestamps, and lists of these.",
            hint="cast the column before it is published.",
        )
    return _SCALARS[arrow_type]


def arrow_field(column: pa.Field | str) -> pa.Field:
    """A column given by its name alone is typed as our naming rule has it.

    Counts are int64; ``…_probabilities`` are lists of float32, other scores float32; all other aggregates float64.

    Example:
        >>> arrow_field("purchase_count_28d").type
        DataType(int64)
    """
    if isinstance(column, pa.Field):
        return column
    if re.search(r"_count(_\d+d)?$", column):
        return pa.field(column, pa.int64())
    if column.endswith("_probabilities"):
        return pa.field(column, pa.list_(pa.float32()))
    if column == Columns.value_score or re.search(rf"_\d+d(_gap\d+d)?_(probability|expected|{_PERCENTILES})$", column):
        return pa.field(column, pa.float32())
    return pa.field(column, pa.float64())


def feast_field(column: pa.Field | str) -> Field:
    """The Feast field of one of our columns."""
    column = arrow_field(column)
    return Field(name=column.name, dtype=feast_type(column.type), description=description(column.name))


def key_type(arrow_type: pa.DataType) -> ValueType:
    """Value type of an entity whose ids have that Arrow type.

    Raises:
        ConfigError: Ids are neither strings nor int64.
    """
    for value_type, known in _KEYS.items():
        if known == arrow_type:
            return value_type
    raise ConfigError(f"user ids of type {arrow_type} are not served; string and int64 are.", hint="cast them.")


_FIXED = {
    Columns.embedding: "Behaviour embedding, float32; comparable within one generation and one model_version.",
    Columns.model_version: "Content hash of the artifact that made this row.",
    Columns.trained_through: "Latest event time, label windows included, that any weight has seen; UTC, rounded up to "
    "a whole second.",
    Columns.value_score: "Worth by all tasks together, in [0, 1]: weighted mean of probabilities and of expected money "
    "x as x / (x + median spender).",
    Columns.segment_id: "Value segment; ids keep their meaning over retrains.",
    Columns.segment_name: "Readable name of the value segment.",
    Columns.segment_stability: "How clearly the user belongs to the segment, in [0, 1]; 0 on its border.",
    "recency_days": "Days from the last event to the cutoff.",
    "tenure_days": "Days from the first event in the observation window to the cutoff.",
    "gap_mean_days": "Mean days between neighbouring active days; null below two of these.",
    "gap_std_days": "Population deviation of the days between neighbouring active days; null below two of these.",
    "purchase_amount_mean": "Mean money of one purchase event, in the events' currency; null without purchases.",
    "purchase_amount_max": "Largest money of one purchase event, in the events' currency; null without purchases.",
    "purchase_amount_min": "Smallest money of one purchase event, in the events' currency; null without purchases.",
    "purchase_amount_std": "Population deviation of the money of purchase events; null without purchases.",
    "order_amount_mean": "Mean money of one order, in the events' currency; null without orders.",
}

#: First match wins; the group names are filled into the text.
_DERIVED = (
    (r"distinct_(?P<of>.+)_count", "Number of distinct {of} values in the observation window."),
    (r"active_day_count_(?P<days>\d+)d", "Days with at least one event, of the {days} days before the cutoff."),
    (r"(?P<of>.+)_count_(?P<days>\d+)d", "Number of {of} in the {days} days before the cutoff."),
    (r"(?P<of>.+)_sum_(?P<days>\d+)d", "Money of {of} events in the {days} days before the cutoff, events' currency."),
    (r"(?P<of>.+)_known_count", "Number of events with a {of} in the observation window."),
    (
        r"(?P<of>.+)_trend_mean",
        "How the {of} values met in the last 28 days are catching on, mean log; null without one.",
    ),
    (r"(?P<of>.+)_popularity_mean", "How many met the {of} values of the last 28 days, mean log; null without one."),
    (r"(?P<of>.+)_mean", "Mean {of} of the events that have one, in the observation window; null without one."),
    (r"(?P<of>.+)_recency_days", "Days from the last {of} event to the cutoff; null where there is none."),
    (r"(?P<of>.+)_(?P<days>\d+)d_expected", "Expected money of {of} in the next {days} days, events' currency."),
    (
        r"(?P<of>.+)_(?P<days>\d+)d_gap(?P<gap>\d+)d_expected",
        "Expected money of {of} in {days} days that begin {gap} days after the cutoff, events' currency.",
    ),
    (
        r"(?P<of>.+)_(?P<days>\d+)d_p(?P<percent>\d\d)",
        "Money of {of} in the next {days} days; {percent} in 100 such users stay within it, events' currency.",
    ),
    (
        r"(?P<of>.+)_(?P<days>\d+)d_gap(?P<gap>\d+)d_p(?P<percent>\d\d)",
        (
            "Money of {of} in {days} days that begin {gap} days after the cutoff; {percent} in 100 such users stay "
            "within it, events' currency."
        ),
    ),
    (r"(?P<of>.+)_(?P<days>\d+)d_probability", "Probability of {of} in the next {days} days, in [0, 1]."),
    (
        r"(?P<of>.+)_(?P<days>\d+)d_gap(?P<gap>\d+)d_probability",
        "Probability of {of} in {days} days that begin {gap} days after the cutoff, in [0, 1].",
    ),
    (
        r"(?P<of>.+)_(?P<days>\d+)d(_gap\d+d)?_probabilities",
        "One probability a class of {of} over {days} days, in [0, 1], in the order that the artifact names.",
    ),
)


def description(name: str) -> str:
    """What a column holds and in which unit; empty for a column that is not ours.

    Example:
        >>> description("purchase_14d_probability")
        'Probability of purchase in the next 14 days, in [0, 1].'
    """
    if name in _FIXED:
        return _FIXED[name]
    for pattern, text in _DERIVED:
        match = re.fullmatch(pattern, name)
        if match:
            return text.format(**match.groupdict())
    return ""

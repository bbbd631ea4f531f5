"""Arrow schemas of every table that crosses a room's wall, derived from the configuration.

Units: timestamps are microseconds in UTC; money is in the owner's currency; ``_days`` are days before the cutoff.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.errors import SchemaError
from segmenter_plugin.tasks import TaskConfig

TIMESTAMP = pa.timestamp("us", tz="UTC")


def categorical_columns(config: Config) -> tuple[str, ...]:
    """Event columns (ours) that the encoder embeds by value; all are strings."""
    mapped = config.events.columns.mapped
    optional = [name for name in (Columns.category, Columns.brand) if name in mapped]
    return (Columns.event_type, Columns.item_id, *optional, *config.events.columns.categorical)


def numeric_columns(config: Config) -> tuple[str, ...]:
    """Event columns (ours) that the encoder reads as numbers; all are float64, null where absent."""
    mapped = config.events.columns.mapped
    amount = [Columns.amount] if Columns.price in mapped else []
    quantity = [Columns.quantity] if Columns.quantity in mapped else []
    return (*amount, *quantity, *config.events.columns.numeric)


def sequence_fields(config: Config) -> list[pa.Field]:
    """Parallel list columns, all of the same length in one row, oldest event first."""
    strings = [pa.field(Columns.sequence(name), pa.list_(pa.string())) for name in categorical_columns(config)]
    numbers = [pa.field(Columns.sequence(name), pa.list_(pa.float64())) for name in numeric_columns(config)]
    times = pa.field(Columns.sequence(Columns.event_timestamp), pa.list_(TIMESTAMP))
    return [times, *strings, *numbers, pa.field(Columns.sequence_length, pa.int32())]


def activity_fields(config: Config) -> list[pa.Field]:
    """Model-free aggregates of the observation window; counts are 0 and ages null where nothing happened.

    Per window of `activity_days` and the whole observation: event, order, session, active-day and per-type counts;
    sums of money where there is a price. Over the whole observation: ages, tenure, distinct counts, prices, and the
    values of each further numeric column. Over 28 days: trend and popularity of each of `windows.trend_columns`.
    """
    has_price = Columns.price in config.events.columns.mapped
    windows = sorted({*config.windows.activity_days, config.windows.observation_days})
    counts, sums = [], []
    for days in windows:
        kinds = ["event", "order", "active_day", "session", *sorted(config.events.types)]
        counts += [pa.field(f"{kind}_count_{days}d", pa.int64()) for kind in kinds]
        if has_price:
            money = [kind for kind in (PURCHASE, RETURN) if kind in config.events.types]
            sums += [pa.field(f"{kind}_sum_{days}d", pa.float64()) for kind in money]
    names = ["recency_days", "tenure_days", "gap_mean_days", "gap_std_days"]
    names += [f"{kind}_recency_days" for kind in sorted(config.events.types)]
    if has_price:
        names += [f"purchase_amount_{statistic}" for statistic in ("mean", "max", "min", "std")] + ["order_amount_mean"]
    ages = [pa.field(name, pa.float64()) for name in names]
    distinct = [
        Columns.item_id,
        *(name for name in (Columns.category, Columns.brand) if name in config.events.columns.mapped),
    ]
    distinct_counts = [pa.field(f"distinct_{name.removesuffix('_id')}_count", pa.int64()) for name in distinct]
    further = []
    for name in config.events.columns.numeric:
        further += [pa.field(f"{name}_known_count", pa.int64()), pa.field(f"{name}_mean", pa.float64())]
    further += [pa.field(name, pa.float64()) for name in trend_names(config)]
    return [*counts, *sums, *ages, *distinct_counts, *further]


def trend_name(column: str, statistic: str) -> str:
    """Name of the aggregate that holds the mean ``trend`` or ``popularity`` of a column's values."""
    return f"{column.removesuffix('_id')}_{statistic}_mean"


def trend_names(config: Config) -> list[str]:
    """The aggregates that depend on what other users do, too."""
    statistics = ("trend", "popularity")
    return [trend_name(column, statistic) for column in config.windows.trend_columns for statistic in statistics]


def key_fields(user_type: pa.DataType) -> list[pa.Field]:
    """The user and the cutoff that a row is true as of."""
    return [
        pa.field(Columns.user_id, user_type, nullable=False),
        pa.field(Columns.event_timestamp, TIMESTAMP, nullable=False),
    ]


def behaviour_schema(config: Config, user_type: pa.DataType) -> pa.Schema:
    """What Spark hands to the encoder: one row a user and cutoff, sequence columns and aggregates side by side."""
    return pa.schema([*key_fields(user_type), *sequence_fields(config), *activity_fields(config)])


def label_fields(config: Config) -> list[pa.Field]:
    """One nullable column a task; null means censored (the window was not over).

    A ladder of each category holds the values that were touched, sorted, each with the highest rung that was reached.
    """
    types = {
        "binary": pa.bool_(),
        "value": pa.float64(),
        "multiclass": pa.string(),
        "multilabel": pa.list_(pa.string()),
        "category": pa.list_(pa.struct([pa.field("value", pa.string()), pa.field("rung", pa.string())])),
    }
    return [pa.field(task.label_column, types[task.form]) for task in config.tasks]


def labels_schema(config: Config, user_type: pa.DataType) -> pa.Schema:
    """One row for each row of behaviour at the same cutoff."""
    return pa.schema([*key_fields(user_type), *label_fields(config)])


def score_fields(config: Config) -> list[pa.Field]:
    """Outputs of the heads, in the order of `[[tasks]]`; then `value_score`, where a task is binary or value."""
    return _task_fields(config.tasks)


def _task_fields(tasks: Sequence[TaskConfig]) -> list[pa.Field]:
    plural = pa.list_(pa.float32())
    fields = [
        pa.field(name, plural if name.endswith("_probabilities") else pa.float32())
        for task in tasks
        for name in task.score_columns
    ]
    rated = any(task.rates_a_user for task in tasks)
    return [*fields, pa.field(Columns.value_score, pa.float32())] if rated else fields


def provenance_fields() -> list[pa.Field]:
    """Which weights made a row, and the latest event time that they have seen."""
    return [pa.field(Columns.model_version, pa.string()), pa.field(Columns.trained_through, TIMESTAMP)]


def scores_schema(config: Config, user_type: pa.DataType) -> pa.Schema:
    """What scoring yields: embedding, head outputs with `value_score`, provenance."""
    return scores_schema_of(config.tasks, user_type)


def scores_schema_of(tasks: Sequence[TaskConfig], user_type: pa.DataType) -> pa.Schema:
    """`scores_schema` of an artifact's own tasks."""
    embedding = pa.field(Columns.embedding, pa.list_(pa.float32()))
    return pa.schema([*key_fields(user_type), embedding, *_task_fields(tasks), *provenance_fields()])


def segment_fields() -> list[pa.Field]:
    """A user's segment."""
    return [
        pa.field(Columns.segment_id, pa.int64()),
        pa.field(Columns.segment_name, pa.string()),
        pa.field(Columns.segment_stability, pa.float32()),
    ]


def segments_schema(user_type: pa.DataType) -> pa.Schema:
    """What segmenting yields."""
    return pa.schema([*key_fields(user_type), *segment_fields(), *provenance_fields()])


def user_type_of(schema: pa.Schema) -> pa.DataType:
    """Type of the join key: string or int64."""
    user_type = schema.field(Columns.user_id).type
    return pa.string() if pa.types.is_large_string(user_type) or pa.types.is_dictionary(user_type) else user_type


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Order and type a table's columns as `schema` has them; further columns are dropped.

    Args:
        table: Any table that holds at least the schema's columns.
        schema: What is expected.
        what: The table's name, for the message.

    Raises:
        SchemaError: A column is missing, or cannot be cast without loss.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise SchemaError(
            f"{what} lacks the columns {missing}; it has {table.column_names}.",
            hint="it was built with another configuration; run the stage that makes it again.",
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaError(
            f"{what} does not have the expected types: {error}.",
            hint="it was built with another configuration; run the stage that makes it again.",
        ) from error

"""pytorch-lifestream's own Spark preprocessor: the user's events in order of time, as lists.

It does less: no rows are judged, nothing is made unique or capped, no aggregates, no labels, only whole seconds, and
ties of time fall as they may. Categories stay text: its frequency encoding would add a pass each and a map of 10,000
literals.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from build_speed import world
from segmenter_plugin.spark.session import open_session


def build(source: Path, out: Path, events: int, cutoff: datetime) -> None:
    """Write the sequences of a cutoff."""
    from ptls.preprocessing.pyspark.event_time import DatetimeToTimestamp
    from ptls.preprocessing.pyspark.user_group_transformer import UserGroupTransformer

    partitions = max(8, -(-events // 400_000))
    spark = open_session("lifestream", settings={"spark.sql.shuffle.partitions": str(partitions)})
    config = world.config(source, out, events)
    since = cutoff - timedelta(days=config.windows.observation_days)
    raw = spark.read.parquet(str(source)).where((F.col("at") >= F.lit(since)) & (F.col("at") < F.lit(cutoff)))
    rows = raw.select("visitor", "at", "kind", "sku", "department", "unit_price", "units")
    # These two, in this order, are what its `PysparkDataPreprocessor` applies when categories stay as they are.
    timed = DatetimeToTimestamp(col_name_original="at").fit_transform(rows)
    grouped = UserGroupTransformer("visitor", max_trx_count=config.sequences.length).fit_transform(timed)
    grouped.write.option("parquet.block.row.count.limit", "16384").parquet(str(out))
    spark.stop()

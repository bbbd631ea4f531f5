"""Behaviour and labels from clean events: a task reads one file, all events of its users, and writes their rows.

Spark hands out the files and repeats what fails; inside a task everything is columns (`data.block_tables`), for all
cutoffs in one pass. Memory is bounded by the events of a file. A file appears whole under its name, and a repeated task
writes the same again, so retries and speculative copies do no harm.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock, event_columns
from segmenter_plugin.spark.output import ROWS_PER_GROUP


@dataclass(frozen=True)
class BlockTask:
    """What is made of each file.

    Args:
        config: The configuration that the events were cleaned with.
        since: Events before it are left out.
        until: Events at or after it are left out.
        complete_through: Events are complete before this time; a label window that ends later is censored.
        folders: Cutoff -> where its ``behaviour`` and ``labels`` go; what has no folder is not written.
    """

    config: Config
    since: datetime
    until: datetime
    complete_through: datetime
    folders: Mapping[datetime, Mapping[str, Path]]

    def __call__(self, numbered: tuple[int, Path]) -> int:
        """Build from one file; how many events were read."""
        number, path = numbered
        time = Columns.event_timestamp
        bounds = [(time, ">=", self.since), (time, "<", self.until)]
        events = pq.read_table(path, columns=event_columns(self.config), filters=bounds, use_threads=False)
        if events.num_rows:
            block = EventBlock.of(events, self.config)
            for tables in tables_as_of(block, list(self.folders), self.complete_through, self.config):
                for name, folder in self.folders[tables.cutoff].items():
                    _write({"behaviour": tables.behaviour, "labels": tables.labels}[name], folder, number)
        return events.num_rows


def build_blocks(spark: SparkSession, files: Sequence[Path], task: BlockTask) -> int:
    """Build from every file, in as many Spark tasks.

    Args:
        spark: A session whose workers reach the files and the folders.
        files: Clean events, all of a user's in one file.
        task: What is made of them.

    Returns:
        How many events were read.
    """
    numbered = list(enumerate(files))
    return int(spark.sparkContext.parallelize(numbered, len(numbered)).map(task).sum())


def _write(table: pa.Table, folder: Path, number: int) -> None:
    if not table.num_rows:
        return
    aside = folder / f".{number:05d}-{uuid.uuid4().hex}"
    pq.write_table(table, aside, compression="zstd", row_group_size=ROWS_PER_GROUP)
    aside.replace(folder / f"part-{number:05d}.parquet")

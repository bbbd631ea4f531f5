"""How Spark's results are written: few files, the same names each time, nothing else beside them.

Importing this loads no pyspark: a stage that has nothing to do gets by without.
"""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from segmenter_plugin.data.partition import data_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: The number of files follows from the size of the input alone, so that no other machine makes other files.
_BYTES_PER_FILE = 8 * 2**20
_FEWEST_FILES, _MOST_FILES, _FILES_OF_UNKNOWN = 2, 512, 32
#: Readers stream row groups; parallel lists make rows large.
ROWS_PER_GROUP = 16_384


class LazySession:
    """The Spark session of one run, opened on first use; only one that was opened here is stopped."""

    def __init__(self, given: SparkSession | None, stack: ExitStack, app_name: str = "segmenter build") -> None:
        self._session, self._stack, self._app_name = given, stack, app_name

    def get(self) -> SparkSession:
        """The session; starts one where there is none."""
        from segmenter_plugin.spark.session import SparkSession, open_session  # noqa: PLC0415 - loads pyspark

        if self._session is None:
            is_ours = SparkSession.getActiveSession() is None
            self._session = open_session(self._app_name)
            if is_ours:
                self._stack.callback(self._session.stop)
        return self._session


def write_frame(frame: DataFrame, staging: Path) -> None:
    """Write a frame's partitions as ``part-00000.parquet``, ... without Spark's side files."""
    written = staging / "spark"
    options = {"compression": "zstd", "parquet.block.row.count.limit": str(ROWS_PER_GROUP)}
    frame.write.options(**options).parquet(f"file://{written}")
    for number, file in enumerate(sorted(written.glob("part-*.parquet"))):
        file.rename(staging / f"part-{number:05d}.parquet")
    shutil.rmtree(written)


def file_count(size: int | None) -> int:
    """In how many files data of that many bytes is written; of None, an unknown number of them."""
    if size is None:
        return _FILES_OF_UNKNOWN
    return min(_MOST_FILES, max(_FEWEST_FILES, math.ceil(size / _BYTES_PER_FILE)))


def row_count(folder: Path) -> int:
    """Rows of a folder's Parquet files, from their footers."""
    return sum(pq.read_metadata(path).num_rows for path in data_files(folder))

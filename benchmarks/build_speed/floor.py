"""The floor: our own columns in as many processes as there are cores, without Spark, a log or a manifest.

A first pool reads files, cleans and parts users into buckets on disk; a second one makes each bucket's tables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from build_speed import world
from segmenter_plugin.config import Config
from segmenter_plugin.data.arrow_blobs import unpack
from segmenter_plugin.data.block_files import write_block_table
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.data.event_cleaner import EventCleaner
from segmenter_plugin.data.event_intake import EVENTS, EventIntake

_BATCH_ROWS = 500_000
_ROWS_PER_GROUP = 16_384


def build(source: Path, out: Path, events: int, cutoff: datetime) -> None:
    """Write behaviour and labels of a cutoff."""
    config = world.config(source, out, events)
    pa.set_cpu_count(1)
    buckets = max(2, events // 1_000_000)
    files = sorted(source.glob("*.parquet"))
    for name in ("parts", "behaviour", "labels"):
        (out / name).mkdir(parents=True)
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        pool.map(partial(_part, config=config, buckets=buckets, folder=out / "parts"), list(enumerate(files)), 1)
        pool.map(partial(_derive, config=config, cutoff=cutoff, out=out), range(buckets), 1)
    shutil.rmtree(out / "parts")


def _part(numbered: tuple[int, Path], config: Config, buckets: int, folder: Path) -> None:
    number, path = numbered
    intake, file = EventIntake(config, buckets, number), pq.ParquetFile(path)
    cleaner = EventCleaner.of(file.schema_arrow, config)
    parcels = (parcel for rows in _batches(file, cleaner) for parcel in intake.add(rows, cleaner, rows.take))
    for source in (parcels, intake.end()):
        for place, parcel in enumerate(source):
            if parcel.kind == EVENTS:
                (folder / f"{parcel.bucket}-{number}-{place}-{source is parcels}").write_bytes(parcel.blob)


def _batches(file: pq.ParquetFile, cleaner: EventCleaner) -> Iterator[pa.Table]:
    for batch in file.iter_batches(_BATCH_ROWS, columns=cleaner.columns, use_threads=False):
        yield pa.Table.from_batches([batch])


def _derive(bucket: int, config: Config, cutoff: datetime, out: Path) -> None:
    blobs = [path.read_bytes() for path in sorted((out / "parts").glob(f"{bucket}-*"))]
    block = EventBlock.of(unpack(blobs), config).distinct().capped(config.events.max_events_per_day)
    complete = config.time(str(config.events.complete_through))
    for made in tables_as_of(block.without_duplicates(), [cutoff], complete, config):
        for name, table in (("behaviour", made.behaviour), ("labels", made.labels)):
            write_block_table(table, out / name / f"part-{bucket:05d}.parquet", _ROWS_PER_GROUP)

"""Our build, by the stage function alone: over plain files, through Spark's reader, for many cutoffs, by increments."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

from build_speed import world
from segmenter_plugin.spark.session import open_session
from segmenter_plugin.stages.build import build


def plain_files(source: Path, root: Path, events: int, cutoffs: list[datetime]) -> None:
    """A build into a fresh root by our own scan of the files."""
    build(world.config(source, root, events), cutoffs)


def through_reader(source: Path, root: Path, events: int, cutoffs: list[datetime]) -> None:
    """The same of a Spark table over the same files, which only Spark's reader reads."""
    spark = open_session("build")
    spark.catalog.createTable("events", path=str(source), source="parquet")
    build(world.config(source, root, events, table="events"), cutoffs, spark=spark)
    spark.stop()


def increment(source: Path, root: Path, events: int) -> None:
    """Today on top of yesterday, whose log is there."""
    build(world.config(source, root, events), [world.TODAY], previous=world.YESTERDAY)


def copy_of(built: Path, root: Path) -> None:
    """A root with the outputs of another; files are never changed in place, so links do."""
    shutil.copytree(built, root, copy_function=os.link)


def empty() -> None:
    """What Spark itself costs: a session, two Python workers that import what ours do, an end."""
    spark = open_session("empty")
    spark.sparkContext.parallelize(range(2), 2).map(_imports).count()
    spark.stop()


def _imports(number: int) -> int:
    from segmenter_plugin.data import block_tables

    return number if block_tables else 0

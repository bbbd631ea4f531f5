"""DuckDB: the reference SQL of the tests from the raw files, with what settles events tuned, written as one table."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from string import Template

import duckdb

from build_speed import world
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import microseconds

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from duckdb_reference import render  # lies among the tests

MEMORY = "12GB"


def build(source: Path, out: Path, events: int, cutoff: datetime) -> None:
    """Write behaviour and labels of a cutoff."""
    out.mkdir(parents=True)
    config = world.config(source, out, events)
    database = duckdb.connect(str(out / "scratch.duckdb"))
    database.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = '{out}/spill'; SET TimeZone = 'UTC'")
    database.execute("SET preserve_insertion_order = false")
    database.execute(f"CREATE TEMP TABLE typed AS {typed(database, source, config, cutoff)}")
    for statement in settled(config).split(";"):
        database.execute(statement)
    behaviour = render.behaviour(config, "settled", cutoff)
    labels = render.labels(config, "settled", cutoff, config.time(str(config.events.complete_through)))
    written = Path(__file__).with_name("duck_written.sql").read_text(encoding="utf-8")
    target = out / "part-00000.parquet"
    database.execute(Template(written).substitute(behaviour=behaviour, labels=labels, target=target))
    database.close()
    (out / "scratch.duckdb").unlink()


def typed(database: duckdb.DuckDBPyConnection, source: Path, config: Config, cutoff: datetime) -> str:
    """Valid rows of the windows, as SQL."""
    since, until = cutoff - timedelta(days=config.windows.observation_days), config.labels_end(cutoff)
    raw = f"read_parquet('{source}/*.parquet')"
    types = {name: kind for name, kind, *_ in database.execute(f"DESCRIBE FROM {raw}").fetchall()}
    bounds = f"event_us >= {microseconds(since)} AND event_us < {microseconds(until)}"
    return f"FROM ({render.typed(config, raw, types)}) WHERE {bounds}"


def settled(config: Config) -> str:
    """Statements that make the table `settled` of the table `typed`."""
    text = Path(__file__).with_name("duck_settled.sql").read_text(encoding="utf-8")
    names = ["event_us", *render.event_columns(config)[2:]]
    order = ", ".join(f'"{name}" ASC NULLS FIRST' for name in names)
    return Template(text).substitute(most_a_day=config.events.max_events_per_day, oldest_first=order)

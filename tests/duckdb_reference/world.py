"""The owner's files in DuckDB, and the reference's tables of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa

from duckdb_reference import render
from segmenter_plugin.config import Config

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reference:
    """Events of Parquet files, settled once; each cutoff is then a query.

    Args:
        connection: An open database; the tables `typed`, `stored` and `settled` are made in it.
        config: The configuration that the build had.
        files: A glob of Parquet files.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, config: Config, files: str) -> None:
        self._connection, self._config = connection, config
        connection.execute("SET TimeZone = 'UTC'")
        raw = f"read_parquet('{files}')"
        described = connection.execute(f"DESCRIBE FROM {raw}").fetchall()
        types = {name: kind for name, kind, *_ in described}
        connection.execute(f"CREATE TABLE typed AS {render.typed(config, raw, types)}")
        connection.execute(f"CREATE TABLE stored AS {render.stored(config, 'typed')}")
        connection.execute(f"CREATE TABLE settled AS {render.settled(config, 'stored')}")

    @property
    def complete_through(self) -> datetime:
        """Events are complete before this time: as configured, else right after the last valid event."""
        told = self._config.events.complete_through
        if told is not None:
            return self._config.time(told)
        ((last,),) = self._connection.execute("SELECT max(event_us) FROM typed").fetchall()
        return _EPOCH + timedelta(microseconds=last + 1)

    def tables(self, cutoff: datetime) -> dict[str, pa.Table]:
        """`behaviour` and `labels` as of a cutoff, in no particular order of rows."""
        queries = {
            "behaviour": render.behaviour(self._config, "settled", cutoff, "stored"),
            "labels": render.labels(self._config, "settled", cutoff, self.complete_through),
        }
        return {name: self._connection.sql(query).to_arrow_table() for name, query in queries.items()}

"""Our online stores hold what Feast's own hold, byte for byte, over random schemas; and each reads the other's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from feast import RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.utils import _convert_arrow_to_proto
from hypothesis import HealthCheck, Phase, given, settings
from redis import Redis
from redis_world import redis_server
from view_tables import ViewTable, view_tables

from segmenter_plugin.store.redis import ArrowRedisOnlineStore
from segmenter_plugin.store.rows import encode_rows
from segmenter_plugin.store.sqlite import ArrowSqliteOnlineStore

REDIS = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
SQLITE = "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"


@dataclass(frozen=True)
class Pair:
    """Feast's store and ours; two places for rows, and a way to see everything in one."""

    stock: OnlineStore
    ours: OnlineStore
    stock_config: Callable[[str], RepoConfig]
    our_config: Callable[[str], RepoConfig]
    dump: Callable[[str], Any]
    clear: Callable[[str], None]


def repo(folder: Path, online_store: dict[str, Any]) -> RepoConfig:
    return RepoConfig(
        project="equal",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=online_store,
        offline_store="duckdb",
        entity_key_serialization_version=3,
        repo_path=folder,
    )


@pytest.fixture(scope="module")
def redis_pair(tmp_path_factory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("redis")
    databases = {"stock": 0, "ours": 1}
    with redis_server() as server:

        def config(kind: str, place: str) -> RepoConfig:
            address = f"localhost:{server.port},db={databases[place]}"
            return repo(folder, {"type": kind, "connection_string": address})

        def client(place: str) -> Redis:
            return Redis(port=server.port, db=databases[place])

        def dump(place: str) -> dict[bytes, dict[bytes, bytes]]:
            return {key: client(place).hgetall(key) for key in client(place).scan_iter()}

        yield Pair(
            RedisOnlineStore(),
            ArrowRedisOnlineStore(),
            partial(config, "redis"),
            partial(config, REDIS),
            dump,
            lambda place: client(place).flushdb(),
        )


@pytest.fixture(scope="module")
def sqlite_pair(tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("sqlite")

    def config(kind: str, place: str) -> RepoConfig:
        return repo(folder, {"type": kind, "path": f"{place}.db"})

    def dump(place: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(folder / f"{place}.db")) as connection:
            return connection.execute("SELECT * FROM equal_random_view ORDER BY entity_key, feature_name").fetchall()

    def clear(place: str) -> None:
        with closing(sqlite3.connect(folder / f"{place}.db")) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'equal_random_view'").fetchone():
                connection.execute("DELETE FROM equal_random_view")
                connection.commit()

    stock, ours = SqliteOnlineStore, ArrowSqliteOnlineStore
    # A store of SQLite keeps the connection to the first file that it was asked for.
    return Pair(stock(), ours(), partial(config, "sqlite"), partial(config, SQLITE), dump, clear)


@pytest.fixture(params=["redis_pair", "sqlite_pair"])
def pair(request) -> Pair:
    return request.getfixturevalue(request.param)


@settings(max_examples=60, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=view_tables())
def test_rows_equal_feast_s_and_each_store_reads_the_other_s(pair: Pair, table: ViewTable):
    empty(pair, table)
    messages = _convert_arrow_to_proto(table.rows, table.view, table.key_types)
    pair.stock.online_write_batch(pair.stock_config("stock"), table.view, messages, None)
    with pair.ours.writer(pair.our_config("ours"), table.view) as writer:
        assert writer.write(encode_rows(table.rows, table.view)) == table.rows.num_rows
        writer.finish()
    assert pair.dump("ours") == pair.dump("stock")
    expected = read(pair.stock, pair.stock_config("stock"), table)
    assert read(type(pair.stock)(), pair.stock_config("ours"), table) == expected
    assert read(type(pair.ours)(), pair.our_config("stock"), table) == expected


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=view_tables())
def test_feast_s_own_way_of_writing_through_our_store_gives_the_same(pair: Pair, table: ViewTable):
    empty(pair, table)
    messages = _convert_arrow_to_proto(table.rows, table.view, table.key_types)
    pair.stock.online_write_batch(pair.stock_config("stock"), table.view, messages, None)
    pair.ours.online_write_batch(pair.our_config("ours"), table.view, messages, None)
    assert pair.dump("ours") == pair.dump("stock")


def empty(pair: Pair, table: ViewTable) -> None:
    for store, config, place in (
        (pair.stock, pair.stock_config("stock"), "stock"),
        (pair.ours, pair.our_config("ours"), "ours"),
    ):
        pair.clear(place)
        store.update(config, [], [table.view], [], [], partial=True)


def read(store: OnlineStore, config: RepoConfig, table: ViewTable) -> str:
    """What `online_read` answers for every row; as text, because NaN differs from itself."""
    values = [python_values_to_proto_values(table.keys[name], kind) for name, kind in table.key_types.items()]
    keys = [EntityKey(join_keys=list(table.key_types), entity_values=row) for row in zip(*values, strict=True)]
    names = [feature.name for feature in table.view.features]
    answers = store.online_read(config, table.view, keys, list(names))
    rows = [(time, {name: feast_value_type_to_python_type(cells[name]) for name in names}) for time, cells in answers]
    return repr(rows)

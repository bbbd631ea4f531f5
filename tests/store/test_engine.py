"""The Arrow engine puts online what Feast's engine does, batch by batch, and says what happened."""

import itertools
import json
import logging
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
from engine_world import (
    DAY,
    NOON,
    TIME,
    USER,
    MemoryOnlineStore,
    config_of,
    rows_of,
    source_of,
    task_of,
    view_of,
    write,
)
from feast import Entity, FeatureStore
from feast.infra.common.materialization_job import MaterializationJobStatus
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.infra.online_stores.helpers import get_online_store_from_config
from hypothesis import HealthCheck, given, settings
from redis_world import redis_server
from tqdm import tqdm
from view_tables import view_tables

from segmenter_plugin.errors import ConfigError, GateError, StoreError
from segmenter_plugin.store.engine import ArrowComputeEngine

ENGINE = "segmenter_plugin.store.engine.ArrowComputeEngine"
SQLITE = "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"
REDIS = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.fixture
def folder(tmp_path):
    """Three days of 50 users; on the last day only every other one."""
    for day, step in enumerate((1, 1, 2)):
        users = [f"user {i}" for i in range(0, 50, step)]
        write(tmp_path / f"rows/{day}.parquet", rows_of(users, [NOON + day * DAY] * len(users)), row_group_size=9)
    return tmp_path


def engine_of(folder, online, engine=ArrowComputeEngine, **options):
    config = config_of(folder)
    return engine(repo_config=config, offline_store=DuckDBOfflineStore(), online_store=online, **options)


def materialize(folder, online, *, engine=ArrowComputeEngine, task=None, **options):
    """Run one task; Feast's engine asks the registry for nothing but entities."""
    registry = SimpleNamespace(get_entity=lambda name, _: USER if name == "user" else entity_of(name))
    task = task or task_of(view_of(source_of(folder / "rows/*.parquet")), NOON, NOON + 2 * DAY)
    (job,) = engine_of(folder, online, engine, **options).materialize(registry, task)
    return job


def entity_of(name):
    return Entity(name=name, join_keys=[name.removeprefix("of_")])


def test_each_user_s_newest_row_goes_online_in_batches(folder, caplog):
    online = MemoryOnlineStore()
    with caplog.at_level(logging.INFO, "segmenter_plugin"):
        job = materialize(folder, online, batch_rows=16)
    assert job.status() == MaterializationJobStatus.SUCCEEDED
    assert sum(online.batches) == len(online.rows) == 50
    assert all(size < 32 for size in online.batches)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("segmenter")]
    assert line.startswith("taste: 125 rows read, 50 users, 50 written, 0 older than what is online")


def test_it_equals_what_feast_s_engine_writes(folder):
    ours, stock = MemoryOnlineStore(), MemoryOnlineStore()
    materialize(folder, ours)
    assert materialize(folder, stock, engine=LocalComputeEngine).status() == MaterializationJobStatus.SUCCEEDED
    assert ours.rows == stock.rows


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=view_tables())
def test_views_of_any_types_equal_what_feast_s_engine_writes(tmp_path, table):
    rows = pa.Table.from_batches([table.rows])
    older = pa.array([time - DAY for time in table.rows.column("event_timestamp").to_pylist()], TIME)
    history = rows.set_column(rows.schema.get_field_index("event_timestamp"), "event_timestamp", older)
    write(tmp_path / "rows/1.parquet", pa.concat_tables([rows, history]), row_group_size=3)
    table.view.batch_source.file_options.uri = str(tmp_path / "rows/1.parquet")
    task = task_of(table.view, NOON.replace(year=1970), NOON.replace(year=2100))
    ours, stock = MemoryOnlineStore(), MemoryOnlineStore()
    for online, engine in ((ours, ArrowComputeEngine), (stock, LocalComputeEngine)):
        job = materialize(tmp_path, online, engine=engine, task=task)
        assert job.error() is None
    assert ours.strict == [False]  # by the engine; Feast's way opens a writer as well
    assert ours.rows == stock.rows


def test_progress_is_counted_in_rows_read_and_users_written(folder):
    bars = []

    def bar(total):
        bars.append(tqdm(total=total, disable=True))
        bars[-1].update = lambda count, seen=bars[-1]: setattr(seen, "n", seen.n + count)
        return bars[-1]

    view = view_of(source_of(folder / "rows/*.parquet"))
    materialize(folder, MemoryOnlineStore(), task=task_of(view, NOON, NOON + 2 * DAY, tqdm_builder=bar))
    assert [(bar.total, bar.n) for bar in bars] == [(125, 125), (50, 50)]


def test_a_corrected_row_goes_online_and_an_older_one_does_not(folder, caplog):
    online = MemoryOnlineStore()
    materialize(folder, online)
    before = dict(online.rows)
    late = NOON + timedelta(hours=1)
    write(folder / "rows/3.parquet", rows_of(["user 0"], [NOON + 2 * DAY], [late], name=pa.array(["right"])))
    with caplog.at_level(logging.INFO, "segmenter_plugin"):
        materialize(folder, online)
    changed = [key for key, row in online.rows.items() if row != before[key]]
    assert [online.rows[key][2]["name"] for key in changed] == [b"\x12\x05right"]
    first_day = task_of(view_of(source_of(folder / "rows/*.parquet")), NOON, NOON)
    after = dict(online.rows)
    with caplog.at_level(logging.INFO, "segmenter_plugin"):
        materialize(folder, online, task=first_day)
    assert online.rows == after
    assert "50 users, 0 written, 50 older than what is online" in caplog.messages[-1]


def test_strict_stock_is_handed_to_the_store(folder):
    online = MemoryOnlineStore()
    materialize(folder, online, strict_stock=True)
    assert online.strict == [True]


def test_an_empty_window_opens_no_writer(folder):
    online = MemoryOnlineStore()
    task = task_of(view_of(source_of(folder / "rows/*.parquet")), NOON + 9 * DAY, NOON + 10 * DAY)
    assert materialize(folder, online, task=task).status() == MaterializationJobStatus.SUCCEEDED
    assert online.strict == []


def test_an_error_of_the_store_ends_the_job_and_is_reported(folder):
    online = MemoryOnlineStore(fails_at=1)
    job = materialize(folder, online, batch_rows=5)
    assert job.status() == MaterializationJobStatus.ERROR
    assert isinstance(job.error(), OSError)
    assert online.closed == 1


def test_an_error_of_the_source_ends_the_job_before_anything_is_written(folder):
    write(folder / "rows/3.parquet", rows_of([None], [NOON]))
    online = MemoryOnlineStore()
    job = materialize(folder, online)
    assert job.status() == MaterializationJobStatus.ERROR
    with pytest.raises(StoreError, match="1 rows of the view 'taste'"):
        raise job.error()
    assert online.rows == {}


def test_an_error_while_reading_the_rows_ends_the_job(folder, monkeypatch):
    def fail(batch, view):
        raise ValueError("a row that cannot be encoded")

    monkeypatch.setattr("segmenter_plugin.store.engine.encode_rows", fail)
    online = MemoryOnlineStore()
    assert str(materialize(folder, online).error()) == "a row that cannot be encoded"
    assert online.closed == 1


def test_a_restarted_server_gets_the_whole_view_again(folder, caplog):
    online = MemoryOnlineStore(restarts=2)
    assert materialize(folder, online, batch_rows=20).status() == MaterializationJobStatus.SUCCEEDED
    assert len(online.rows) == 50
    assert sum(online.batches) == 150
    assert sum("written again" in message for message in caplog.messages) == 2


def test_a_server_that_keeps_restarting_is_given_up(folder):
    online = MemoryOnlineStore(restarts=99)
    with pytest.raises(StoreError, match=r"lost acknowledged rows 5 times.*'taste'(.|\n)*Hint: find out"):
        raise materialize(folder, online).error()
    assert len(online.strict) == 5


@pytest.mark.parametrize("falls", ["between the views", "within the second"])
def test_a_restart_that_takes_an_earlier_view_away_brings_it_online_again(folder, falls):
    with redis_server() as server:
        online = {"type": REDIS, "connection_string": server.address}
        config = config_of(folder, online_store=online)
        store = get_online_store_from_config(config.online_store)
        engine = ArrowComputeEngine(
            repo_config=config, offline_store=DuckDBOfflineStore(), online_store=store, batch_rows=20
        )
        views = [view_of(source_of("rows/*.parquet"), name=name) for name in ("first", "second")]

        def run(view, before=lambda: None):
            before()
            job = engine._materialize_one(None, task_of(view, NOON, NOON + 2 * DAY))
            if job.error():
                raise job.error()

        for view in views:
            run(view)
        clean = server.dump()
        server.client().flushall()
        run(views[0])
        if falls == "within the second":
            restart_at_batch(2, store, server)
            run(views[1])
        else:
            run(views[1], before=server.restart)
        assert server.dump() == clean


def restart_at_batch(number, store, server):
    """Let the server die, once, before that batch is written."""
    writer = store.writer
    counter = itertools.count(1)

    @contextmanager
    def dying(*arguments, **options):
        with writer(*arguments, **options) as opened:

            def write_rows(rows):
                if next(counter) == number:
                    server.restart()
                return opened.write(rows)

            yield SimpleNamespace(write=write_rows, finish=opened.finish)

    store.writer = dying


@pytest.mark.parametrize("options", [{"batch_row": 5}, {"batch_rows": 0}, {"strict_stock": "perhaps"}])
def test_wrong_options_are_refused_by_name(folder, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        engine_of(folder, MemoryOnlineStore(), **options)


def test_what_is_not_covered_is_done_by_feast_with_one_line(folder, caplog):
    online = MemoryOnlineStore()
    view = view_of(source_of(folder / "rows/*.parquet"), enable_validation=True)
    job = materialize(folder, online, task=task_of(view, NOON, NOON + 2 * DAY))
    assert job.status() == MaterializationJobStatus.SUCCEEDED
    assert len(online.rows) == 50
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("segmenter")]
    assert lines == ["taste: left to Feast's local engine, because the view has enable_validation."]


OURS = {"segmenter.view": "taste"}


def test_a_view_of_ours_needs_a_verdict_whoever_would_write_it(folder):
    write(folder / "taste/cutoff=20240301T120000Z/part-0.parquet", rows_of(["user 0"], [NOON]))
    for further in ({}, {"enable_validation": True}):
        view = view_of(source_of(folder / "taste/*/*.parquet"), tags=OURS, **further)
        online = MemoryOnlineStore()
        job = materialize(folder, online, task=task_of(view), require_verdict=True)
        assert job.status() == MaterializationJobStatus.ERROR
        with pytest.raises(GateError, match=r"nothing of 'taste/cutoff=20240301T120000Z' goes online .* no verdict"):
            raise job.error()
        assert online.rows == {}
        assert materialize(folder, online, task=task_of(view)).error() is None


@pytest.mark.parametrize(
    ("verdict", "accepted", "files", "told"),
    [
        ("ok", None, ["part-0.parquet"], None),
        ("warn", None, ["part-0.parquet"], None),
        ("stop", "agreed", ["part-0.parquet"], None),
        ("stop", None, ["part-0.parquet"], r"stopped by the gate: too far\. Users who moved furthest: user 0"),
        ("ok", None, ["part-1.parquet"], "is not of the rows of taste now"),
    ],
)
def test_a_verdict_lets_its_own_rows_through(folder, verdict, accepted, files, told):
    place = write(folder / "taste/cutoff=20240301T120000Z/part-0.parquet", rows_of(["user 0"], [NOON])).parent
    checks = [{"verdict": verdict, "message": "too far."}]
    found = {"verdict": verdict, "accepted": accepted, "files": files, "views": {"taste": files}, "checks": checks}
    (place / "_verdict.json").write_text(json.dumps(found | {"moved": [{"user_id": "user 0"}]}))
    online, view = MemoryOnlineStore(), view_of(source_of(folder / "taste/*/*.parquet"), tags=OURS)
    job = materialize(folder, online, task=task_of(view), require_verdict=True)
    assert len(online.rows) == (0 if told else 1)
    if told:
        with pytest.raises(GateError, match=told):
            raise job.error()


def test_rows_outside_the_window_pushed_rows_and_views_of_others_need_none(folder):
    write(folder / "taste/cutoff=20240401T120000Z/part-0.parquet", rows_of(["user 0"], [NOON + 31 * DAY]))
    write(folder / "taste/cutoff=pushed-1/part-0.parquet", rows_of(["user 1"], [NOON]))
    ours = view_of(source_of(folder / "taste/*/*.parquet"), tags=OURS)
    online = MemoryOnlineStore()
    assert materialize(folder, online, task=task_of(ours), require_verdict=True).error() is None
    assert len(online.rows) == 1
    assert materialize(folder, online, require_verdict=True).error() is None
    table = view_of(source_of(folder / "rows/0.parquet"), tags=OURS)
    with pytest.raises(StoreError, match="holds no partitions"):
        raise materialize(folder, online, task=task_of(table), require_verdict=True).error()


def store_of(folder, online_store, engine):
    config = config_of(folder, online_store=online_store, batch_engine=engine, materialization={})
    store = FeatureStore(config=config)
    store.apply([USER, view_of(source_of(folder / "rows/*.parquet"))])
    return store


def test_feast_materialises_sqlite_through_it(folder):
    dumps = []
    for number, engine in enumerate(({"type": ENGINE, "batch_rows": 7}, "local")):
        place = folder / str(number)
        place.mkdir()
        (place / "rows").symlink_to(folder / "rows")
        store = store_of(place, {"type": SQLITE, "path": str(place / "online.db")}, engine)
        assert number or store.config.batch_engine.batch_rows == 7
        store.materialize(NOON, NOON + 2 * DAY)
        with closing(sqlite3.connect(place / "online.db")) as connection:
            rows = connection.execute("SELECT * FROM team_taste ORDER BY entity_key, feature_name").fetchall()
        dumps.append(rows)
        asked = [{"user_id": "user 0"}, {"user_id": "nobody"}]
        answer = store.get_online_features(["taste:embedding", "taste:name"], asked).to_dict()
        assert answer["embedding"] == [[0.0, 0.5], None]
    assert len(dumps[0]) == 100
    assert dumps[0] == dumps[1]


def test_feast_materialises_redis_through_it(folder, monkeypatch):
    with redis_server() as server:
        dumps = []
        for db, engine in itertools.zip_longest((0, 1), (ENGINE, "local")):
            address = f"{server.address},db={db}"
            store = store_of(folder, {"type": REDIS, "connection_string": address}, engine)
            store.materialize(NOON, NOON + 2 * DAY)
            dumps.append(server.dump(db))
    assert len(dumps[0]) == 50
    assert dumps[0] == dumps[1]

"""What the stores themselves take when every byte is ready: one run in a process of its own.

python -m store_speed.floors FLOOR ROWS DIM PORT, FLOOR one of `FLOORS`; the last line printed is JSON.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from store_speed import ready, world
from store_speed.materialise import empty_redis

CHUNK = 10_000


def resp_pipelined(rows: int, dim: int, port: int) -> float:
    """Seconds to send ready ``HSET`` commands over one socket and to read all replies."""
    matrix = ready.filled(ready.resp_of(ready.template_of(dim, world.PROJECT)), ready.numbers_of(rows, dim), dim)
    fields = len(ready.template_of(dim, world.PROJECT).fields)
    reply = b":%d\r\n" % fields
    missing = rows * len(reply)
    with socket.create_connection(("localhost", port)) as connection:

        def drain() -> None:
            left = missing
            while left and (received := connection.recv(1 << 20)):
                left -= len(received)

        reader = threading.Thread(target=drain)
        started = time.perf_counter()
        reader.start()
        for first in range(0, rows, CHUNK):
            connection.sendall(matrix[first : first + CHUNK].data)
        reader.join()
        return time.perf_counter() - started


def redis_py_pipeline(rows: int, dim: int, port: int) -> float:
    """Seconds for redis-py's pipeline of ``hset`` with ready keys and values."""
    import redis

    template, numbers = ready.template_of(dim, world.PROJECT), ready.numbers_of(rows, dim)
    keys = [line.tobytes() for line in ready.filled(template.key, numbers, dim)]
    cells = {
        field: [line.tobytes() for line in ready.filled(value, numbers, dim)]
        for field, value in template.fields.items()
    }
    mappings = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    with redis.Redis(port=port) as client:
        client.ping()
        started = time.perf_counter()
        for first in range(0, rows, CHUNK):
            pipe = client.pipeline(transaction=False)
            for place in range(first, min(first + CHUNK, rows)):
                pipe.hset(keys[place], mapping=mappings[place])
            pipe.execute()
        return time.perf_counter() - started


def sqlite_executemany(rows: int, dim: int, _: int) -> float:
    """Seconds for ``executemany`` of ready tuples into an empty table like those that Feast makes, one transaction."""
    template, numbers = ready.template_of(dim, ""), ready.numbers_of(rows, dim)
    keys = [line.tobytes() for line in ready.filled(template.key, numbers, dim)]
    names = ("embedding", *world.FLOATS, "segment")
    columns = [
        [line.tobytes() for line in ready.filled(value, numbers, dim)] for value in list(template.fields.values())[1:]
    ]
    event, created = "2026-01-01 00:00:00", "2026-01-01 06:00:00"
    tuples = [
        (key, name, value, None, event, created)
        for key, *values in zip(keys, *columns, strict=True)
        for name, value in zip(names, values, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "online.db")
        connection.execute(
            "CREATE TABLE t (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, vector_value BLOB, "
            "event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
        )
        connection.execute("CREATE INDEX t_ek ON t (entity_key)")
        connection.commit()
        started = time.perf_counter()
        with connection:
            connection.executemany(
                "INSERT INTO t (entity_key, feature_name, value, value_text, event_ts, created_ts) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                tuples,
            )
        seconds = time.perf_counter() - started
        connection.close()
    return seconds


FLOORS: dict[str, Callable[[int, int, int], float]] = {
    "floor_resp": resp_pipelined,
    "floor_redis_py": redis_py_pipeline,
    "floor_sqlite": sqlite_executemany,
}


def main() -> None:
    """Measure once."""
    floor, rows, dim, port = sys.argv[1], *map(int, sys.argv[2:])
    if floor != "floor_sqlite":
        empty_redis(port)
    print(json.dumps({"seconds": FLOORS[floor](rows, dim, port)}))


if __name__ == "__main__":
    main()

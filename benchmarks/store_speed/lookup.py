"""One contestant of the lookups, in a process of its own, that times calls as it is told.

python -m store_speed.lookup CONTESTANT ROOT SOURCE_FOLDER ROWS DIM PORT

It applies the view and, where it is the one to do so, brings the rows online; says ``ready``; and then answers each
line ``{"users": n, "calls": c, "seed": s}`` with the milliseconds of its calls. All draw the same users: distinct ones
within a call, at random over the whole store.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store_speed import world

WARM_CALLS = 10

#: From a list of user ids to an answer.
Call = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Lookup:
    """Where a contestant reads and how.

    Args:
        repo: One of `world.CONTESTANTS`.
        db: Redis database; contestants of one layout share it, so they read the same bytes.
        answer: ``to_dict`` or ``to_numpy``; None for a floor, which asks Redis itself.
        fills: Whether it writes the rows; otherwise another contestant does.
        precompute_online: Whether its service is of Feast's precomputed kind.
    """

    repo: str
    db: int
    answer: str | None
    fills: bool = False
    precompute_online: bool = False


LOOKUPS = {
    "redis_stock": Lookup("redis_tuned", 0, "to_dict", fills=True),
    "redis_arrow": Lookup("redis_arrow", 0, "to_dict"),
    "redis_arrow_numpy": Lookup("redis_arrow", 0, "to_numpy"),
    "redis_precomputed_stock": Lookup("redis_tuned", 2, "to_dict", fills=True, precompute_online=True),
    "redis_precomputed_arrow": Lookup("redis_arrow", 2, "to_dict", precompute_online=True),
    "redis_packed": Lookup("redis_packed", 1, "to_dict", fills=True),
    "redis_packed_numpy": Lookup("redis_packed", 1, "to_numpy"),
    "floor_hmget": Lookup("redis_tuned", 0, None),
    "floor_mget": Lookup("redis_packed", 1, None),
    "sqlite_stock": Lookup("sqlite_tuned", 0, "to_dict", fills=True),
    "sqlite_arrow": Lookup("sqlite_arrow", 0, "to_dict", fills=True),
}


def through_feast(contestant: str, root: Path, source: Path, port: int) -> Call:
    """Feast's own call, on the contestant's store."""
    lookup = LOOKUPS[contestant]
    store = world.open_store(
        root / contestant,
        lookup.repo,
        str(source / "*.parquet"),
        port,
        db=lookup.db,
        precompute_online=lookup.precompute_online,
    )
    if lookup.fills:
        world.materialise(store)
    service = store.get_feature_service(world.SERVICE)
    # Feast looks precomputed rows up by full names only.
    full = lookup.precompute_online

    def to_dict(users: list[str]) -> Any:
        entities = [{"user_id": user} for user in users]
        return store.get_online_features(service, entities, full_feature_names=full).to_dict()

    def to_numpy(users: list[str]) -> Any:
        entities = [{"user_id": user} for user in users]
        return store.get_online_features(service, entities, full_feature_names=full).to_numpy("embedding")

    return to_numpy if lookup.answer == "to_numpy" else to_dict


def floor_hmget(rows: int, dim: int, port: int) -> Call:
    """redis-py's pipeline of HMGET with ready keys, and one `frombuffer` over the embeddings."""
    import redis

    from store_speed import ready

    template = ready.template_of(dim, world.PROJECT)
    keys = {user: template.key.replace(b"u0000000", user.encode()) for user in world.user_ids(0, rows)}
    fields = list(template.fields)
    client = redis.Redis(port=port, db=0)

    def call(users: list[str]) -> np.ndarray:
        pipe = client.pipeline(transaction=False)
        for user in users:
            pipe.hmget(keys[user], fields)
        # The embedding is the first cell after the timestamp; its payload ends the message.
        return np.frombuffer(b"".join([row[1][-4 * dim :] for row in pipe.execute()]), "<f4").reshape(len(users), dim)

    return call


def floor_mget(rows: int, dim: int, port: int) -> Call:
    """redis-py's MGET of the packed rows by ready keys, and one `frombuffer` over the embeddings."""
    import redis

    client = redis.Redis(port=port, db=LOOKUPS["floor_mget"].db)
    stored = client.scan_iter(count=10_000)
    found = {key[place : place + 8].decode(): key for key in stored if (place := key.find(b"u0")) >= 0}
    keys = {user: found[user] for user in world.user_ids(0, rows)}
    embedding = world.embeddings(rows, dim)[0].tobytes()
    start = client.get(keys["u0000000"]).find(embedding)
    if start < 0:
        raise SystemExit("the packed row does not hold the embedding as it was written")

    def call(users: list[str]) -> np.ndarray:
        rows_found = client.mget([keys[user] for user in users])
        lines = np.frombuffer(b"".join(rows_found), np.uint8).reshape(len(users), -1)
        return np.ascontiguousarray(lines[:, start : start + 4 * dim]).view("<f4")

    return call


def check(call: Call, rows: int, dim: int) -> None:
    """Hold one answer against the source.

    Raises:
        SystemExit: It differs.
    """
    answer = call(world.user_ids(0, 2))
    if isinstance(answer, dict):
        answer = answer["embedding"] if "embedding" in answer else answer[f"{world.VIEW}__embedding"]
    if not np.array_equal(np.array(answer, dtype=np.float32), world.embeddings(rows, dim)[:2]):
        raise SystemExit("embeddings read back differ from the source")


def timed(call: Call, rows: int, users: int, calls: int, seed: int) -> list[float]:
    """Milliseconds of each call, after some that only bring the process back to the processor's caches."""
    draw = np.random.default_rng(seed)
    asked = [
        [f"u{number:07d}" for number in draw.choice(rows, users, replace=False)] for _ in range(calls + WARM_CALLS)
    ]
    took: list[float] = []
    for batch in asked:
        started = time.perf_counter()
        call(batch)
        took.append((time.perf_counter() - started) * 1_000)
    return took[WARM_CALLS:]


def main() -> None:
    """Serve until the input ends."""
    contestant, root, source = sys.argv[1], *map(Path, sys.argv[2:4])
    rows, dim, port = map(int, sys.argv[4:])
    if contestant == "floor_hmget":
        call = floor_hmget(rows, dim, port)
    elif contestant == "floor_mget":
        call = floor_mget(rows, dim, port)
    else:
        call = through_feast(contestant, root, source, port)
    check(call, rows, dim)
    # A server that has been up for a while has collected the garbage of its start.
    timed(call, rows, min(500, rows), 40, 0)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(call, rows, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

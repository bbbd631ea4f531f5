"""Eight threads read while another process materialises version after version; the last line printed is JSON.

python -m store_speed.concurrent read  CONTESTANT REPO SOURCE_FOLDER USERS DIM PORT SECONDS
python -m store_speed.concurrent write REPO VERSIONS   (started by ``read``)

Every number of a row is its version, so a row that mixes two versions shows.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from store_speed import world

THREADS = 8
USERS_PER_CALL = 50
VERSIONS = 60


def time_of(version: int) -> datetime:
    """Cutoff of a version."""
    return world.CUTOFF + timedelta(days=version)


def write_versions(folder: Path, users: int, dim: int) -> None:
    """One file a version, made once."""
    if (folder / "done").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for version in range(VERSIONS):
        table = world.steady_table(users, dim, version, time_of(version))
        pq.write_table(table, folder / f"version_{version:04d}.parquet")
    (folder / "done").touch()


def torn(answer: dict[str, list[Any]], place: int, dim: int) -> bool:
    """Whether a row mixes versions."""
    version = answer["score_a"][place]
    whole = (
        answer["embedding"][place] == [version] * dim
        and all(answer[name][place] == version for name in world.FLOATS)
        and answer["segment"][place] == f"v{int(version):04d}"
    )
    return not whole


class Reader(threading.Thread):
    """Reads random users until told to stop.

    Args:
        store: The feature store, shared by all threads.
        users: How many there are.
        dim: Numbers in an embedding.
        seed: Of the draw.
        stop: Set when it is over.
    """

    def __init__(self, store: Any, users: int, dim: int, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self._store, self._users, self._dim, self._stopping = store, users, dim, stop
        self._draw = np.random.default_rng(seed)
        self.took: list[float] = []
        self.torn = 0
        self.errors: Counter[str] = Counter()

    def run(self) -> None:
        """Read, time and check."""
        service = self._store.get_feature_service(world.SERVICE)
        while not self._stopping.is_set():
            chosen = self._draw.choice(self._users, USERS_PER_CALL, replace=False)
            entities = [{"user_id": f"u{number:07d}"} for number in chosen]
            started = time.perf_counter()
            try:
                answer = self._store.get_online_features(service, entities).to_dict()
            except Exception as error:  # noqa: BLE001 (any error of a store is what is counted here)
                self.errors[f"{type(error).__name__}: {error}"[:120]] += 1
                continue
            self.took.append((time.perf_counter() - started) * 1_000)
            self.torn += sum(torn(answer, place, self._dim) for place in range(USERS_PER_CALL))


def read_for(store: Any, users: int, dim: int, seconds: float) -> dict[str, Any]:
    """Read on all threads for some seconds."""
    stop = threading.Event()
    readers = [Reader(store, users, dim, seed, stop) for seed in range(THREADS)]
    started = time.perf_counter()
    for reader in readers:
        reader.start()
    time.sleep(seconds)
    stop.set()
    for reader in readers:
        reader.join()
    seconds = time.perf_counter() - started
    took = np.concatenate([reader.took for reader in readers])
    errors: Counter[str] = sum((reader.errors for reader in readers), Counter())
    return {
        "users_per_second": len(took) * USERS_PER_CALL / seconds,
        "p50_ms": float(np.percentile(took, 50)) if len(took) else None,
        "p99_ms": float(np.percentile(took, 99)) if len(took) else None,
        "torn_rows": sum(reader.torn for reader in readers),
        "errors": dict(errors),
    }


def read(store: Any, repo: Path, users: int, dim: int, seconds: float) -> dict[str, Any]:
    """Read alone, then beside a writer."""
    read_for(store, users, dim, 1)
    alone = read_for(store, users, dim, seconds / 2)
    command = [sys.executable, "-m", "store_speed.concurrent", "write", str(repo)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        if writer.stdin is None or writer.stdout is None or "ready" not in writer.stdout.readline():
            raise SystemExit("the writer did not start")
        writer.stdin.write("go\n")
        writer.stdin.flush()
        beside = read_for(store, users, dim, seconds)
        writer.stdin.close()
        written = json.loads(writer.stdout.readlines()[-1])
    return {"alone": alone, "beside": beside, "writer": written}


def write(repo: Path) -> dict[str, float]:
    """Materialise one version after another until the input ends."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(repo))
    world.materialise(store, time_of(1))
    print("ready", flush=True)
    sys.stdin.readline()
    started, versions = time.perf_counter(), 0
    for version in range(2, VERSIONS):
        world.materialise(store, time_of(version))
        versions += 1
        if select.select([sys.stdin], [], [], 0)[0]:
            break
    return {"versions": versions, "seconds": time.perf_counter() - started}


def main() -> None:
    """Read, or write."""
    what, *rest = sys.argv[1:]
    if what == "write":
        print("\n" + json.dumps(write(Path(rest[0]))), flush=True)
        return
    contestant, repo, source = rest[0], Path(rest[1]), Path(rest[2])
    users, dim, port = map(int, rest[3:6])
    write_versions(source, users, dim)
    store = world.open_store(repo, contestant, str(source / "*.parquet"), port)
    world.materialise(store, time_of(0))
    print("\n" + json.dumps(read(store, repo, users, dim, float(rest[6]))))


if __name__ == "__main__":
    main()

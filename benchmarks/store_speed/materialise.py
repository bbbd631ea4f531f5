"""One materialisation in a process of its own; the last line printed is JSON.

python -m store_speed.materialise CONTESTANT SOURCE_FOLDER ROWS DIM PORT
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from store_speed import world
from store_speed.memory import forget_peak, peak_mb, resident_mb

WARM_ROWS = 64
SAMPLE = 20


def empty_redis(port: int) -> None:
    """Drop everything, so that each run writes into an empty server."""
    import redis

    with redis.Redis(port=port) as client:
        client.flushall()


def check(store: Any, rows: int, dim: int) -> None:
    """Read some users back and hold them against the source.

    Raises:
        SystemExit: A value differs.
    """
    each = -(-rows // world.FILES)
    table = world.table_of(0, min(each, rows), dim)
    picked = np.linspace(0, table.num_rows - 1, SAMPLE).astype(int)
    expected = table.take(picked)
    entities = [{"user_id": user} for user in expected.column("user_id").to_pylist()]
    found = store.get_online_features(store.get_feature_service(world.SERVICE), entities).to_dict()
    for name in ("embedding", *world.FLOATS, "segment"):
        if found[name] != expected.column(name).to_pylist():
            raise SystemExit(f"{name} read back differs from the source")


def measure(contestant: str, source: Path, rows: int, dim: int, port: int) -> dict[str, float]:
    """Time and memory of one run; imports and first calls are paid by a small run before it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pq.write_table(world.table_of(0, WARM_ROWS, dim), root / "warm.parquet")
        warm = world.open_store(root / "warm", contestant, str(root / "warm.parquet"), port)
        world.materialise(warm)
        check(warm, WARM_ROWS * world.FILES, dim)
        if contestant.startswith("redis"):
            empty_redis(port)
        store = world.open_store(root / "repo", contestant, str(source / "*.parquet"), port)
        imports_mb = resident_mb()
        forget_peak()
        started = time.perf_counter()
        world.materialise(store)
        seconds = time.perf_counter() - started
        peak = peak_mb()
        check(store, rows, dim)
        return {"seconds": seconds, "peak_mb": peak, "imports_mb": imports_mb}


def main() -> None:
    """Measure once."""
    contestant, source, rows, dim, port = sys.argv[1:]
    print(json.dumps(measure(contestant, Path(source), int(rows), int(dim), int(port))))


if __name__ == "__main__":
    main()

"""Feast's own engine and online stores beside ours: materialisation, lookups, reads during a materialisation.

    python benchmarks/feast_store.py [--quick] [--rows 100000,500000] [--dims 64,128] [--repeats 5]
                                     [--part materialize|lookup|concurrent] [--fresh]

A real redis-server (without persistence) and SQLite files, both on this machine. Each materialisation is a process of
its own; contestants alternate. Results are kept in runs/feast_store/, so a stopped benchmark goes on where it was, and
parts may be run one at a time; --fresh begins again. Writes benchmarks/results/feast_store.md (with --quick, which
proves nothing but that all of it runs, runs/feast_store/quick.md); the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from store_speed import page, world
from store_speed.lookup import LOOKUPS
from store_speed.materialise import empty_redis
from store_speed.plan import LOOKUP_USERS, QUICK, Measured, Run, runs_of
from store_speed.server import Service, WorkerFailedError, redis_server, run_worker

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "runs" / "feast_store"
RESULT = PROJECT / "benchmarks" / "results" / "feast_store.md"
PARTS = ("materialize", "lookup", "concurrent")

#: Users of the stores that are read, alone and beside a writer.
READ_ROWS = {"lookup": 20_000, "concurrent": 100_000}

#: Microseconds a user at D = 64, for the first estimate; what is measured takes its place.
GUESS = {"redis_default": 230, "sqlite_default": 240, "redis_tuned": 70, "sqlite_tuned": 130, "floor_redis_py": 30}
START_S = 12.0


def source_of(rows: int, dim: int) -> Path:
    """Parquet files of a size."""
    folder = ROOT / "source" / f"{rows}_{dim}"
    world.write_source(folder, rows, dim)
    return folder


def materialise(run: Run, port: int) -> dict[str, Any]:
    """One materialisation, or a floor beside it."""
    if run.contestant.startswith("floor"):
        return run_worker("floors", run.contestant, run.rows, run.dim, port)
    return run_worker("materialise", run.contestant, source_of(run.rows, run.dim), run.rows, run.dim, port)


def look_up(run: Run, port: int, names: Iterable[str], blocks: int, calls: int) -> dict[str, Any]:
    """All contestants in turn, block by block: milliseconds by contestant and number of users."""
    took: dict[str, dict[str, list[float]]] = {}
    services: dict[str, Service] = {}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in names:
                try:
                    services[name] = Service(
                        "lookup", name, folder, source_of(run.rows, run.dim), run.rows, run.dim, port
                    )
                except WorkerFailedError as error:
                    failures[name] = str(error)
                    print(f"  {name} failed: {error}", flush=True)
            for users in LOOKUP_USERS:
                for block in range(blocks):
                    for name, service in services.items():
                        question = {"users": users, "calls": calls, "seed": block * 1_000 + users}
                        took.setdefault(name, {}).setdefault(str(users), []).extend(service.ask(question))
                medians = (f"{name} {page.middle(took[name][str(users)]):.3f}" for name in took)
                print(f"  {users} users, ms: {', '.join(medians)}", flush=True)
        finally:
            for service in services.values():
                service.close()
    return {"ms": took, "failures": failures}


def read_beside_writer(run: Run, port: int, seconds: float) -> dict[str, Any]:
    """Eight readers beside a materialisation."""
    versions = ROOT / "source" / f"versions_{run.rows}_{run.dim}"
    with tempfile.TemporaryDirectory() as folder:
        return run_worker("concurrent", "read", run.contestant, folder, versions, run.rows, run.dim, port, seconds)


def measure(run: Run, port: int, options: argparse.Namespace) -> dict[str, Any]:
    """Make one run on an empty Redis; a failure is a result too."""
    empty_redis(port)
    try:
        if run.part == "materialize":
            return materialise(run, port)
        if run.part == "lookup":
            if options.quick:
                return look_up(run, port, QUICK["lookup"], blocks=3, calls=20)
            return look_up(run, port, LOOKUPS, blocks=12, calls=40)
        return read_beside_writer(run, port, 3.0 if options.quick else 20.0)
    except WorkerFailedError as error:
        return {"failed": str(error)}


def expected_seconds(run: Run, measured: Measured) -> float:
    """How long a run will take, judged by those before it."""
    if run.part == "lookup":
        return 180.0
    if run.part == "concurrent":
        return 60.0
    before = measured.of("materialize", contestant=run.contestant)
    each = [result["seconds"] / other.rows for other, result in before.items() if other.dim == run.dim]
    guess = GUESS.get(run.contestant, 8) * 1e-6 * run.dim / 64
    return START_S + run.rows * (page.middle(each) if each else guess)


def run_all(plan: list[Run], measured: Measured, options: argparse.Namespace) -> None:
    """Make the runs that are missing."""
    missing = [run for run in plan if run not in measured]
    with redis_server() as port:
        for place, run in enumerate(missing):
            left = sum(expected_seconds(other, measured) for other in missing[place:])
            what = f"{run.part} {run.contestant}, {run.rows:,} users, D = {run.dim}, round {run.repeat + 1}"
            print(f"[{place + 1}/{len(missing)}] {what}; about {left / 60:.0f} min left", flush=True)
            started = time.monotonic()
            result = measure(run, port, options)
            measured.add(run, result)
            seconds = f"{result['seconds']:.2f} s measured, " if "seconds" in result else ""
            failed = f"failed: {result['failed']}, " if "failed" in result else ""
            print(f"  {failed}{seconds}{time.monotonic() - started:.0f} s in all", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="100000,500000", help="users in the store, by commas")
    parser.add_argument("--dims", default="64,128", help="numbers in an embedding, by commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given more than once; default all")
    parser.add_argument(
        "--quick", action="store_true", help="20,000 users, D = 64, two rounds, short lookups, some contestants"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rows, options.dims, options.repeats, options.fresh = "20000", "64", 2, True
    return options


def main() -> None:
    """Measure, write the page, print the ratios."""
    options = parse()
    state = ROOT / ("quick.jsonl" if options.quick else "measured.jsonl")
    if options.fresh:
        state.unlink(missing_ok=True)
    measured = Measured(state)
    rows, dims = ([int(number) for number in text.split(",")] for text in (options.rows, options.dims))
    parts = options.part or PARTS
    read_rows = dict.fromkeys(READ_ROWS, rows[0]) if options.quick else READ_ROWS
    plan = [run for part in parts for run in runs_of(part, rows, dims, options.repeats, read_rows.get(part, 0))]
    if options.quick:
        plan = [run for run in plan if run.contestant in ("all", *QUICK[run.part])]
    run_all(plan, measured, options)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = page.page(measured, f"python benchmarks/feast_store.py {' '.join(sys.argv[1:])}".strip(), machine)
    target = ROOT / "quick.md" if options.quick else RESULT
    target.write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(page.ratios(measured)))


if __name__ == "__main__":
    main()

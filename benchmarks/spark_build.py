"""Our build beside native Spark, pytorch-lifestream, DuckDB, Polars and a floor without Spark, from the same raw files.

    python benchmarks/spark_build.py --events 10000000 [--rounds 3] [--only ours --only native] [--quick] [--fresh]

Each run is a process of its own, measured with all that it starts; contestants alternate. Results are kept in
runs/spark_build/, so a stopped benchmark goes on where it was, failed runs are tried again, and sizes may be run one
after the other; --fresh begins again. The first round of each contestant is checked against DuckDB's rows. Writes
benchmarks/results/spark_build.md (with --quick, which proves nothing but that all of it runs,
runs/spark_build/quick.md); the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from build_speed import agree, page, peers, world
from build_speed.ours import copy_of
from build_speed.plan import CONTESTANTS, Measured, Run, runs_of

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "runs" / "spark_build"
RESULT = PROJECT / "benchmarks" / "results" / "spark_build.md"

#: Share of all users that the increment's day touches.
DAY_USERS = 0.039
_DAILY = ("rebuild", "increment")


def source_of(contestant: str, events: int) -> Path:
    """The raw files: a year of them, and for what is about a day the day after too."""
    year = world.write(ROOT / "source" / str(events), events)
    if contestant not in (*_DAILY, "yesterday"):
        return year
    lake = ROOT / "lake" / str(events)
    lake.mkdir(parents=True, exist_ok=True)
    files = list(year.iterdir())
    if contestant in _DAILY:
        files += world.write_day(ROOT / "source" / f"{events}_day", events, DAY_USERS).iterdir()
    for path in lake.iterdir():
        if path.name not in {file.name for file in files}:
            path.unlink()
    for file in files:
        if not (lake / file.name).exists():
            os.link(file, lake / file.name)
    return lake


def measure(run: Run) -> dict[str, Any]:
    """Make one run into a fresh root; a failure is a result too."""
    out = ROOT / "out" / run.contestant
    shutil.rmtree(out, ignore_errors=True)
    if run.contestant == "increment":
        built = ROOT / "yesterday" / str(run.events)
        if (failed := make_yesterday(built, run.events)) is not None:
            return failed
        copy_of(built, out)
    result = contest(run.contestant, run.events, out)
    if not result["failed"] and run.contestant not in ("empty", "lifestream"):
        result |= checked(run, out)
    shutil.rmtree(out, ignore_errors=True)
    return result


def make_yesterday(built: Path, events: int) -> dict[str, Any] | None:
    """Outputs that the increment stands on, where they are not there yet; the result if that fails."""
    if built.is_dir():
        return None
    aside = built.with_name(f".{events}")
    shutil.rmtree(aside, ignore_errors=True)
    result = contest("yesterday", events, aside)
    if result["failed"]:
        return result
    aside.rename(built)
    return None


def contest(contestant: str, events: int, out: Path) -> dict[str, Any]:
    """The cost of one contestant's process."""
    out.parent.mkdir(parents=True, exist_ok=True)
    source = source_of(contestant, events)
    python = peers.python_of(ROOT / "peers") if contestant in ("polars", "lifestream") else sys.executable
    command = [sys.executable, "-m", "build_speed.meter", python, "-m", "build_speed.contest"]
    command += [contestant, str(events), str(source), str(out)]
    (ROOT / "log").mkdir(exist_ok=True)
    log = ROOT / "log" / f"{contestant}_{events}.txt"
    with log.open("w", encoding="utf-8") as errors:
        here = Path(__file__).parent
        done = subprocess.run(command, cwd=here, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    try:
        cost = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": f"no cost was told, exit code {done.returncode}"}
    last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] if cost["code"] else []
    return cost | {"failed": f"exit code {cost['code']}: {' '.join(last)}" if cost["code"] else ""}


def checked(run: Run, out: Path) -> dict[str, Any]:
    """Whether the rows are the ones that DuckDB (for a day's rows, the rebuild) has; keeps those of these two."""
    keeper = "rebuild" if run.contestant in _DAILY else "duckdb"
    known = ROOT / "known" / str(run.events) / keeper
    mine = agree.files_of(run.contestant, out, agree.cutoff_of(run.contestant))
    if run.contestant == keeper:
        agree.keep(mine, known)
        return {}
    theirs = agree.kept(known)
    return {} if run.repeat or not theirs else {"agrees": agree.verdict(mine, theirs)}


def run_all(plan: list[Run], measured: Measured) -> None:
    """Make the runs that are missing."""
    missing = [run for run in plan if run not in measured]
    for place, run in enumerate(missing):
        what = f"{run.contestant}, {run.events:,} events, round {run.repeat + 1}"
        print(f"[{place + 1}/{len(missing)}] {what}", flush=True)
        started = time.monotonic()
        result = measure(run)
        measured.add(run, result)
        costs = ", ".join(f"{name} {result[name]}" for name in ("cpu_s", "wall_s", "peak_mb") if name in result)
        notes = result["failed"] or result.get("agrees", "")
        print(f"  {costs}; {notes}; {time.monotonic() - started:.0f} s in all", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTESTANTS, action="append", help="may be given more than once; default all")
    parser.add_argument("--quick", action="store_true", help="one round; the page goes to runs/spark_build/quick.md")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, write the page, print the ratios."""
    options = parse()
    state = ROOT / ("quick.jsonl" if options.quick else "measured.jsonl")
    if options.fresh:
        state.unlink(missing_ok=True)
    measured = Measured(state)
    rounds = 1 if options.quick else options.rounds
    run_all(list(runs_of(options.events, rounds, tuple(options.only or ()))), measured)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {page.versions()}"
    command = f"python benchmarks/spark_build.py {' '.join(sys.argv[1:])}".strip()
    text = page.page(measured, command, machine)
    (ROOT / "quick.md" if options.quick else RESULT).write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(page.ratios(measured)))


if __name__ == "__main__":
    main()

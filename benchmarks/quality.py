"""Quality of what we serve beside its baselines, on several sets, tasks and seeds, judged on later time.

    python benchmarks/quality.py [--sets complete_journey,taobao,simulated_shop] [--seeds 7,8,9] [--budget-min 60]
    python benchmarks/quality.py --events shop/segmenter.toml

Each cell, set x task x method x seed, is kept under --root and not made again; once the budget is spent no further cell
is begun, and the page says which are missing. Writes benchmarks/results/quality.md; the last line printed is JSON: a
list with one record for each set, task and metric.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quality_bench.cells import Cell, Cells, Found
from quality_bench.methods import AGGREGATES, COLES, ENCODER, METHODS, SERVED
from quality_bench.page import page
from quality_bench.records import bars, records_of
from quality_bench.sets import BenchSet, complete_journey, own, simulated_shop, taobao
from quality_bench.staleness_plot import draw_staleness
from quality_bench.studies import STUDIES, kept
from quality_bench.world import World

from segmenter_plugin.console import configure_logging
from segmenter_plugin.data.targets import Target

PROJECT = Path(__file__).parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "quality.md"

logger = logging.getLogger("segmenter_plugin.benchmarks")


@dataclass
class Contest:
    """All cells of a run.

    Attributes:
        cells: Where they are kept.
        methods: Which to compare.
        seeds: Each draws its own validation users, weights and batches.
        deadline: Monotonic time from which no cell is begun.
        notes: What the page tells beside the tables.
    """

    cells: Cells
    methods: Sequence[str]
    seeds: Sequence[int]
    deadline: float
    notes: list[str] = field(default_factory=list)

    def run(self, bench: BenchSet) -> list[dict[str, Any]]:
        """All cells of a set that the budget allows, and the records of those that there are."""
        worlds = [World(bench, seed) for seed in self.seeds]
        found: dict[str, dict[str, list[Found]]] = {}
        for world in worlds:
            for method in self.methods:
                if method == COLES and world is not worlds[0]:
                    continue  # minutes an epoch: one seed
                for target in world.targets:
                    result = self._cell(world, target, method)
                    if result is not None:
                        found.setdefault(target.task.window_name, {}).setdefault(method, []).append(result)
        records = []
        for target in worlds[0].targets:
            by_method = found.get(target.task.window_name, {})
            if by_method:
                records += self._records(worlds[0], target, by_method)
        return records

    def _cell(self, world: World, target: Target, method: str) -> Found | None:
        if method not in METHODS:
            raise SystemExit(f"there is no method {method!r}; choose among {', '.join(METHODS)}.")
        cell = Cell(world.bench.name, target.task.window_name, method, world.seed)
        kept = self.cells.read(cell, world.made_from)
        if kept is not None:
            return kept if kept.predictions.size else None
        if time.monotonic() > self.deadline:
            self.notes.append(f"missing, the budget was spent: {cell.path.with_suffix('')}")
            return None
        started = time.monotonic()
        try:
            made = METHODS[method](world, target)
        except subprocess.CalledProcessError as error:
            self.notes.append(f"failed, and is tried again by the next run: {cell.path.with_suffix('')}: {error}")
            return None
        seconds = round(time.monotonic() - started, 1)
        logger.info("%s: %s", cell.path.with_suffix(""), "not for this task" if made is None else f"{seconds} s")
        empty = Found(predictions=world.activity(target)[:0, 0], about={"not": "for this task"})
        self.cells.write(cell, world.made_from, empty if made is None else made)
        return made

    def _records(self, world: World, target: Target, by_method: dict[str, list[Found]]) -> list[dict[str, Any]]:
        predictions = {method: [each.predictions for each in results] for method, results in by_method.items()}
        for method, results in by_method.items():
            told = "; ".join(", ".join(f"{key} {value}" for key, value in each.about.items()) for each in results)
            if told.strip("; "):
                self.notes.append(f"{world.bench.name}, {target.task.window_name}, {method}: {told}")
        rows = world.judged
        users = rows.codes
        return records_of(world.bench.name, target.task, world.labels(target), users, predictions)


def benches(options: argparse.Namespace, notes: list[str]) -> list[BenchSet]:
    """The sets that were asked for, built; one whose events are absent is skipped and named."""
    root: Path = options.root
    overrides = tuple(options.set)
    if options.events is not None:
        return [own(root, options.events, overrides).built()]
    made: dict[str, Callable[[], BenchSet]] = {
        "complete_journey": lambda: complete_journey(root, overrides),
        "taobao": lambda: taobao(root, options.taobao, overrides),
        "simulated_shop": lambda: simulated_shop(root, overrides),
    }
    found = []
    for name in options.sets.split(","):
        if name not in made:
            raise SystemExit(f"there is no set {name!r}; choose among {', '.join(made)}.")
        if name == "taobao" and not options.taobao.is_file():
            notes.append(f"taobao: skipped, its events are not at the path of --taobao ({options.taobao.name})")
            logger.warning(notes[-1])
            continue
        found.append(made[name]().built())
    return found


def run_studies(
    options: argparse.Namespace, benches: Sequence[BenchSet], contest: Contest
) -> dict[str, list[dict[str, Any]]]:
    """The studies that were asked for, on each set and seed, as far as the budget allows."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in filter(None, options.studies.split(",")):
        if name not in STUDIES:
            raise SystemExit(f"there is no study {name!r}; choose among {', '.join(STUDIES)}.")
        for bench in benches:
            for seed in contest.seeds:
                if time.monotonic() > contest.deadline:
                    contest.notes.append(f"missing, the budget was spent: study {name} of {bench.name}, seed {seed}")
                    continue
                found.setdefault(name, []).extend(kept(options.root / "studies", bench, name, seed))
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="complete_journey,taobao,simulated_shop")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--studies", default="", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--budget-min", type=float, default=float("inf"), help="begin no cell after so many minutes")
    parser.add_argument("--events", type=Path, help="a segmenter.toml, instead of --sets")
    parser.add_argument("--taobao", type=Path, default=PROJECT.parent / "taobao" / "user_behavior.parquet")
    parser.add_argument("--root", type=Path, default=PROJECT / "runs" / "quality_bench")
    parser.add_argument("--page", type=Path, default=RESULT)
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as of the command line")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, and write the page."""
    options = _options()
    configure_logging()
    contest = Contest(
        Cells(options.root / "cells"),
        options.methods.split(","),
        [int(seed) for seed in options.seeds.split(",")],
        time.monotonic() + 60 * options.budget_min,
    )
    found = benches(options, contest.notes)
    records = [record for bench in found for record in contest.run(bench)]
    studies = run_studies(options, found, contest)
    others = [name for name in METHODS if name not in (SERVED, ENCODER)]
    judged = [bars(records, f"{subject} - {other}") for subject in (SERVED, ENCODER) for other in others]
    logger.info("against %s: %s", AGGREGATES, judged[others.index(AGGREGATES)])
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(records, judged, contest.notes, studies), encoding="utf-8")
    if studies.get("staleness"):
        draw_staleness(studies["staleness"], options.page.with_name(f"{options.page.stem}_staleness.png"))
    print(options.page.read_text(encoding="utf-8"))
    print(json.dumps(records))


if __name__ == "__main__":
    main()

"""Quality of the demo's encoder beside its baselines on The Complete Journey, over several seeds.

    python benchmarks/demo_quality.py [--seeds 7,8,9] [--root runs/quality]

Each seed draws its own validation users, weights and batches; the data, training cutoffs and the later cutoff that all
are judged at stay. Writes benchmarks/results/demo_quality.md; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from segmenter_plugin.config import load_config
from segmenter_plugin.console import configure_logging
from segmenter_plugin.data.complete_journey import write_events
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.pipeline import judge
from segmenter_plugin.stages.train import finetune, pretrain

PROJECT = Path(__file__).parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "demo_quality.md"
METRICS = {"purchase_14d": ("auroc",), "spend_14d": ("spearman", "normalised_gini")}
TITLES = {
    "auroc": "AUROC, purchase 14 d",
    "spearman": "Spearman, spend 14 d",
    "normalised_gini": "normalised Gini, spend 14 d",
}

logger = logging.getLogger("segmenter_plugin.benchmarks")


def run_seed(root: Path, seed: int) -> dict[str, Any]:
    """Train and judge with one seed; the built tables are shared."""
    config = load_config(root / "segmenter.toml", (f"training.seed={seed}", f"store.artifacts=artifacts_seed_{seed}"))
    cutoff = config.evaluation_cutoff
    if cutoff is None:
        raise SystemExit("the demo's configuration has lost its evaluation_cutoff")
    build(config, [*config.training_cutoffs, cutoff])
    started = time.monotonic()
    pretrain(config)
    finetune(config)
    seconds = time.monotonic() - started
    return judge(config, cutoff)["evaluate"] | {"seed": seed, "training_seconds": round(seconds, 1)}


def rows_of(runs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One row a method: each metric's value for each seed, and their mean."""
    values: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for task in run["tasks"]:
            for score in task["scores"]:
                if score["metric"] in METRICS.get(task["task"], ()):
                    values.setdefault(score["method"], {}).setdefault(score["metric"], []).append(score["estimate"])
    return [
        {"method": method}
        | {
            TITLES[metric]: f"{statistics.mean(found):.4f} ({', '.join(f'{value:.4f}' for value in found)})"
            for metric, found in by_metric.items()
        }
        for method, by_metric in values.items()
    ]


def differences_of(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The encoder against each other method: the paired difference and its interval, for each seed."""
    return [
        {"seed": run["seed"]}
        | {key: found[key] for key in ("task", "metric", "against", "difference", "low", "high", "verdict")}
        for run in runs
        for task in run["tasks"]
        for found in task["differences"]
        if found["metric"] in METRICS.get(task["task"], ())
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    cells = [
        [f"{row[name]:+.4f}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [names, ["---"] * len(names), *cells])


def report(runs: list[dict[str, Any]], rows: list[dict[str, str]], differences: list[dict[str, Any]]) -> str:
    """The whole page."""
    judged = runs[0]["tasks"][0]
    wins = [found["verdict"] for found in differences if found["against"] == "activity_lightgbm"]
    counts = {verdict: wins.count(verdict) for verdict in sorted(set(wins))}
    seeds = ", ".join(str(run["seed"]) for run in runs)
    seconds = ", ".join(f"{run['training_seconds']:.0f}" for run in runs)
    about = (
        f"The Complete Journey; {runs[0]['training_rows']:,} training rows of the training cutoffs, judged on "
        f"{judged['rows']:,} households at {runs[0]['cutoff'][:10]} (weights trained through "
        f"{runs[0]['trained_through'][:10]}). Seeds {seeds}: mean (each seed). Pretraining and fine-tuning took "
        f"{seconds} s on 2 cores."
    )
    return "\n".join(
        [
            "# The demo's quality, on later time",
            "",
            "`python benchmarks/demo_quality.py`",
            "",
            about,
            "",
            markdown(rows),
            "",
            f"The encoder against activity_lightgbm, {len(wins)} comparisons (metric x seed): {counts}.",
            "",
            "## Paired differences (encoder minus the other), 95 % intervals resampled by user",
            "",
            markdown(differences),
            "",
        ]
    )


def main() -> None:
    """Run all seeds and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--root", type=Path, default=PROJECT / "runs" / "quality")
    options = parser.parse_args()
    configure_logging()
    write_events(options.root / "raw")
    shutil.copyfile(PROJECT / "segmenter_plugin" / "stages" / "demo.toml", options.root / "segmenter.toml")
    runs = [run_seed(options.root, int(seed)) for seed in options.seeds.split(",")]
    rows, differences = rows_of(runs), differences_of(runs)
    RESULT.write_text(report(runs, rows, differences), encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))
    print(json.dumps({"rows": rows, "differences": differences}))


if __name__ == "__main__":
    main()

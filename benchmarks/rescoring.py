"""What not rescoring costs: how far stale embeddings and scores of unchanged users are from fresh ones, by age.

    python benchmarks/rescoring.py

A simulated shop, one encoder, scored whole as of a first cutoff and as of later ones. Users who are skipped by
`segmenter score --changed-since` keep their first row; here they are scored too, and the two rows are compared. The
table goes to benchmarks/results/rescoring.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from segmenter_plugin.config import Config, load_config
from segmenter_plugin.data.behaviour_changes import changed_rows, users_of
from segmenter_plugin.data.partition import data_files, read_batches
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.pipeline import train
from segmenter_plugin.stages.score import score
from segmenter_plugin.stages.simulate import simulate

RESULT = Path(__file__).parent / "results" / "rescoring.md"
AGES_DAYS = (1, 3, 7, 14, 28)
DAYS = 240
FIRST = "2024-07-20T00:00:00+00:00"


def main() -> None:
    """Build, train, score at every cutoff, compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows, about = measured(Path(folder), arguments.users)
    arguments.out.write_text(page(rows, about, arguments.users), encoding="utf-8")
    print(json.dumps({"rows": rows, **about, "seconds": round(time.perf_counter() - started, 1)}))


def measured(folder: Path, users: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row an age, and what was trained."""
    simulate(users, DAYS, folder, start="2024-01-01", seed=11)
    training = 'training.cutoffs=["2024-04-15T00:00:00Z", "2024-06-01T00:00:00Z"]'
    config = load_config(folder / "segmenter.toml", (training, "training.evaluation_cutoff=2024-07-20T00:00:00Z"))
    first = config.time(FIRST)
    later = {days: first + timedelta(days=days) for days in AGES_DAYS}
    trained = train(config)
    build(config, list(later.values()))
    score(config, [first, *later.values()])
    stale = scores(config, first)
    tasks = [name for name in stale if name not in ("user_id", "embedding")]
    rows = [compared(config, first, cutoff, stale) | {"age_days": days} for days, cutoff in later.items()]
    version = trained["finetune"]["model_version"]
    return rows, {"model_version": version, "scores": tasks, "spread": spread(stale["embedding"])}


def scores(config: Config, cutoff: datetime) -> dict[str, np.ndarray]:
    """Scores by column, and (N, D) embeddings; rows in order of `user_id`."""
    table = pa.Table.from_batches(list(read_batches(Layout.of(config).scores(cutoff)))).sort_by("user_id")
    names = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    columns = {name: table[name].to_numpy() for name in ("user_id", *names)}
    return columns | {"embedding": np.stack(table["embedding"].to_numpy())}


def unchanged_users(config: Config, first: datetime, cutoff: datetime) -> tuple[np.ndarray, int]:
    """Ids of those who would be skipped, and how many users there are."""
    layout = Layout.of(config)
    before = {path.name: path for path in data_files(layout.behaviour(first))}
    found, count = [], 0
    for path in data_files(layout.behaviour(cutoff)):
        ids = users_of(path).to_numpy(zero_copy_only=False)
        found.append(ids[~changed_rows(before.get(path.name), path, cutoff - first)])
        count += len(ids)
    return np.concatenate(found), count


def compared(config: Config, first: datetime, cutoff: datetime, stale: dict[str, np.ndarray]) -> dict[str, Any]:
    """Stale against fresh rows of skipped users; distances of embeddings also of those who changed."""
    fresh = scores(config, cutoff)
    skipped, users = unchanged_users(config, first, cutoff)
    both = np.intersect1d(stale["user_id"], fresh["user_id"])
    is_skipped = np.isin(both, skipped)
    old, new = (np.searchsorted(table["user_id"], both) for table in (stale, fresh))
    distance = cosine_distance(stale["embedding"][old], fresh["embedding"][new])
    row: dict[str, Any] = {
        "users": users,
        "skipped": len(skipped),
        "distance_skipped": float(np.median(distance[is_skipped])),
        "distance_skipped_p95": float(np.quantile(distance[is_skipped], 0.95)),
        "distance_changed": float(np.median(distance[~is_skipped])),
    }
    for name in stale:
        if name not in ("user_id", "embedding"):
            one, other = stale[name][old][is_skipped], fresh[name][new][is_skipped]
            row[f"{name}_mean_change"] = float(np.mean(np.abs(other - one)))
            row[f"{name}_p95_change"] = float(np.quantile(np.abs(other - one), 0.95))
            row[f"{name}_mean"] = float(np.mean(other))
            # Among the skipped alone: rows that are fresh on both sides would hide what is lost.
            row[f"{name}_spearman"] = float(spearmanr(one, other).statistic)
    return row


def cosine_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) one minus the cosine."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return 1 - (one * other).sum(axis=1) / lengths


def spread(embedding: np.ndarray) -> float:
    """Median distance of two users drawn at random."""
    random = np.random.default_rng(0)
    return float(np.median(cosine_distance(*(embedding[random.permutation(len(embedding))] for _ in range(2)))))


def page(rows: list[dict[str, Any]], about: dict[str, Any], users: int) -> str:
    """The table as Markdown."""
    version = about["model_version"]
    lines = [
        "# What not rescoring costs",
        "",
        "`python benchmarks/rescoring.py`",
        "",
        f"A simulated shop of {users:,} users over {DAYS} days; one encoder (`model_version` {version}) scores",
        f"everyone as of {FIRST[:10]} and of later cutoffs. *Skipped* are users whose behaviour changed in nothing",
        "but age, whom `segmenter score --changed-since` leaves with their first row; that row is held against a",
        f"fresh one. Two users drawn at random are {about['spread']:.3f} apart (median cosine distance of embeddings).",
        "",
        "Read down a column with care: those unchanged after four weeks are few, and others than those unchanged",
        "after a day, as their mean scores tell. A smaller error further down is theirs; it does not say that scores",
        "get better with age.",
        "",
        "| age, days | skipped | their embeddings moved: median (95 %) | those of changed users: median |",
        "|---|---|---|---|",
    ]
    for row in rows:
        moved = f"{row['distance_skipped']:.1e} ({row['distance_skipped_p95']:.1e}) | {row['distance_changed']:.1e}"
        share = f"{row['skipped']:,} of {row['users']:,} ({row['skipped'] / row['users']:.1%})"
        lines.append(f"| {row['age_days']} | {share} | {moved} |")
    for name in about["scores"]:
        lines += [
            "",
            f"`{name}` of skipped users:",
            "",
            "| age, days | users | mean | mean change | 95 % of changes below | Spearman, stale and fresh |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['age_days']} | {row['skipped']:,} | "
            + " | ".join(f"{row[f'{name}_{what}']:.4f}" for what in ("mean", "mean_change", "p95_change", "spearman"))
            + " |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

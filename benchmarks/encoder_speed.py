"""How fast the encoder scores and trains, beside a plain Hugging Face loop and a GRU, and how that grows with length.

    python benchmarks/encoder_speed.py [--users 8192] [--rounds 3] [--threads N] [--quick]

Needs segmenter-plugin[model] alone: no Spark, Feast or Java. Where there is a GPU, what only a GPU can show is measured
too; else it is said to be skipped. Writes benchmarks/results/encoder_speed.md (with --quick, which proves nothing but
that all of it runs, runs/encoder_speed/quick.md); the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_speed import gpu, page, roofline, scoring, training, world

PROJECT = Path(__file__).parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "encoder_speed.md"
QUICK = PROJECT / "runs" / "encoder_speed" / "quick.md"
POSITIONS = (32, 64, 128, 256, 512)
#: Tokens that each length is measured on.
TOKENS = 1 << 17


def measure(users: int, rounds: int, tokens: int) -> dict[str, Any]:
    """Everything the page tells."""
    config = world.config_of("small")
    lengths = world.lengths_of(users)
    table = world.behaviour_of(config, lengths)
    model = world.model_of(config, table)
    sequences = model.features.encode(table.combine_chunks().to_batches()[0])
    warm = table.slice(0, 256)
    scoring.rates({"ours": lambda: scoring.ours(model, warm), "plain": lambda: scoring.plain(model, warm)}, 1)
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "padding": scoring.padded_positions(lengths)}
    tell("scoring")
    whole = {"ours": lambda: scoring.ours(model, table), "plain": lambda: scoring.plain(model, table)}
    found["scoring"] = scoring.rates(whole, rounds)
    tell("network alone")
    alone = {
        "ours": scoring.ours_forward(model, sequences),
        "plain": scoring.plain_forward(model, sequences),
    }
    found["forward"] = scoring.rates(alone, rounds)
    tell("training")
    few = model.features.encode(table.slice(0, max(256, users // 4)).combine_chunks().to_batches()[0])
    found["training"] = scoring.rates(training.contestants(model, few), rounds)
    found["lengths"] = [by_length(config, positions, rounds, tokens) for positions in POSITIONS]
    return found | roofs(found["lengths"]) | {"ratios": ratios(found)}


def by_length(config: Any, positions: int, rounds: int, tokens: int) -> dict[str, Any]:
    """Users who all have the same number of positions."""
    tell(f"{positions} positions")
    lengths = np.full(max(8, tokens // positions), positions - 1, dtype=np.int64)
    table = world.behaviour_of(config, lengths)
    model = world.model_of(config, table)
    sequences = model.features.encode(table.combine_chunks().to_batches()[0])
    epochs = training.contestants(model, sequences)
    works = {"scored": lambda: scoring.ours(model, table), "trained": epochs["ours"], "gru": epochs["gru_bucketed"]}
    rates = scoring.middle(scoring.rates(works, rounds))
    return {"positions": positions, "tokens": rates["scored"] * positions} | rates


def roofs(lengths: list[dict[str, Any]]) -> dict[str, Any]:
    """What the machine would allow, beside what was measured."""
    machine = roofline.measure_machine("cpu")
    lines = []
    for preset in ("small", "base", "large"):
        backbone = world.backbone_of(world.config_of(preset))
        for each in lengths if preset == "small" else lengths[-1:]:
            flops, moved = roofline.forward_flops(backbone, each["positions"]), roofline.forward_bytes(backbone, 4)
            measured = f"{each['tokens']:,.0f}" if preset == "small" else "not run"
            numbers = (f"{flops / 1e6:.2f}", f"{moved / 1e3:.1f}", f"{flops / moved:.0f}")
            lines.append([preset, each["positions"], *numbers, f"{machine.bound(flops, moved):,.0f}", measured])
    return {
        "machine": {"gflops": round(machine.flops / 1e9, 1), "gigabytes": round(machine.bandwidth / 1e9, 1)},
        "roofline": lines,
    }


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What is judged, and what is told beside it."""
    scored, alone, trained = (scoring.middle(found[name]) for name in ("scoring", "forward", "training"))
    return {
        "ours_vs_plain": round(scored["ours"] / scored["plain"], 2),
        "ours_vs_plain_forward": round(alone["ours"] / alone["plain"], 2),
        "training_ours_vs_plain": round(trained["ours"] / trained["plain"], 2),
        "training_ours_vs_gru": round(trained["ours"] / trained["gru"], 2),
        "whole_vs_forward": round(scored["ours"] / alone["ours"], 2),
    }


def tell(text: str) -> None:
    """Progress."""
    print(f"{text} ...", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=8_192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; default as torch chooses")
    parser.add_argument(
        "--quick", action="store_true", help="512 users, one round; the page goes to runs/encoder_speed/"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, write the page, print the ratios."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    quick = options.quick
    found = measure(512 if quick else options.users, 1 if quick else options.rounds, TOKENS >> 4 if quick else TOKENS)
    found["gpu"] = gpu.report()
    text = page.page(found, f"python benchmarks/encoder_speed.py {' '.join(sys.argv[1:])}".strip())
    place = QUICK if quick else RESULT
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    print(text)
    rates = {name: scoring.middle(found[name]) for name in ("scoring", "forward", "training")}
    print(json.dumps(found["ratios"] | {"users_per_s": rates, "lengths": found["lengths"], "gpu": found["gpu"]}))


if __name__ == "__main__":
    main()

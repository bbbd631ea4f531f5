"""What only a GPU can show: shares of its measured peak, counting real tokens only."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from model_speed import scoring, training, world
from model_speed.roofline import best_seconds, forward_flops, measure_machine

LENGTH = 512
USERS = 2_048


def report() -> dict[str, Any]:
    """All of it, or why there is nothing."""
    if not torch.cuda.is_available():
        return {"skipped": "no GPU that torch can use"}
    machine = measure_machine("cuda")
    return {
        "device": torch.cuda.get_device_name(),
        "matmul_tflops": round(machine.flops / 1e12, 1),
        "large": _large(machine.flops),
        "small": _small(),
    }


def _large(peak: float) -> dict[str, Any]:
    config = world.config_of("large")
    # The context token makes 512 positions.
    lengths = np.full(USERS, LENGTH - 1, dtype=np.int64)
    table = world.behaviour_of(config, lengths)
    model = world.model_of(config, table).to("cuda")
    sequences = model.features.encode(table.combine_chunks().to_batches()[0])
    forward = forward_flops(model.encoder.backbone.config, LENGTH) * LENGTH * USERS
    run = scoring.ours_forward(model, sequences)
    run()
    network, whole = best_seconds(run, "cuda"), best_seconds(lambda: scoring.ours(model, table), "cuda", rounds=3)
    step = training.contestants(model, sequences, "cuda")["ours"]
    trained = best_seconds(step, "cuda", rounds=2)
    return {
        "scoring_share_of_peak": round(forward / network / peak, 3),
        "scoring_share_of_peak_with_reading": round(forward / whole / peak, 3),
        "training_share_of_peak": round(3 * forward / trained / peak, 3),
        "loading_share_of_step": round(_loading(sequences) / trained, 3),
    }


def _loading(sequences: Any) -> float:
    """Seconds of padding for an epoch, all of which a step waits for where no thread does it."""
    started = time.perf_counter()
    for rows in training.bucketed_rows(sequences.lengths):
        sequences.pad(rows)
    return time.perf_counter() - started


def _small() -> dict[str, Any]:
    config = world.config_of("small")
    table = world.behaviour_of(config, world.lengths_of(32_768))
    model = world.model_of(config, table).to("cuda")
    works = {"ours": lambda: scoring.ours(model, table), "plain": lambda: scoring.plain(model, table)}
    scoring.rates(works, 1)
    found = scoring.middle(scoring.rates(works, 3))
    return found | {"ours_vs_plain": round(found["ours"] / found["plain"], 2)}

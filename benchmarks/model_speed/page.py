"""The page of benchmarks/encoder_speed.py."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

DOES = (
    "Users have 20 events in the median and 512 at most (lognormal; one in three hundred is cut to 512). All "
    "contestants have the same weights, features, threads and encoding from Arrow. *Plain* is a loop over batches of "
    "64 users in the order in which they come, padded to the longest of them, through the same Hugging Face "
    "model. Medians of the rounds, least to most in brackets; contestants alternate."
)
TRAINED = (
    "An epoch of AdamW on the loss of a binary, a value and a multilabel task. *Ours* has batches of like length with "
    "a mean of 64 users; *plain* shuffled batches of 64. The GRU is one layer of torch as wide as the encoder, under "
    "the same event embedding, heads and loss: the network of CoLES, not pytorch-lifestream's own training loop. It "
    "reads no aggregates; *gru_bucketed* has our batches."
)
ROOF = (
    "A token needs two operations a weight and 4H a position that its attention sees; the bytes are those of values of "
    "width H where nothing is fused. The bound is the lower of the machine's measured matrix product and measured copy "
    "at these counts. What is above the bound stays in the caches, what is below it waits: for kernels to start, for "
    "functions (GELU, softmax, exponentials) that the count leaves out, and for other programs."
)

WANTED = (
    "Bars that wait for one: scoring at 40 % of the measured bfloat16 peak for `large` at 512 positions, 10 times the "
    "plain loop for `small`, training at 35 %, loading below 10 % of a step."
)


def page(found: dict[str, Any], command: str) -> str:
    """Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", "pyarrow"))
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, {found['threads']} threads, Python {platform.python_version()}"
    )
    lines = ["# Speed of the encoder", "", f"`{command}`; {machine}, {packages}.", "", DOES, "", "## Scoring", ""]
    padding = found["padding"]
    lines += _table(
        ("preset small", "users/s, all", "users/s, network alone", "positions computed for a real one"),
        [
            [name, _spread(found["scoring"][name]), _spread(found["forward"][name]), f"{padding[name]:.2f}"]
            for name in ("ours", "plain")
        ],
    )
    ratios = found["ratios"]
    lines += [
        "",
        f"Ours is {ratios['ours_vs_plain']} times as fast, the network alone {ratios['ours_vs_plain_forward']} times.",
        *("", "## Training", "", TRAINED, ""),
        *_table(("contestant", "examples/s"), [[name, _spread(values)] for name, values in found["training"].items()]),
        *(
            "",
            "## How it grows with length",
            "",
            "All users have the same number of positions, so nothing is padded.",
            "",
        ),
        *_table(
            ("positions", "users/s scored", "tokens/s scored", "examples/s trained", "GRU examples/s trained"),
            [
                [each["positions"], *(f"{each[key]:,.0f}" for key in ("scored", "tokens", "trained", "gru"))]
                for each in found["lengths"]
            ],
        ),
        *("", "## Roofline", "", ROOF, ""),
        "Measured: {gflops:,.0f} GFLOP/s (matrix product), {gigabytes:,.1f} GB/s (copy).".format(**found["machine"]),
        "",
        *_table(
            (
                "preset",
                "positions",
                "MFLOP a token",
                "kB a token",
                "FLOP a byte",
                "bound, tokens/s",
                "measured, tokens/s",
            ),
            found["roofline"],
        ),
        *("", "## On a GPU", "", *_gpu(found["gpu"]), ""),
    ]
    return "\n".join(lines)


def _gpu(found: dict[str, Any]) -> list[str]:
    if "skipped" in found:
        return [f"Skipped: {found['skipped']}.", "", WANTED]
    flat = {f"{part}: {name}": value for part in ("large", "small") for name, value in found[part].items()}
    head = f"{found['device']}, {found['matmul_tflops']} TFLOP/s measured (bfloat16 matrix product); real tokens only."
    return [head, "", *_table(("what", "value"), list(flat.items()))]


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:,.0f} ({ordered[0]:,.0f} to {ordered[-1]:,.0f})"


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *lines)]

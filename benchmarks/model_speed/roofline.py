"""What an encoder must compute and move for a token, and what this machine can do at best."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

#: Values of width H that a layer reads and writes for a token when every operation goes through memory: norms, the
#: three projections, rotation, attention's in- and output, the gated layer of 2H, and two additions.
_VALUES_PER_LAYER = 34


def forward_flops(backbone: Any, length: int) -> float:
    """Floating point operations of the backbone for one token of a sequence of `length` positions, forward.

    Two for each weight, and for each position that attention sees 4H: products of queries and keys, and of weights and
    values (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
    """
    width, inner = backbone.hidden_size, backbone.intermediate_size
    weights = 4 * width * width + 3 * width * inner
    seen = [
        min(length, 2 * backbone.sliding_window + 1) if kind == "sliding_attention" else length
        for kind in backbone.layer_types
    ]
    return float(sum(2 * weights + 4 * width * places for places in seen))


def forward_bytes(backbone: Any, itemsize: int) -> float:
    """Bytes that go through memory for one token, forward, where nothing is fused; weights are shared by a batch."""
    return float(_VALUES_PER_LAYER * backbone.hidden_size * backbone.num_hidden_layers * itemsize)


@dataclass(frozen=True)
class Machine:
    """What was measured: floating point operations a second of a large matrix product, and bytes a second of a copy."""

    flops: float
    bandwidth: float

    def bound(self, flops: float, moved: float) -> float:
        """Tokens a second that the roofline (Williams et al. 2009) allows."""
        return 1.0 / max(flops / self.flops, moved / self.bandwidth)


def measure_machine(device: str) -> Machine:
    """Measure in single precision on a CPU, in bfloat16 on a GPU."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    left = torch.randn(size, size, device=device, dtype=dtype)
    large = torch.empty((1 << 30) if device == "cuda" else (1 << 26), device=device, dtype=torch.uint8)
    product = best_seconds(lambda: left @ left, device)
    copy = best_seconds(large.clone, device)
    return Machine(2 * size**3 / product, 2 * large.numel() / copy)


def best_seconds(work: Any, device: str, rounds: int = 5) -> float:
    """Shortest of a few runs, after one that does not count."""
    found = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])

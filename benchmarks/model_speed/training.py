"""Training steps: ours beside a plain loop, and beside the GRU that CoLES trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.model.batches import epoch_batches
from segmenter_plugin.model.tensors import to_tensors

BATCH = 64
#: Batches that are sorted by length together, as in fine-tuning.
BUCKETS = 50


class GruEncoder(nn.Module):
    """Our event embedding under one GRU layer as wide as the backbone: the encoder of CoLES (arXiv 2002.08232)."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.events, self.width = encoder.events, encoder.width
        self.gru = nn.GRU(encoder.width, encoder.width, batch_first=True)
        self.out = nn.Linear(encoder.width, encoder.settings.embedding_size)

    def forward(self, batch: Any) -> Tensor:
        """(B, D): the state after each user's last event."""
        states, _ = self.gru(self.events(batch))
        last = (batch["mask"].sum(dim=1) - 1).clamp_min(0)
        embedding: Tensor = self.out(states[torch.arange(len(states), device=states.device), last])
        return embedding


def labels_of(model: Any, users: int, seed: int = 7) -> dict[str, Tensor]:
    """Drawn labels of every task."""
    random = np.random.default_rng([seed, 3])
    found = {}
    for target in model.targets:
        shape = (users, len(target.classes)) if target.classes else (users,)
        hits = (random.random(shape) < 0.3).astype(np.float32)
        money = random.lognormal(2.0, 1.0, shape).astype(np.float32)
        found[target.task.label_column] = torch.from_numpy(hits * money if target.task.kind == "value" else hits)
    return found


def plain_rows(users: int) -> Iterator[np.ndarray]:
    """Shuffled batches of 64."""
    order = np.random.default_rng(7).permutation(users)
    for start in range(0, users, BATCH):
        yield order[start : start + BATCH]


def bucketed_rows(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Batches as our training has them."""
    yield from epoch_batches(lengths, BATCH, BUCKETS, seed=7, epoch=0)


def epoch(
    model: Any,
    embed: Callable[[Any], Tensor],
    weights: nn.Module,
    *,
    sequences: RaggedSequences,
    rows: Callable[[], Iterator[np.ndarray]],
    device: str,
) -> Callable[[], int]:
    """One epoch of AdamW on all tasks' loss; examples trained on."""
    labels = labels_of(model, len(sequences))
    parameters = [each for each in (*weights.parameters(), *model.heads.parameters()) if each.requires_grad]

    def run() -> int:
        optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
        weights.train()
        model.heads.train()
        count = 0
        for chosen in rows():
            batch = _moved(to_tensors(sequences.pad(chosen)), device)
            wanted = {name: values[chosen].to(device) for name, values in labels.items()}
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device == "cuda"):
                embedding = embed(batch)
            loss = model.heads.loss(embedding.float(), wanted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            count += len(chosen)
        return count

    return run


def contestants(model: Any, sequences: RaggedSequences, device: str = "cpu") -> dict[str, Callable[[], int]]:
    """Epochs by name."""
    torch.manual_seed(7)
    gru = GruEncoder(model.encoder).to(device)

    def whole(batch: Any) -> Tensor:
        embedding: Tensor = model.encoder(batch).embedding
        return embedding

    def shuffled() -> Iterator[np.ndarray]:
        return plain_rows(len(sequences))

    def bucketed() -> Iterator[np.ndarray]:
        return bucketed_rows(sequences.lengths)

    where = {"sequences": sequences, "device": device}
    return {
        "ours": epoch(model, whole, model.encoder, rows=bucketed, **where),
        "plain": epoch(model, whole, model.encoder, rows=shuffled, **where),
        "gru": epoch(model, gru, gru, rows=shuffled, **where),
        "gru_bucketed": epoch(model, gru, gru, rows=bucketed, **where),
    }


def _moved(batch: Any, device: str) -> Any:
    if device == "cpu":
        return batch

    def moved(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: moved(each) for name, each in values.items()}
        return values.to(device, non_blocking=True)

    return moved(batch)

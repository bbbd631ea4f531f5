from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segmenter_plugin.config import EncoderConfig, PretrainConfig
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.objectives import OBJECTIVES, WeightedObjectives
from segmenter_plugin.model.tensors import to_tensors


def objectives_of(shop: Any, weights: dict[str, float], **encoder: Any) -> WeightedObjectives:
    torch.manual_seed(0)
    settings = EncoderSettings.of(EncoderConfig(embedding_size=8, **encoder), shop.features)
    return WeightedObjectives(SequenceEncoder(settings), PretrainConfig(objectives=weights, next_days=7))


def batch_of(shop: Any, rows: Any) -> Any:
    return to_tensors(shop.training.sequences.pad(np.asarray(rows)))


def train(task: WeightedObjectives, batch: Any, steps: int = 30) -> list[float]:
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_registered_objective_learns(shop: Any, name: str) -> None:
    losses = train(objectives_of(shop, {name: 1.0}), batch_of(shop, range(64)))
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("lengths", [[0], [0, 0], [1], [1, 0], [1, 1, 1], [2], [2, 0]])
def test_users_with_hardly_any_events_give_a_finite_loss(shop: Any, name: str, lengths: list[int]) -> None:
    task = objectives_of(shop, {name: 1.0})
    sequences = shop.training.sequences
    longest = np.argsort(-sequences.lengths)[: len(lengths)]
    batch = batch_of(shop, longest)
    seen = torch.arange(batch["mask"].shape[1]) < torch.tensor(lengths)[:, None]
    padded = {
        key: value * (seen[..., None] if value.ndim == 3 else seen)
        for key, value in batch.items()
        if key not in ("categorical", "context")
    }
    categorical = {key: value * seen for key, value in batch["categorical"].items()}
    batch = {**batch, **padded, "categorical": categorical, "mask": seen}
    for _ in range(3):
        loss = task(batch)["loss"]
        loss.backward()
        assert torch.isfinite(loss)
        if max(lengths) == 0 or (max(lengths) == 1 and name == "contrastive"):
            assert loss.item() == 0.0
    for key, parameter in task.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_backbone_and_the_events_learn_from_every_objective(shop: Any, name: str) -> None:
    task = objectives_of(shop, {name: 1.0})
    task(batch_of(shop, range(50)))["loss"].backward()
    encoder = task.encoder
    for parameter in (
        encoder.events.table("item_id"),
        encoder.events.times[0].weight,
        *encoder.backbone.layers.parameters(),
    ):
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["next_days", "contrastive"])
def test_objectives_about_earlier_moments_never_see_the_aggregates(shop: Any, name: str) -> None:
    task, batch = objectives_of(shop, {name: 1.0}).eval(), batch_of(shop, range(50))
    losses = []
    for context in (batch["context"], batch["context"] * 3 - 1):
        torch.manual_seed(4)
        losses.append(task(batch | {"context": context})["loss"].item())
    assert losses[0] == losses[1]


def test_the_sum_is_weighted(shop: Any) -> None:
    weights = {"masked_event": 1.0, "next_days": 0.5, "contrastive": 0.2}
    losses = objectives_of(shop, weights)(batch_of(shop, range(50)))
    total = sum(weight * losses[name] for name, weight in weights.items())
    torch.testing.assert_close(losses["loss"], total)


def test_the_encoder_is_saved_once(shop: Any) -> None:
    task = objectives_of(shop, dict.fromkeys(OBJECTIVES, 1.0))
    tensors = [value.data_ptr() for value in task.state_dict().values() if value.numel()]
    assert len(tensors) == len(set(tensors))


def test_an_unknown_objective_is_named(shop: Any) -> None:
    with pytest.raises(ConfigError, match=r"names \['cloze'\]; it may name \['contrastive', 'masked_event', 'next_d"):
        objectives_of(shop, {"cloze": 1.0, "masked_event": 1.0})

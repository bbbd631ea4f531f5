from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.finetuning import finetune_encoder
from segmenter_plugin.model.heads import TaskHeads
from segmenter_plugin.model.pretraining import pretrain_encoder
from segmenter_plugin.model.scoring import infer


def finetune(shop: Any, folder: Path, seed: int = 5, **settings: Any) -> tuple[SequenceEncoder, TaskHeads, float]:
    config = shop.config.model_copy(update={"finetune": shop.config.finetune.model_copy(update=settings)})
    torch.manual_seed(0)
    encoder = SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features))
    heads, outcome = finetune_encoder(
        encoder, shop.targets, shop.training, shop.validation, config=config, folder=folder, seed=seed
    )
    return encoder, heads, outcome.validation_loss


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    ranks = np.argsort(np.argsort(score)) + 1
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def test_the_shops_signal_is_learnt(shop: Any, model: UserEncoder) -> None:
    scores = infer(model.encoder, model.heads, shop.validation.sequences).scores
    bought = shop.validation.labels["purchase_14d_label"] > 0
    assert auroc(bought, scores["purchase_14d_probability"]) > 0.75
    assert auroc(bought, scores["spend_14d_expected"]) > 0.75
    assert auroc(bought, scores["funnel_14d_probabilities"][:, 2]) > 0.75


def test_a_seed_fixes_every_weight(shop: Any, tmp_path: Path) -> None:
    runs = [
        finetune(shop, tmp_path / str(place), seed, probe_epochs=1, epochs=1) for place, seed in enumerate((5, 5, 6))
    ]
    flat = [
        torch.cat([weight.flatten() for module in run[:2] for weight in module.state_dict().values()]) for run in runs
    ]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])


def test_heads_alone_leave_the_backbone_as_it_was(shop: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features)).state_dict()
    encoder, _, _ = finetune(shop, tmp_path, probe_epochs=1, epochs=0)
    changed = {
        name.split(".")[0] for name, weight in encoder.state_dict().items() if not torch.equal(weight, fresh[name])
    }
    assert changed == {"summary"}


def test_the_whole_changes_the_backbone_too(shop: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features)).state_dict()
    encoder, _, _ = finetune(shop, tmp_path, probe_epochs=0, epochs=1)
    changed = {
        name.split(".")[0] for name, weight in encoder.state_dict().items() if not torch.equal(weight, fresh[name])
    }
    assert changed == {"summary", "backbone", "events", "token", "no_context"}


def test_a_second_part_that_does_worse_is_undone(shop: Any, tmp_path: Path) -> None:
    encoder, heads, loss = finetune(shop, tmp_path / "one", probe_epochs=4, epochs=0)
    kept = copy.deepcopy(encoder.state_dict()), copy.deepcopy(heads.state_dict())
    # A rate that wrecks the network within an epoch.
    encoder, heads, again = finetune(shop, tmp_path / "two", probe_epochs=4, epochs=1, learning_rate=0.3)
    assert again == loss
    for before, after in zip(kept, (encoder.state_dict(), heads.state_dict()), strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_pretraining_for_no_epoch_gives_drawn_weights(shop: Any, tmp_path: Path) -> None:
    config = shop.config.model_copy(update={"pretrain": shop.config.pretrain.model_copy(update={"epochs": 0})})
    first, outcome = pretrain_encoder(shop.features, shop.training, shop.validation, config, tmp_path)
    second, _ = pretrain_encoder(shop.features, shop.training, shop.validation, config, tmp_path)
    assert outcome.epochs == 0
    assert outcome.validation_loss == float("inf")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"event_dropout": 0.0},
        {"event_dropout": 0.9},
        {"crop_probability": 0.9, "time_jitter_days": 2.0},
        {"optimizer": "sgd", "schedule": "constant", "warmup_share": 0.0, "learning_rate": 1e-3},
        {"schedule": "cosine", "weight_decay": 0.0},
    ],
)
def test_every_option_trains(shop: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    *_, loss = finetune(shop, tmp_path, probe_epochs=0, epochs=1, **settings)
    assert np.isfinite(loss)


def test_options_change_what_is_learnt(shop: Any, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"crop_probability": 0.5},
        {"time_jitter_days": 1.0},
        {"optimizer": "sgd"},
        {"schedule": "constant"},
        {"warmup_share": 0.5},
        {"weight_decay": 0.9},
    ]
    losses = [
        finetune(shop, tmp_path / str(at), probe_epochs=0, epochs=1, **chosen)[2] for at, chosen in enumerate(options)
    ]
    assert len(set(losses)) == len(options)


def test_frozen_layers_keep_their_weights(shop: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features)).state_dict()
    encoder, _, _ = finetune(shop, tmp_path, probe_epochs=0, epochs=1, frozen_layers=1)
    changed = {name for name, weight in encoder.state_dict().items() if not torch.equal(weight, fresh[name])}
    assert {".".join(name.split(".")[:3]) for name in changed if name.startswith("backbone")} == {
        "backbone.layers.1",
        "backbone.final_norm.weight",
    }
    assert not any(name.startswith(("events", "token")) for name in changed)
    assert any(name.startswith("summary") for name in changed)
    assert all(weight.requires_grad for weight in encoder.events.parameters())


def test_more_frozen_layers_than_there_are_is_an_error(shop: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frozen_layers = 3; the backbone has 2 layers"):
        finetune(shop, tmp_path, probe_epochs=0, epochs=1, frozen_layers=3)

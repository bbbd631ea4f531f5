from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.pretraining import pretrain_encoder


def config_of(shop: Any, *, encoder: dict[str, Any] | None = None, **pretrain: Any) -> Any:
    sections = {"encoder": encoder or {}, "pretrain": pretrain}
    update = {name: getattr(shop.config, name).model_copy(update=values) for name, values in sections.items()}
    return shop.config.model_copy(update=update)


def test_a_weighted_sum_of_all_objectives_trains_through(shop: Any, tmp_path: Path) -> None:
    weights = {"masked_event": 1.0, "next_days": 0.5, "contrastive": 0.2}
    config = config_of(shop, objectives=weights, next_days=7, epochs=1)
    encoder, outcome = pretrain_encoder(shop.features, shop.training, shop.validation, config, tmp_path)
    assert outcome.steps > 0
    assert 0 < outcome.validation_loss < 3
    drawn, _ = pretrain_encoder(
        shop.features, shop.training, shop.validation, config_of(shop, epochs=0), tmp_path / "0"
    )
    moved = [
        name
        for (name, value), other in zip(encoder.named_parameters(), drawn.parameters(), strict=True)
        if not torch.equal(value, other)
    ]
    assert any(name.startswith("backbone.layers.1") for name in moved)
    assert "no_context" in moved
    assert not [name for name in moved if name.startswith("summary")]


def test_a_checkpoint_is_where_pretraining_starts(shop: Any, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModel.from_config(BertConfig(**sizes, vocab_size=20)).save_pretrained(tmp_path / "checkpoint")
    config = config_of(shop, encoder={"hf_checkpoint": str(tmp_path / "checkpoint")}, epochs=0)
    encoder, _ = pretrain_encoder(shop.features, shop.training, shop.validation, config, tmp_path / "run")
    state = encoder.backbone.state_dict()
    for name, value in load_file(tmp_path / "checkpoint" / "model.safetensors").items():
        if "word_embeddings" not in name:
            torch.testing.assert_close(state[name], value)


def test_an_unknown_objective_is_refused_before_anything_is_trained(shop: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pretrain\.objectives names \['cloze'\]"):
        pretrain_encoder(
            shop.features, shop.training, shop.validation, config_of(shop, objectives={"cloze": 1.0}), tmp_path
        )
    assert not list(tmp_path.iterdir())

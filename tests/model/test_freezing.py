from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, GPT2Config, LlamaConfig, ModernBertConfig

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.freezing import frozen_below
from segmenter_plugin.model.tensors import to_tensors

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
BACKBONES = {
    "bert": BertConfig(**SIZES),
    "modernbert": ModernBertConfig(**SIZES),
    "gpt2": GPT2Config(n_embd=16, n_layer=3, n_head=2),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
}
#: Where the first parameter of a layer lies, and what comes before all of them.
LAYERS = {"bert": "encoder.layer.", "modernbert": "layers.", "gpt2": "h.", "llama": "layers."}
BELOW = {
    "bert": ("embeddings.",),
    "modernbert": ("embeddings.",),
    "gpt2": ("wte.", "wpe."),
    "llama": ("embed_tokens.",),
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_first_layers_and_what_is_below_them_get_no_gradient(
    shop: Any, tmp_path: Path, name: str, layers: int
) -> None:
    BACKBONES[name].save_pretrained(tmp_path)
    settings = EncoderSettings.of(EncoderConfig(hf_config=str(tmp_path), embedding_size=8), shop.features)
    encoder = SequenceEncoder(settings)
    words = {name for name, weight in encoder.named_parameters() if not weight.requires_grad}
    with frozen_below(encoder, layers):
        batch = to_tensors(shop.training.sequences.pad(torch.arange(8).numpy()))
        encoder(batch).embedding.sum().backward()
        held = {name for name, weight in encoder.named_parameters() if not weight.requires_grad} - words
    frozen = tuple(f"backbone.{LAYERS[name]}{number}." for number in range(layers))
    below = tuple(f"backbone.{prefix}" for prefix in BELOW[name])
    inputs = ("events.", "token.", "no_context")
    expected = {
        parameter
        for parameter, _ in encoder.named_parameters()
        if parameter.startswith(frozen) or (layers and parameter.startswith(below + inputs))
    } - words
    assert held == expected
    assert all(weight.grad is None for name, weight in encoder.named_parameters() if name in held)
    if layers < 3:
        assert any(
            weight.grad is not None
            for name_, weight in encoder.named_parameters()
            if name_.startswith(f"backbone.{LAYERS[name]}{layers}.")
        )
    assert {name for name, weight in encoder.named_parameters() if not weight.requires_grad} == words

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, GPT2Config, LlamaConfig, ModernBertConfig, PreTrainedConfig

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.backbone import read_weights
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.tensors import to_tensors

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
BACKBONES: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SIZES, intermediate_size=64),
    "modernbert": ModernBertConfig(
        **SIZES, intermediate_size=64, pad_token_id=0, attention_dropout=0.1, local_attention=8
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, attn_pdrop=0.1),
    "llama": LlamaConfig(**SIZES, intermediate_size=64, num_key_value_heads=2),
}


@pytest.fixture(params=sorted(BACKBONES))
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A whole tiny model with drawn weights, as a text model's would lie in a folder."""
    torch.manual_seed(1)
    model = AutoModel.from_config(BACKBONES[request.param])
    # Norms and biases begin as ones and zeros everywhere: only drawn ones show that they are read.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def encoder_of(shop: Any, **config: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    return SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8, **config), shop.features)).eval()


def test_an_embedding_depends_neither_on_the_batch_nor_on_padding(shop: Any, checkpoint: Path) -> None:
    encoder = encoder_of(shop, hf_config=str(checkpoint))
    sequences = shop.training.sequences
    rows = np.concatenate(
        [np.flatnonzero(sequences.lengths == 0)[:1], np.argsort(sequences.lengths)[:3], np.arange(20)]
    )
    assert len(set(sequences.lengths[rows])) > 3
    with torch.inference_mode():
        together = encoder(to_tensors(sequences.pad(rows))).embedding
        alone = torch.cat([encoder(to_tensors(sequences.pad(rows[at : at + 1]))).embedding for at in range(len(rows))])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_every_layer_of_the_backbone_gets_a_gradient(shop: Any, checkpoint: Path) -> None:
    encoder = encoder_of(shop, hf_config=str(checkpoint)).train()
    encoder(to_tensors(shop.training.sequences.pad(np.arange(20)))).embedding.square().sum().backward()
    named = dict(encoder.backbone.named_parameters())
    blocks = {name: value.grad for name, value in named.items() if re.search(r"\.\d+\.", name) and value.ndim == 2}
    assert len(blocks) >= 8
    for name, gradient in blocks.items():
        assert gradient is not None, name
        assert gradient.abs().max() > 0, name
    assert encoder.backbone.get_input_embeddings().weight.grad is None


def test_neither_words_nor_caches_nor_attention_dropout_are_left(shop: Any, checkpoint: Path) -> None:
    config = encoder_of(shop, hf_checkpoint=str(checkpoint)).backbone.config
    assert config.vocab_size == 1
    assert not getattr(config, "use_cache", False)
    for name in ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop"):
        assert getattr(config, name, 0.0) == 0.0


def test_a_checkpoints_weights_are_the_start(shop: Any, checkpoint: Path) -> None:
    encoder = encoder_of(shop, hf_checkpoint=str(checkpoint))
    drawn = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    read_weights(encoder.backbone, str(checkpoint))
    original = AutoModel.from_pretrained(checkpoint, attn_implementation="sdpa").eval()
    tokens, mask = torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.long)
    with torch.inference_mode():
        ours, theirs = (
            model(inputs_embeds=tokens, attention_mask=mask).last_hidden_state for model in (encoder.backbone, original)
        )
    torch.testing.assert_close(ours, theirs)
    changed = [name for name, value in encoder.backbone.state_dict().items() if not torch.equal(value, drawn[name])]
    assert len(changed) > 10


def test_an_artifact_needs_the_checkpoint_no_more(shop: Any, checkpoint: Path, tmp_path: Path) -> None:
    encoder = encoder_of(shop, hf_checkpoint=str(checkpoint))
    read_weights(encoder.backbone, str(checkpoint))
    model = UserEncoder(encoder, shop.features, datetime(2024, 1, 1, tzinfo=UTC))
    model.save_pretrained(tmp_path / "artifact")
    for path in checkpoint.iterdir():
        path.unlink()
    again = UserEncoder.from_pretrained(tmp_path / "artifact")
    batch = to_tensors(shop.training.sequences.pad(np.arange(20)))
    with torch.inference_mode():
        torch.testing.assert_close(again.encoder(batch).embedding, encoder(batch).embedding)
    assert again.model_version == model.model_version


def test_a_checkpoint_that_lacks_weights_is_refused(shop: Any, checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    lost = next(name for name in weights if "1." in name and "weight" in name)
    save_file({name: value for name, value in weights.items() if name != lost}, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"hf_checkpoint = .* lacks 1 weights .*{lost}"):
        read_weights(encoder_of(shop, hf_checkpoint=str(checkpoint)).backbone, str(checkpoint))


@pytest.mark.parametrize("key", ["hf_config", "hf_checkpoint"])
def test_what_is_no_model_is_refused(shop: Any, tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"encoder\.{key} = .* cannot be read"):
        encoder_of(shop, **{key: str(tmp_path)})


def test_a_configuration_without_weights_is_no_checkpoint(shop: Any, tmp_path: Path) -> None:
    BACKBONES["bert"].save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"encoder\.hf_checkpoint = .* cannot be read"):
        read_weights(encoder_of(shop, hf_checkpoint=str(tmp_path)).backbone, str(tmp_path))


def test_a_backbone_without_enough_positions_is_refused(shop: Any, tmp_path: Path) -> None:
    BertConfig(max_position_embeddings=16).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="holds 16 positions; sequences of 16 events and a context token need 17"):
        encoder_of(shop, hf_config=str(tmp_path))

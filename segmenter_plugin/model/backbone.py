"""Any Hugging Face model as the backbone: its configuration, its first weights, and no words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.learning import EncoderConfig

#: Width, layers and heads of the ModernBERT presets (Warner et al. 2024, arXiv 2412.13663).
PRESETS = {"small": (64, 2, 4), "base": (256, 6, 4), "large": (768, 12, 12)}
#: Dropout inside attention loses the fused kernel: on a CPU a training step then takes 2.7 times as long.
_ATTENTION_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")


def backbone_config(config: EncoderConfig, positions: int) -> PreTrainedConfig:
    """The configuration of the backbone that `[encoder]` asks for.

    Args:
        config: Of `hf_checkpoint`, `hf_config` and `preset` the first that is given counts.
        positions: Of the longest sequence, the context token included.

    Raises:
        ConfigError: It cannot be read, or its positions do not hold a sequence.
    """
    if config.hf_checkpoint is not None:
        backbone = _named("hf_checkpoint", config.hf_checkpoint)
    elif config.hf_config is not None:
        backbone = _named("hf_config", config.hf_config)
    else:
        backbone = _preset(config)
    held = getattr(backbone, "max_position_embeddings", None)
    if held is not None and held < positions:
        raise ConfigError(
            f"the backbone holds {held} positions; sequences of {positions - 1} events and a context token "
            f"need {positions}.",
            hint="lower [sequences] length, or take another [encoder] hf_config or hf_checkpoint.",
        )
    return backbone


def read_weights(backbone: nn.Module, name: str) -> None:
    """Give a backbone a checkpoint's weights, all but those of its words, in place.

    Args:
        backbone: Made by the checkpoint's own configuration.
        name: Folder or hub name of the checkpoint.

    Raises:
        ConfigError: It cannot be read, or lacks weights.
    """
    try:
        checkpoint, report = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable("hf_checkpoint", name, error) from error
    words = {id(checkpoint.get_input_embeddings().weight)}
    state = {key: value for key, value in checkpoint.state_dict(keep_vars=True).items() if id(value) not in words}
    # A pooler over the first word is drawn anew by many checkpoints, and is never used here.
    drawn = {key for key in report["missing_keys"] if not key.startswith("pooler.")}
    expected = {key for key, value in backbone.state_dict(keep_vars=True).items() if value.requires_grad}
    lacking = sorted(drawn | (expected - set(state)))
    if lacking:
        raise ConfigError(
            f"encoder.hf_checkpoint = {name!r} lacks {len(lacking)} weights of its own model, for example "
            f"{lacking[0]!r}; a backbone's start must be whole.",
            hint="name a folder that `save_pretrained` of a model wrote; hf_config starts from drawn weights.",
        )
    backbone.load_state_dict({key: value.detach() for key, value in state.items()}, strict=False)


def _preset(config: EncoderConfig) -> PreTrainedConfig:
    width, layers, heads = PRESETS[config.preset]
    return AutoConfig.for_model(
        "modernbert",
        vocab_size=1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        attention_dropout=0.0,
        embedding_dropout=config.dropout,
        mlp_dropout=config.dropout,
        **_without_words(),
    )


def _named(key: str, name: str) -> PreTrainedConfig:
    try:
        backbone = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _unreadable(key, name, error) from error
    for dropout in _ATTENTION_DROPOUTS:
        if hasattr(backbone, dropout):
            setattr(backbone, dropout, 0.0)
    backbone.vocab_size = 1
    # Causal models would otherwise keep every layer's keys and values of a sequence that never goes on.
    backbone.use_cache = False
    for word, value in _without_words().items():
        if hasattr(backbone, word):
            setattr(backbone, word, value)
    return backbone


def _unreadable(key: str, name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"encoder.{key} = {name!r} cannot be read: {error}.",
        hint="give a folder with a config.json, or a model's name on the hub that can be reached from here.",
    )


def _without_words() -> Mapping[str, int | None]:
    """Tokens that a text model has and we have not; a padding index must lie inside the one-word vocabulary."""
    return {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None, "cls_token_id": None, "sep_token_id": None}

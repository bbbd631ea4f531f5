"""From a user's events and aggregates to one embedding, through any Hugging Face backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.data.features import Features
from segmenter_plugin.errors import ArtifactError, ConfigError
from segmenter_plugin.model.context_embedding import ContextEmbedding
from segmenter_plugin.model.event_embedding import EventEmbedding
from segmenter_plugin.model.tensors import TensorBatch

#: Width, layers and heads of the ModernBERT presets (Warner et al. 2024, arXiv 2412.13663).
PRESETS = {"small": (64, 2, 4), "base": (256, 6, 4), "large": (768, 12, 12)}
#: Hidden width of the aggregates' layers beside the sequence.
_CONTEXT_WIDTH = 128
#: Dropout inside attention loses the fused kernel: on a CPU a training step then takes 2.7 times as long.
_ATTENTION_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that fixes the encoder's shape; part of the artifact.

    Attributes:
        backbone: A Hugging Face configuration as a dictionary, `model_type` included.
        sizes: Vocabulary size by categorical column.
        numeric_width: F.
        context_width: C.
        embedding_size: D.
        dropout: Dropout of the embedding's and context's layers.
    """

    backbone: dict[str, Any]
    sizes: dict[str, int]
    numeric_width: int
    context_width: int
    embedding_size: int
    dropout: float

    @classmethod
    def of(cls, config: EncoderConfig, features: Features) -> EncoderSettings:
        """The settings that a configuration and the data's features give.

        Raises:
            ConfigError: `hf_config` cannot be read, or its positions do not hold a sequence.
        """
        backbone = _preset(config) if config.hf_config is None else _named(config.hf_config)
        positions = getattr(backbone, "max_position_embeddings", None)
        if positions is not None and positions < features.length + 1:
            raise ConfigError(
                f"the backbone holds {positions} positions; sequences of {features.length} events and a context token "
                f"need {features.length + 1}.",
                hint="lower [sequences] length, or take another [encoder] hf_config.",
            )
        return cls(
            backbone=backbone.to_dict(),
            sizes={name: features.vocabulary.size(name) for name in features.vocabulary.columns},
            numeric_width=features.numbers.width,
            context_width=features.context.width,
            embedding_size=config.embedding_size,
            dropout=config.dropout,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Any) -> EncoderSettings:
        """What `to_json` gave.

        Raises:
            ArtifactError: Keys are missing or unknown.
        """
        try:
            return cls(**tree)
        except TypeError as error:
            raise ArtifactError(f"the artifact's encoder settings cannot be read: {error}.") from error


class Encoded(NamedTuple):
    """What the encoder gives: `hidden` an event, (B, T, H), and `embedding` a user, (B, D)."""

    hidden: Tensor
    embedding: Tensor


class SequenceEncoder(nn.Module):
    """Events and one context token through a backbone, pooled and joined with the context to an embedding.

    The aggregates enter twice: as the first token, so that attention reads events in their light, and beside the
    pooled events, so that what aggregates know (sums, recency) reaches the heads undiluted. The two ways have layers of
    their own: the first is pretrained with the backbone, the second is trained with the heads.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        backbone = dict(settings.backbone)
        config = AutoConfig.for_model(backbone.pop("model_type"), **backbone)
        self.settings = settings
        width = config.hidden_size
        self.events = EventEmbedding(settings.sizes, settings.numeric_width, width)
        self.token = ContextEmbedding(settings.context_width, width, width, settings.dropout)
        self.backbone = AutoModel.from_config(config, attn_implementation="sdpa")
        # Word embeddings that `inputs_embeds` never reads.
        self.backbone.get_input_embeddings().weight.requires_grad_(False)
        self.summary = Summary(settings, width)

    @property
    def width(self) -> int:
        """H."""
        return int(self.backbone.config.hidden_size)

    def forward(self, batch: TensorBatch, hidden: Tensor | None = None) -> Encoded:
        """Encode.

        Args:
            batch: The users.
            hidden: Events whose numbers are not to be seen, (B, T).
        """
        states = self._states(batch, hidden)
        return Encoded(states[:, 1:], self.summary(_pool(states, batch["mask"]), batch["context"]))

    def pooled(self, batch: TensorBatch) -> Tensor:
        """What the summary reads of the sequence, (B, 3H)."""
        return _pool(self._states(batch, None), batch["mask"])

    def _states(self, batch: TensorBatch, hidden: Tensor | None) -> Tensor:
        mask = batch["mask"]
        tokens = torch.cat([self.token(batch["context"])[:, None], self.events(batch, hidden)], dim=1)
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        states: Tensor = self.backbone(inputs_embeds=tokens, attention_mask=seen.long()).last_hidden_state
        return states


class Summary(nn.Module):
    """The pooled sequence and the context, joined to the embedding."""

    def __init__(self, settings: EncoderSettings, width: int) -> None:
        super().__init__()
        size = settings.embedding_size
        self.context = ContextEmbedding(settings.context_width, _CONTEXT_WIDTH, size, settings.dropout)
        self.sequence = nn.Sequential(nn.LayerNorm(3 * width), nn.Dropout(settings.dropout), nn.Linear(3 * width, size))

    def forward(self, pooled: Tensor, context: Tensor) -> Tensor:
        """(B, 3H) and (B, C) -> (B, D)."""
        embedding: Tensor = self.context(context) + self.sequence(pooled)
        return embedding


def _pool(states: Tensor, mask: Tensor) -> Tensor:
    """Context token's state, mean of the events' states, and the newest event's state: (B, 3H)."""
    events = states[:, 1:]
    count = mask.sum(dim=1, keepdim=True)
    mean = (events * mask[..., None]).sum(dim=1) / count.clamp_min(1)
    # Position 0 is the context token: a user without events gets its state as the newest.
    newest = states[torch.arange(len(states), device=states.device), count[:, 0]]
    return torch.cat([states[:, 0], mean, newest], dim=1)


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


def _named(name: str) -> PreTrainedConfig:
    try:
        backbone = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"encoder.hf_config = {name!r} cannot be read: {error}.",
            hint="give a folder with a config.json, or a model's name on the hub that can be reached from here.",
        ) from error
    for key in _ATTENTION_DROPOUTS:
        if hasattr(backbone, key):
            setattr(backbone, key, 0.0)
    backbone.vocab_size = 1
    for key, value in _without_words().items():
        if hasattr(backbone, key):
            setattr(backbone, key, value)
    return backbone


def _without_words() -> Mapping[str, int | None]:
    """Tokens that a text model has and we have not; a padding index must lie inside the one-word vocabulary."""
    return {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None, "cls_token_id": None, "sep_token_id": None}

"""From a user's events and aggregates to one embedding, through any Hugging Face backbone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from segmenter_plugin.data.features import Features
from segmenter_plugin.errors import ArtifactError
from segmenter_plugin.learning import EncoderConfig
from segmenter_plugin.model.backbone import backbone_config
from segmenter_plugin.model.context_embedding import ContextEmbedding
from segmenter_plugin.model.event_embedding import EventEmbedding
from segmenter_plugin.model.number_embedding import NUMBER_EMBEDDINGS
from segmenter_plugin.model.tensors import TensorBatch

#: Hidden width of the aggregates' layers beside the sequence.
_CONTEXT_WIDTH = 128


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that fixes the encoder's shape; part of the artifact.

    Attributes:
        backbone: A Hugging Face configuration as a dictionary, `model_type` included.
        sizes: Vocabulary size by categorical column.
        numeric_encoding: How an event's numbers become a vector, by its name in `NUMBER_EMBEDDINGS`.
        numeric_edges: Edges of the pieces of each number of an event.
        context_width: C.
        embedding_size: D.
        dropout: Dropout of the embedding's and context's layers.
    """

    backbone: dict[str, Any]
    sizes: dict[str, int]
    numeric_encoding: str
    numeric_edges: list[list[float]]
    context_width: int
    embedding_size: int
    dropout: float

    @property
    def numeric_width(self) -> int:
        """F."""
        return 2 * len(self.numeric_edges)

    @classmethod
    def of(cls, config: EncoderConfig, features: Features) -> EncoderSettings:
        """The settings that a configuration and the data's features give.

        Raises:
            ConfigError: The backbone cannot be read, or its positions do not hold a sequence.
        """
        # One position more than events: the context token's.
        backbone = backbone_config(config, features.length + 1)
        return cls(
            backbone=backbone.to_dict(),
            sizes={name: features.vocabulary.size(name) for name in features.vocabulary.columns},
            numeric_encoding=config.numeric_encoding,
            numeric_edges=[list(edges) for edges in features.numbers.edges],
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
        numbers = NUMBER_EMBEDDINGS[settings.numeric_encoding](settings.numeric_edges, width)
        self.events = EventEmbedding(settings.sizes, numbers if settings.numeric_edges else None, width)
        self.token = ContextEmbedding(settings.context_width, width, width, settings.dropout)
        self.no_context = nn.Parameter(torch.randn(width) * 0.1)
        # What objectives without aggregates teach then holds with them too, until something teaches the token.
        nn.init.zeros_(self.token.output.weight)
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

    def pooled_alone(self, batch: TensorBatch) -> Tensor:
        """What the sequence alone gives, (B, 3H): the first token says that the aggregates are not known."""
        return _pool(self._through(self.no_context.expand(len(batch["mask"]), -1), batch, None), batch["mask"])

    def _states(self, batch: TensorBatch, hidden: Tensor | None) -> Tensor:
        return self._through(self.no_context + self.token(batch["context"]), batch, hidden)

    def _through(self, first: Tensor, batch: TensorBatch, hidden: Tensor | None) -> Tensor:
        """States of the first token, (B, H), and the events: (B, 1 + T, H)."""
        mask = batch["mask"]
        tokens = torch.cat([first[:, None], self.events(batch, hidden)], dim=1)
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

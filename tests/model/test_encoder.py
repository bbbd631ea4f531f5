from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.errors import ArtifactError
from segmenter_plugin.model.backbone import PRESETS
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.tensors import hide_events, to_tensors


def encoder_of(shop: Any, **config: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    return SequenceEncoder(EncoderSettings.of(EncoderConfig(**{"embedding_size": 8} | config), shop.features)).eval()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_have_their_sizes(shop: Any, preset: str) -> None:
    settings = EncoderSettings.of(EncoderConfig(preset=preset, embedding_size=8), shop.features)
    width, layers, heads = PRESETS[preset]
    assert settings.backbone["hidden_size"] == width
    assert settings.backbone["num_hidden_layers"] == layers
    assert settings.backbone["num_attention_heads"] == heads
    assert settings.backbone["attention_dropout"] == 0.0


def test_shapes(shop: Any) -> None:
    batch = to_tensors(shop.training.sequences.pad(np.arange(5)))
    encoded = encoder_of(shop)(batch)
    assert encoded.embedding.shape == (5, 8)
    assert encoded.hidden.shape == (*batch["mask"].shape, 64)


def test_an_embedding_depends_neither_on_the_batch_nor_on_padding(shop: Any) -> None:
    encoder = encoder_of(shop)
    sequences = shop.training.sequences
    rows = np.concatenate([np.flatnonzero(sequences.lengths == 0)[:1], np.arange(20)])
    with torch.inference_mode():
        together = encoder(to_tensors(sequences.pad(rows))).embedding
        alone = torch.cat([encoder(to_tensors(sequences.pad(rows[at : at + 1]))).embedding for at in range(len(rows))])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_without_the_context_the_aggregates_change_nothing(shop: Any) -> None:
    encoder = encoder_of(shop)
    torch.nn.init.normal_(encoder.token.output.weight)
    batch = shop.training.sequences.pad(np.arange(8))
    other = dataclasses.replace(batch, context=batch.context + 1)
    with torch.inference_mode():
        for read, same in ((encoder.pooled_alone, True), (encoder.pooled, False)):
            assert torch.equal(read(to_tensors(batch)), read(to_tensors(other))) is same


def test_every_input_reaches_the_embedding(shop: Any) -> None:
    encoder = encoder_of(shop)
    sequences = shop.training.sequences
    rows = np.argsort(-sequences.lengths)[:4]
    batch = sequences.pad(rows)

    def embedding(**changed: Any) -> torch.Tensor:
        with torch.inference_mode():
            return encoder(to_tensors(dataclasses.replace(batch, **changed))).embedding

    original = embedding()
    names = batch.categorical
    changes: dict[str, dict[str, Any]] = {
        name: {"categorical": names | {name: np.where(batch.mask, 1, 0)}} for name in names
    }
    for name in ("numeric", "gaps", "ages", "context"):
        changes[name] = {name: getattr(batch, name) + 1}
    changes["hours"] = {"hours": (batch.hours + 5) % 24}
    changes["weekdays"] = {"weekdays": (batch.weekdays + 2) % 7}
    for name, change in changes.items():
        assert (embedding(**change) - original).abs().max() > 1e-4, name


def test_hidden_events_leak_no_value(shop: Any) -> None:
    encoder = encoder_of(shop)
    batch = shop.training.sequences.pad(np.argsort(-shop.training.sequences.lengths)[:4])
    other = dataclasses.replace(
        batch,
        categorical={name: np.where(batch.mask, 2, 0) for name in batch.categorical},
        numeric=batch.numeric + 3,
    )
    with torch.inference_mode():
        embeddings = [encoder(*hide_events(to_tensors(each), probability=1.0)).embedding for each in (batch, other)]
    torch.testing.assert_close(embeddings[0], embeddings[1])


def test_settings_survive_json(shop: Any) -> None:
    settings = EncoderSettings.of(EncoderConfig(), shop.features)
    again = EncoderSettings.from_json(json.loads(json.dumps(settings.to_json())))
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in SequenceEncoder(each).state_dict().items()}
        for each in (settings, again)
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(ArtifactError, match="encoder settings"):
        EncoderSettings.from_json({"width": 3})

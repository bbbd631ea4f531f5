"""Packed sequences give what padded ones give; on a CPU in single precision to the last digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.model import packing
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.inference import PackedInference, PaddedInference, evaluating, inference_of
from segmenter_plugin.model.packing import PACKABLE, is_packable, pack, packed_embedding

BACKBONES = {
    "modernbert": {"local_attention": 8, "num_hidden_layers": 4, "intermediate_size": 32},
    "llama": {"num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32, "use_cache": False},
}


@pytest.fixture(params=sorted(BACKBONES))
def encoder(request: pytest.FixtureRequest, shop: Any) -> SequenceEncoder:
    more = BACKBONES[request.param] | {"hidden_size": 16, "num_attention_heads": 4, "vocab_size": 1, "pad_token_id": 0}
    backbone = AutoConfig.for_model(request.param, **more)
    settings = EncoderSettings.of(shop.config.encoder, shop.features)
    torch.manual_seed(1)
    return SequenceEncoder(EncoderSettings.from_json(settings.to_json() | {"backbone": backbone.to_dict()})).eval()


def embedded(way: Any, encoder: SequenceEncoder, sequences: RaggedSequences) -> np.ndarray:
    found = np.empty((len(sequences), encoder.settings.embedding_size), dtype=np.float32)
    with evaluating(encoder):
        for rows in way.batches(sequences.lengths):
            found[rows] = way.embed(way.prepare(sequences, rows)).numpy()
    return found


def test_every_backbone_that_is_packed_is_tested() -> None:
    assert set(BACKBONES) == PACKABLE


@pytest.mark.parametrize("positions", [1, 50, 100_000])
def test_packed_is_padded(encoder: SequenceEncoder, shop: Any, positions: int) -> None:
    sequences = shop.validation.sequences
    assert sequences.lengths.min() == 0
    assert sequences.lengths.max() > 8  # further than the local attention reaches
    expected = embedded(PaddedInference(encoder, 4_096), encoder, sequences)
    np.testing.assert_allclose(embedded(PackedInference(encoder, positions), encoder, sequences), expected, atol=1e-5)
    assert encoder.backbone.config._attn_implementation == "sdpa"


def test_no_position_is_padding(shop: Any) -> None:
    sequences, rows = shop.validation.sequences, np.array([3, 0, 5])
    packed = pack(sequences, rows)
    assert packed.batch["gaps"].shape == (1, sequences.lengths[rows].sum())
    assert packed.ends.diff().tolist() == (sequences.lengths[rows] + 1).tolist()
    assert packed.batch["context"].shape[0] == 3


@pytest.mark.slow
def test_one_graph_serves_all_shapes(encoder: SequenceEncoder, shop: Any) -> None:
    if encoder.backbone.config.model_type == "llama":
        pytest.skip("one backbone tells")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(packed_embedding, dynamic=True, backend="eager")
    way = PackedInference(encoder, 90, compiled)
    sequences = shop.validation.sequences
    expected = embedded(PaddedInference(encoder, 4_096), encoder, sequences)
    np.testing.assert_allclose(embedded(way, encoder, sequences), expected, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    assert not torch._dynamo.utils.counters["graph_break"]


def test_what_cannot_be_compiled_is_computed_all_the_same(
    encoder: SequenceEncoder, shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise torch._dynamo.exc.TorchDynamoException("no compiler here")

    way = PackedInference(encoder, 200, broken)
    expected = embedded(PaddedInference(encoder, 4_096), encoder, shop.validation.sequences)
    np.testing.assert_allclose(embedded(way, encoder, shop.validation.sequences), expected, atol=1e-5)
    assert caplog.text.count("not compiled") == 1


def test_the_kernel_takes_our_arguments() -> None:
    """Its stand-in for tensors without data checks names and types; numbers need a GPU."""
    ends = torch.tensor([0, 3, 8], dtype=torch.int32, device="meta")
    query = torch.empty(8, 4, 16, dtype=torch.bfloat16, device="meta")
    attended = packing._flash(query, query, query, ends=ends, longest=64, scale=0.25, window=(4, 4))
    assert attended.shape == query.shape


def test_the_kernel_takes_heads_of_multiples_of_eight(encoder: SequenceEncoder) -> None:
    assert not is_packable(encoder)  # four numbers a head
    encoder.backbone.config.head_dim = 16
    assert is_packable(encoder)
    encoder.backbone.config.model_type = "bert"
    assert not is_packable(encoder)


def test_a_cpu_pads(encoder: SequenceEncoder) -> None:
    assert isinstance(inference_of(encoder), PaddedInference)

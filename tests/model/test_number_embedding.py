from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.number_embedding import NUMBER_EMBEDDINGS
from segmenter_plugin.model.pieces import PiecewiseLinear
from segmenter_plugin.model.tensors import to_tensors

EDGES = [[-1.0, 0.0, 2.0], [], [0.0, 0.5]]


def test_a_number_fills_the_pieces_below_it() -> None:
    encoding = PiecewiseLinear(EDGES)
    assert encoding.pieces == 3
    filled = encoding(torch.tensor([[-2.0, 9.0, 0.25], [0.5, 9.0, 7.0], [3.0, 9.0, 0.0]]))
    assert filled.tolist() == [[0, 0, 0.5], [1, 0.25, 1], [1, 1, 0]]
    assert PiecewiseLinear([[], []])(torch.zeros(4, 2)).shape == (4, 0)


@pytest.mark.parametrize("name", sorted(NUMBER_EMBEDDINGS))
def test_an_absent_number_looks_the_same_whatever_stands_there(name: str) -> None:
    torch.manual_seed(0)
    embed = NUMBER_EMBEDDINGS[name](EDGES, 8)
    values, absent = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, 0.0]]])
    present = torch.zeros_like(absent)
    assert not torch.equal(embed(torch.cat([values, absent], -1)), embed(torch.cat([values, present], -1)))
    if name != "linear":
        weights = embed.layer.weight
        torch.testing.assert_close(
            embed(torch.cat([values, torch.ones_like(absent)], -1))[0, 0], weights[:, 3:6].sum(dim=1) + embed.layer.bias
        )


@pytest.mark.parametrize(("name", "least"), [("linear", 0.2), ("piecewise", 0.0), ("periodic", 0.0)])
def test_pieces_and_waves_bend_where_a_line_cannot(name: str, least: float) -> None:
    torch.manual_seed(0)
    edges = [np.linspace(-2, 2, 17).tolist()]
    embed = torch.nn.Sequential(NUMBER_EMBEDDINGS[name](edges, 8), torch.nn.Linear(8, 1))
    values = torch.linspace(-2, 2, 400)[:, None]
    target = (values > 0.4).float() - (values > 1.1).float()
    optimizer = torch.optim.Adam(embed.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (embed(torch.cat([values, torch.zeros_like(values)], 1)) - target).square().mean() / target.var()
        loss.backward()
        optimizer.step()
    assert (loss.item() > least) if least else (loss.item() < 0.35)


@pytest.mark.parametrize("name", sorted(NUMBER_EMBEDDINGS))
def test_every_encoding_fits_the_encoder_and_survives_json(shop: Any, name: str) -> None:
    settings = EncoderSettings.of(EncoderConfig(numeric_encoding=name, embedding_size=8), shop.features)
    encoder = SequenceEncoder(settings)
    again = SequenceEncoder(EncoderSettings.from_json(json.loads(json.dumps(settings.to_json()))))
    again.load_state_dict(encoder.state_dict())
    batch = to_tensors(shop.training.sequences.pad(np.arange(6)))
    with torch.inference_mode():
        assert torch.equal(encoder.eval()(batch).embedding, again.eval()(batch).embedding)
        changed = batch | {"numeric": batch["numeric"] + 0.5}
        assert not torch.equal(encoder(batch).embedding, encoder(changed).embedding)


def test_the_edges_are_the_training_datas(shop: Any) -> None:
    settings = EncoderSettings.of(EncoderConfig(), shop.features)
    assert settings.numeric_edges == [list(edges) for edges in shop.features.numbers.edges]
    assert all(len(edges) > 2 for edges in settings.numeric_edges)

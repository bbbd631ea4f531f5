from __future__ import annotations

import math

import pytest
import torch

from segmenter_plugin.model import field_decoder
from segmenter_plugin.model.field_decoder import FieldDecoder

SPECIALS = 3


@pytest.fixture
def drawn() -> tuple[FieldDecoder, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decoder of 60 values, states, rows, targets, table."""
    torch.manual_seed(0)
    decoder = FieldDecoder(60 + SPECIALS, 16)
    torch.nn.init.normal_(decoder.bias)
    rows = torch.tensor([0, 0, 1, 3, 3, 3])
    return decoder, torch.randn(4, 16), rows, torch.randint(SPECIALS, 63, (6,)), torch.randn(63, 16)


def test_it_is_the_cross_entropy_over_known_values(drawn: tuple) -> None:
    decoder, states, rows, target, table = drawn
    logits = (decoder.query(states)[rows] @ table.T + decoder.bias)[:, SPECIALS:]
    expected = torch.nn.functional.cross_entropy(logits, target - SPECIALS, reduction="none") / math.log(60)
    torch.testing.assert_close(decoder(states, rows, target, table), expected)


def test_the_draw_estimates_the_normaliser_without_bias(drawn: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, states, rows, target, table = drawn
    full = decoder(states, rows, target, table) * math.log(60)
    monkeypatch.setattr(field_decoder, "_FULL_SOFTMAX", 10)
    monkeypatch.setattr(field_decoder, "_NEGATIVES", 20)
    with torch.inference_mode():
        sampled = torch.stack([decoder(states, rows, target, table) for _ in range(1000)]) * math.log(60)
    # exp(loss) is the normaliser over exp(the target's logit): it, and not its logarithm, is to be right on average.
    ratios = (sampled - full).exp()
    errors = ratios.std(dim=0) / math.sqrt(len(ratios))
    assert ((ratios.mean(dim=0) - 1).abs() < 4 * errors + 1e-4).all()


@pytest.mark.parametrize("count", [1, 2, 3000])
def test_how_often_a_negative_is_expected_is_how_often_it_comes(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(field_decoder, "_NEGATIVES", 400_000)
    drawn, expected = field_decoder._negatives(count, torch.device("cpu"))
    assert drawn.min() >= 0
    assert drawn.max() < count
    counts = torch.bincount(drawn, minlength=count)[drawn]
    frequent = expected > 400
    assert ((counts[frequent] / expected[frequent] - 1).abs() < 0.25).all()


def test_a_large_vocabulary_is_sampled_and_still_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_decoder, "_FULL_SOFTMAX", 100)
    torch.manual_seed(0)
    count = 2000
    decoder = FieldDecoder(count + SPECIALS, 16)
    table = torch.nn.Parameter(torch.randn(count + SPECIALS, 16) * 0.1)
    states, target = torch.randn(40, 16), torch.randint(SPECIALS, count, (40,))
    optimizer = torch.optim.Adam([*decoder.parameters(), table], lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        decoder(states, torch.arange(40), target, table).mean().backward()
        optimizer.step()
    monkeypatch.setattr(field_decoder, "_FULL_SOFTMAX", count)
    assert decoder(states, torch.arange(40), target, table).mean() < 0.5

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segmenter_plugin.config import EncoderConfig
from segmenter_plugin.data.vocabulary import MASK
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model import objectives
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.objectives import OBJECTIVES, objective
from segmenter_plugin.model.tensors import hide_events, to_tensors


@pytest.fixture
def encoder(shop: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    return SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features))


def batch_of(shop: Any, count: int = 32) -> Any:
    return to_tensors(shop.training.sequences.pad(np.arange(count)))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_registered_objective_learns(shop: Any, encoder: SequenceEncoder, name: str) -> None:
    task, batch = objective(name, encoder, 0.3), batch_of(shop, 100)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def test_all_fields_of_an_event_are_hidden_together(shop: Any) -> None:
    batch = batch_of(shop)
    corrupted, hidden = hide_events(batch, 0.5)
    assert not (hidden & ~batch["mask"]).any()
    assert abs(hidden.sum() / batch["mask"].sum() - 0.5) < 0.15
    for name, numbers in corrupted["categorical"].items():
        assert (numbers[hidden] == MASK).all()
        assert (numbers[~hidden] == batch["categorical"][name][~hidden]).all()
    for name in ("gaps", "ages", "hours", "weekdays"):
        assert corrupted[name] is batch[name]


def test_a_batch_without_events_gives_a_finite_loss(shop: Any, encoder: SequenceEncoder) -> None:
    empty = np.flatnonzero(shop.training.sequences.lengths == 0)[:1]
    loss = objective("masked_event", encoder, 0.3)(to_tensors(shop.training.sequences.pad(empty)))["loss"]
    loss.backward()
    assert torch.isfinite(loss)


def test_a_large_vocabulary_is_sampled_and_still_learns(
    shop: Any, encoder: SequenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "_FULL_SOFTMAX", 4)
    monkeypatch.setattr(objectives, "_RANDOM_NEGATIVES", 8)
    test_every_registered_objective_learns(shop, encoder, "masked_event")


def test_the_sampled_loss_over_all_values_is_the_full_one(
    shop: Any, encoder: SequenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, batch = objective("masked_event", encoder, 0.5), batch_of(shop, 100)
    states = torch.randn(30, encoder.width)
    target = batch["categorical"]["item_id"][batch["mask"]][:30]
    table = encoder.events.tables["item_id"].weight[3:] @ task.decoders["item_id"](states[target > 2]).T
    expected = torch.nn.functional.cross_entropy(table.T, target[target > 2] - 3) / np.log(len(table))
    monkeypatch.setattr(objectives, "_FULL_SOFTMAX", 1)
    monkeypatch.setattr(objectives, "_RANDOM_NEGATIVES", 5000)
    torch.testing.assert_close(task._field_loss("item_id", states, target), expected.float())


def test_an_unknown_objective_is_named(encoder: SequenceEncoder) -> None:
    with pytest.raises(ConfigError, match=r"'cloze' is not known; it may be one of \['masked_event'\]"):
        objective("cloze", encoder, 0.2)

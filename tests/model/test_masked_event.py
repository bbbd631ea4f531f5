from __future__ import annotations

from typing import Any

import numpy as np
import torch

from segmenter_plugin.config import EncoderConfig, PretrainConfig
from segmenter_plugin.data.vocabulary import MASK
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.masked_event import MaskedEvent, number_loss
from segmenter_plugin.model.tensors import hide_events, to_tensors


def test_all_fields_of_an_event_are_hidden_together(shop: Any) -> None:
    batch = to_tensors(shop.training.sequences.pad(np.arange(32)))
    corrupted, hidden = hide_events(batch, 0.5)
    assert not (hidden & ~batch["mask"]).any()
    assert abs(hidden.sum() / batch["mask"].sum() - 0.5) < 0.15
    for name, numbers in corrupted["categorical"].items():
        assert (numbers[hidden] == MASK).all()
        assert (numbers[~hidden] == batch["categorical"][name][~hidden]).all()
    for name in ("gaps", "ages", "hours", "weekdays"):
        assert corrupted[name] is batch[name]


def test_every_field_with_a_choice_is_predicted(shop: Any) -> None:
    settings = EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features)
    task = MaskedEvent(SequenceEncoder(settings), PretrainConfig())
    assert set(task.decoders) == set(settings.sizes)
    assert task.numbers.out_features == 2


def test_numbers_that_are_absent_count_for_nothing() -> None:
    predicted = torch.tensor([[0.5, 9.0], [0.0, 1.0]], requires_grad=True)
    target = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    loss = number_loss(predicted, target)
    torch.testing.assert_close(loss, torch.tensor((0.125 + 0.0 + 0.5) / 3))
    loss.backward()
    assert predicted.grad[0, 1] == 0
    assert number_loss(predicted, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)).item() == 0.0

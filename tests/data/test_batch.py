from __future__ import annotations

import numpy as np
import pytest

from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.vocabulary import PADDING

LENGTHS = np.array([2, 0, 3, 1])


@pytest.fixture
def ragged() -> RaggedSequences:
    events = int(LENGTHS.sum())
    numbers = np.arange(events, dtype=np.float32)
    return RaggedSequences(
        lengths=LENGTHS,
        categorical={"item_id": np.arange(10, 10 + events, dtype=np.int32)},
        numeric=np.stack([numbers, -numbers], axis=1),
        gaps=numbers + 0.5,
        ages=numbers[::-1].copy(),
        hours=np.arange(events, dtype=np.int8),
        weekdays=np.arange(events, dtype=np.int8),
        context=np.arange(8, dtype=np.float32).reshape(4, 2),
    )


def test_padding_puts_each_user_in_its_row(ragged: RaggedSequences) -> None:
    batch = ragged.pad(np.array([2, 0, 1]))
    assert batch.categorical["item_id"].tolist() == [[12, 13, 14], [10, 11, PADDING], [PADDING] * 3]
    assert batch.mask.tolist() == [[True] * 3, [True, True, False], [False] * 3]
    assert batch.numeric[0].tolist() == [[2, -2], [3, -3], [4, -4]]
    assert batch.gaps[1].tolist() == [0.5, 1.5, 0.0]
    assert batch.hours.tolist() == [[2, 3, 4], [0, 1, 0], [0, 0, 0]]
    assert batch.context.tolist() == [[4, 5], [0, 1], [2, 3]]


def test_types_are_what_embeddings_take(ragged: RaggedSequences) -> None:
    batch = ragged.pad(np.arange(4))
    integers = (*batch.categorical.values(), batch.hours, batch.weekdays)
    assert {array.dtype for array in integers} == {np.dtype(np.int64)}
    assert {array.dtype for array in (batch.numeric, batch.gaps, batch.ages, batch.context)} == {np.dtype(np.float32)}


def test_users_without_events_still_make_a_batch(ragged: RaggedSequences) -> None:
    batch = ragged.pad(np.array([1]))
    assert batch.mask.tolist() == [[False]]


def test_concatenation_keeps_every_user(ragged: RaggedSequences) -> None:
    twice = RaggedSequences.concatenate([ragged, ragged])
    first, second = twice.pad(np.arange(4)), twice.pad(np.arange(4, 8))
    assert (first.categorical["item_id"] == second.categorical["item_id"]).all()
    assert (first.ages == second.ages).all()
    assert len(twice) == 8

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.model.buckets import by_positions, by_tokens

LENGTHS = st.lists(st.integers(0, 60), max_size=80).map(lambda values: np.array(values, dtype=np.int64))


@pytest.mark.parametrize("cut", [by_positions, by_tokens])
@given(lengths=LENGTHS, positions=st.integers(1, 300))
def test_each_row_is_in_one_batch_within_the_bound(cut, lengths, positions) -> None:
    batches = list(cut(lengths, positions))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        size = (lengths[batch] + 1).sum() if cut is by_tokens else len(batch) * (lengths[batch].max() + 1)
        assert size <= positions or len(batch) == 1


@given(lengths=LENGTHS, positions=st.integers(1, 300))
def test_batches_without_padding_are_filled(lengths, positions) -> None:
    batches = list(by_tokens(lengths, positions))
    for batch, following in pairwise(batches):
        assert (lengths[batch] + 1).sum() + lengths[following[0]] + 1 > positions


def test_little_is_padding_where_many_lengths_are_alike() -> None:
    lengths = np.clip(np.random.default_rng(1).lognormal(3, 1.2, 16_384), 1, 512).astype(np.int64)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in by_positions(lengths))
    assert padded / lengths.sum() < 1.06

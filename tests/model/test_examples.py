from __future__ import annotations

from typing import Any

import numpy as np
import torch

from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.examples import PooledRows, SequenceRows


def test_pooled_rows_give_the_embedding_of_whole_sequences(shop: Any, model: UserEncoder) -> None:
    encoder = model.encoder.eval()
    pooled = PooledRows.of(encoder, shop.training)
    rows = [5, 0, 77]
    with torch.no_grad():
        batch = SequenceRows(shop.training).collate(rows)
        whole = encoder(batch["batch"]).embedding
        part = pooled.collate(rows)
        again = encoder.summary(part["pooled"], part["context"])
    torch.testing.assert_close(whole, again, atol=1e-5, rtol=0)
    for name, values in batch["labels"].items():
        torch.testing.assert_close(part["labels"][name], values, equal_nan=True)


def test_lengths_are_what_costs(shop: Any, model: UserEncoder) -> None:
    assert (SequenceRows(shop.training).lengths == shop.training.sequences.lengths).all()
    assert np.unique(PooledRows.of(model.encoder, shop.validation).lengths).tolist() == [1]

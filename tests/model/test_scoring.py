from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from segmenter_plugin import schemas
from segmenter_plugin.errors import SchemaError, TrainingError
from segmenter_plugin.model import scoring
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.scoring import by_positions, infer, score_batches


@pytest.fixture(scope="module")
def table(shop: Any, signal: Any) -> pa.Table:
    return signal.behaviour(shop.config, signal.LATER, signal.users_of(60))


def scored(model: UserEncoder, table: pa.Table, rows: int = 1000) -> pa.Table:
    return pa.Table.from_batches(list(score_batches(model, table.to_batches(max_chunksize=rows))))


def test_rows_come_in_order_under_the_schema(model: UserEncoder, shop: Any, table: pa.Table) -> None:
    result = scored(model, table)
    assert result.schema == schemas.scores_schema(shop.config, pa.string())
    assert result.column("user_id").to_pylist() == table.column("user_id").to_pylist()
    assert set(result.column("model_version").to_pylist()) == {model.model_version}
    assert set(result.column("trained_through").to_pylist()) == {model.trained_through}
    embeddings = np.stack(result.column("embedding").to_numpy())
    np.testing.assert_allclose(embeddings, model.encode(table), atol=1e-5)
    assert {len(row) for row in result.column("funnel_14d_probabilities").to_pylist()} == {3}


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_scores_do_not_depend_on_batches(model: UserEncoder, table: pa.Table, rows: int) -> None:
    whole, parts = scored(model, table), scored(model, table, rows)
    for name in ("purchase_14d_probability", "spend_14d_expected", "spend_14d_probability"):
        np.testing.assert_allclose(parts.column(name).to_numpy(), whole.column(name).to_numpy(), rtol=1e-4)
    embeddings = [np.stack(each.column("embedding").to_numpy()) for each in (whole, parts)]
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-5)


def test_scores_do_not_depend_on_buckets(model: UserEncoder, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = infer(model.encoder, model.heads, shop.validation.sequences)
    monkeypatch.setattr(scoring, "_POSITIONS", 20)
    parts = infer(model.encoder, model.heads, shop.validation.sequences)
    np.testing.assert_allclose(parts.embedding, whole.embedding, atol=1e-5)


def test_buckets_hold_every_row_once_within_the_bound(shop: Any) -> None:
    lengths = shop.training.sequences.lengths
    batches = list(by_positions(lengths))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) * lengths[batch].max() <= 256 * 128 or len(batch) == 1 for batch in batches)
    assert list(by_positions(np.array([], dtype=np.int64))) == []


def test_dropout_is_off_while_scoring_and_the_mode_is_given_back(model: UserEncoder, shop: Any) -> None:
    model.encoder.train()
    first, second = (infer(model.encoder, model.heads, shop.validation.sequences).embedding for _ in range(2))
    assert model.encoder.training
    model.encoder.eval()
    np.testing.assert_array_equal(first, second)


def test_integer_users_stay_integers(model: UserEncoder, shop: Any, signal: Any) -> None:
    users = [2**53 + 1 + n for n in range(5)]
    result = scored(model, signal.behaviour(shop.config, signal.LATER, users))
    assert result.schema.field("user_id").type == pa.int64()
    assert result.column("user_id").to_pylist() == users


def test_batches_are_pulled_one_at_a_time(model: UserEncoder, table: pa.Table) -> None:
    pulled = []

    def stream() -> Any:
        for batch in table.to_batches(max_chunksize=20):
            pulled.append(batch.num_rows)
            yield batch

    results = score_batches(model, stream())
    next(results)
    assert len(pulled) == 1


def test_an_empty_batch_gives_no_rows(model: UserEncoder, table: pa.Table) -> None:
    empty = pa.RecordBatch.from_pylist([], schema=table.schema)
    assert list(score_batches(model, [empty])) == []
    assert infer(model.encoder, None, model.features.encode(empty)).embedding.shape == (0, 8)


def test_a_missing_column_is_named(model: UserEncoder, table: pa.Table) -> None:
    with pytest.raises(SchemaError, match=r"lacks the columns \['channel_sequence'\]"):
        scored(model, table.drop_columns(["channel_sequence"]))


def test_weights_that_give_no_numbers_are_refused(model: UserEncoder, shop: Any, table: pa.Table) -> None:
    weight = model.encoder.summary.sequence[2].bias
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = float("nan")
    try:
        with pytest.raises(TrainingError, match="values of 'embedding' that are not finite"):
            scored(model, table)
    finally:
        with torch.no_grad():
            weight.copy_(kept)

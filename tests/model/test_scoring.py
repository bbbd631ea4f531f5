from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmenter_plugin import schemas
from segmenter_plugin.errors import SchemaError, TrainingError
from segmenter_plugin.model import inference, scoring
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.scoring import infer, score_batches


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


def test_scores_do_not_depend_on_windows_and_buckets(
    model: UserEncoder, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored(model, table)
    monkeypatch.setattr(scoring, "_WINDOW_ROWS", 16)
    monkeypatch.setattr(inference, "CPU_POSITIONS", 20)
    parts = scored(model, table, 5)
    assert parts.column("user_id").equals(whole.column("user_id"))
    embeddings = [np.stack(each.column("embedding").to_numpy()) for each in (whole, parts)]
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-5)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_embedding_is_a_users_own(model: UserEncoder, table: pa.Table, data: st.DataObject) -> None:
    """Whatever the order, the batches and the users beside it, of whom some are longer (padding)."""
    order = data.draw(st.permutations(range(table.num_rows)).map(lambda rows: rows[: data.draw(st.integers(1, 60))]))
    rows = data.draw(st.integers(1, 60))
    alone = model.encode(table)
    found = scored(model, table.take(order).combine_chunks(), rows)
    np.testing.assert_allclose(np.stack(found.column("embedding").to_numpy()), alone[order], atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_embedding_does_not_depend_on_threads(model: UserEncoder, table: pa.Table, threads: int) -> None:
    before, alone = torch.get_num_threads(), model.encode(table)
    torch.set_num_threads(threads)
    try:
        np.testing.assert_allclose(model.encode(table), alone, atol=1e-5)
    finally:
        torch.set_num_threads(before)


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


def test_no_more_is_read_than_a_few_windows(
    model: UserEncoder, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_WINDOW_ROWS", 20)
    pulled = []

    def stream() -> Any:
        for number in range(40):
            pulled.append(number)
            yield table.slice(0, 20).to_batches()[0]

    results = score_batches(model, stream())
    next(results)
    time.sleep(0.2)
    assert len(pulled) <= 5
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_long_histories_end_a_window_early(
    model: UserEncoder, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_WINDOW_EVENTS", 50)
    sizes = [len(sequences) for _, sequences in scoring._windows(model.features, table.to_batches(max_chunksize=4))]
    assert sum(sizes) == 60
    assert len(sizes) > 5


def test_an_error_of_the_reading_thread_is_its_own(model: UserEncoder, table: pa.Table) -> None:
    def stream() -> Any:
        yield table.slice(0, 5).to_batches()[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        list(score_batches(model, stream()))
    assert "stream" in [entry.name for entry in caught.traceback]


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

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.model.batches import EpochSampler, alike, epoch_batches

LENGTHS = st.lists(st.integers(0, 512), min_size=1, max_size=300).map(np.array)


@settings(max_examples=200)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 60), st.integers(0, 9), st.integers(1, 4))
def test_an_epoch_is_every_row_once_in_as_many_steps_as_any_other(
    lengths: np.ndarray, batch_size: int, buckets: int, epoch: int, least: int
) -> None:
    least = min(least, len(lengths))
    batches = epoch_batches(lengths, batch_size, buckets, seed=3, epoch=epoch, least=least)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert min(map(len, batches)) >= least
    assert len(batches) == len(epoch_batches(lengths, batch_size, buckets, seed=4, epoch=epoch + 1, least=least))
    if least == 1:
        assert len(lengths) / len(batches) <= batch_size


@settings(max_examples=50)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 60), st.integers(1, 4))
def test_processes_share_each_step_without_overlap(
    lengths: np.ndarray, batch_size: int, buckets: int, processes: int
) -> None:
    processes = min(processes, len(lengths))
    shares = [
        list(EpochSampler(lengths, batch_size, buckets, seed=3, process=at, processes=processes))
        for at in range(processes)
    ]
    whole = epoch_batches(lengths, batch_size, buckets, seed=3, epoch=0, least=processes)
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert all(parts)
        assert sorted(row for part in parts for row in part) == sorted(batch.tolist())


def test_a_step_costs_about_as_much_as_any_other() -> None:
    lengths = np.minimum(np.random.default_rng(0).lognormal(3, 1.2, 20_000), 512).astype(int)
    batches = epoch_batches(lengths, 64, 50, seed=1, epoch=0)
    positions = np.array([(lengths[batch] + 1).sum() for batch in batches])
    padded = np.array([(lengths[batch].max() + 1) * len(batch) for batch in batches])
    assert positions.max() / positions.mean() < 1.3
    assert padded.sum() / positions.sum() < 1.1
    sizes = [len(batch) for batch in batches]
    assert max(sizes) > 5 * min(sizes)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.arange(100)
    sampler = EpochSampler(lengths, 8, 3, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]
    assert list(EpochSampler(lengths, 8, 3, seed=4)) != orders[0]


def test_one_bucket_mixes_lengths() -> None:
    batches = epoch_batches(np.arange(1000), 100, 1, seed=3, epoch=0)
    assert all(batch.min() < 100 and batch.max() >= 900 for batch in batches)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 512), min_size=1, max_size=200).map(np.array), st.data())
def test_parts_hold_each_row_once_and_pad_less(lengths: np.ndarray, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, unique=True)))
    parts = alike(rows, lengths)
    assert sorted(np.concatenate(parts).tolist()) == sorted(rows.tolist())
    whole = len(rows) * lengths[rows].max()
    padded = sum(len(part) * lengths[part].max() for part in parts)
    # Each further part saves more than a pass costs.
    assert padded <= whole - 1024 * (len(parts) - 1)


def test_mixed_batches_of_heavy_tails_hardly_pad_in_parts() -> None:
    lengths = np.minimum(np.random.default_rng(0).lognormal(3, 1.1, 6400), 512).astype(int)
    batches = np.arange(6400).reshape(-1, 64)
    padded = sum(len(part) * lengths[part].max() for batch in batches for part in alike(batch, lengths))
    whole = sum(64 * lengths[batch].max() for batch in batches)
    assert padded < 2 * lengths.sum()
    assert whole > 7 * lengths.sum()

"""Time is the enemy: nothing of what comes after a moment may reach what is read as of that moment."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.config import PretrainConfig
from segmenter_plugin.model.contrastive import draw_slices
from segmenter_plugin.model.next_days import NextDays, _window, draw_past
from segmenter_plugin.model.slices import Slices, cut

DAYS = 7.0
SIZES = st.tuples(st.integers(0, 2**31), st.lists(st.integers(0, 9), min_size=1, max_size=6))


def batch_of(seed: int, lengths: list[int]) -> Any:
    """Users with events at drawn times, some at the same instant."""
    generator = torch.Generator().manual_seed(seed)
    width = max(1, *lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    raw = torch.rand(len(lengths), width, generator=generator) * 30
    raw = torch.where(torch.rand(raw.shape, generator=generator) < 0.3, raw.round(), raw)
    ages = torch.where(mask, raw, -1.0).sort(dim=1, descending=True).values.clamp_min(0) * mask
    gaps = torch.cat([torch.zeros(len(lengths), 1), (ages[:, :-1] - ages[:, 1:])], dim=1) * mask
    number = torch.randn(*mask.shape, 1, generator=generator)
    absent = (torch.rand(number.shape, generator=generator) < 0.3).float()
    return {
        "categorical": {"item_id": torch.randint(3, 40, mask.shape, generator=generator) * mask},
        "numeric": torch.cat([number * (1 - absent), absent], dim=2) * mask[..., None],
        "gaps": gaps,
        "ages": ages,
        "hours": torch.randint(24, mask.shape, generator=generator) * mask,
        "weekdays": torch.randint(7, mask.shape, generator=generator) * mask,
        "mask": mask,
        "context": torch.randn(len(lengths), 4, generator=generator),
    }


def changed_from(batch: Any, users: torch.Tensor, moments: torch.Tensor, seed: int) -> Any:
    """The batch with every event at or after its user's moment made another one, at another time after it, or gone."""
    generator = torch.Generator().manual_seed(seed)
    bound = torch.full((len(batch["mask"]),), -1.0)
    bound[users] = moments
    late = batch["mask"] & (batch["ages"] <= bound[:, None])
    ages = torch.where(late, torch.rand(late.shape, generator=generator) * bound[:, None], batch["ages"])
    ages = ages.masked_fill(~batch["mask"], -1.0).sort(dim=1, descending=True).values.clamp_min(0)
    kept = batch["mask"] & ~(late & (torch.rand(len(late), 1, generator=generator) < 0.5))
    other = {name: (values + 1).where(late, values) * kept for name, values in batch["categorical"].items()}
    changed = {name: (batch[name] + 1).where(late, batch[name]) * kept for name in ("gaps", "hours", "weekdays")}
    numeric = torch.where(late[..., None], batch["numeric"] + 1, batch["numeric"]) * kept[..., None]
    context = torch.randn(batch["context"].shape, generator=generator)
    return {
        **batch,
        **changed,
        "categorical": other,
        "numeric": numeric,
        "ages": ages * kept,
        "mask": kept,
        "context": context,
    }


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(equal(one[name], other[name]) for name in one)
    return torch.equal(one, other)


@settings(max_examples=60)
@given(SIZES, st.integers(0, 1000))
def test_events_at_or_after_the_moment_never_change_what_next_days_reads(sizes: Any, seed: int) -> None:
    batch = batch_of(*sizes)
    torch.manual_seed(seed)
    past = draw_past(batch, DAYS)
    other = changed_from(batch, past.users, past.moments, seed)
    torch.manual_seed(seed)
    again = draw_past(other, DAYS)
    assert equal(past._asdict(), again._asdict())
    assert equal(cut(batch, past), cut(other, again))


@settings(max_examples=60)
@given(SIZES, st.integers(0, 1000))
def test_what_is_read_and_what_is_predicted_part_at_the_moment(sizes: Any, seed: int) -> None:
    batch = batch_of(*sizes)
    torch.manual_seed(seed)
    past = draw_past(batch, DAYS)
    assert (past.moments >= DAYS).all()
    assert past.users.tolist() == [row for row, ages in enumerate(batch["ages"].tolist()) if ages[0] > DAYS]
    window, read = _window(batch, past, DAYS), cut(batch, past)
    for row, (user, moment) in enumerate(zip(past.users.tolist(), past.moments.tolist(), strict=True)):
        ages = batch["ages"][user][batch["mask"][user]].tolist()
        assert read["mask"][row].sum() == sum(age > moment for age in ages)
        expected = torch.tensor([age - moment for age in ages if age > moment])
        torch.testing.assert_close(read["ages"][row][read["mask"][row]], expected, atol=1e-5, rtol=0)
        inside = [place for place, age in enumerate(ages) if moment - DAYS < age <= moment]
        assert window[row].nonzero()[:, 0].tolist() == inside


@settings(max_examples=60)
@given(SIZES, st.integers(0, 1000))
def test_a_slice_is_a_run_of_its_users_events_and_knows_no_other(sizes: Any, seed: int) -> None:
    batch = batch_of(*sizes)
    torch.manual_seed(seed)
    slices = draw_slices(batch)
    read = cut(batch, slices)
    for row, (user, start, length, moment) in enumerate(zip(*(part.tolist() for part in slices), strict=True)):
        events = int(batch["mask"][user].sum())
        assert start >= 0
        assert 1 <= length <= events - start
        assert batch["ages"][user, start + length - 1] >= moment >= 0
        if start + length < events:
            assert moment >= batch["ages"][user, start + length] - 1e-5
        taken = read["categorical"]["item_id"][row]
        assert taken[:length].tolist() == batch["categorical"]["item_id"][user, start : start + length].tolist()
        assert (taken[length:] == 0).all()
        assert read["gaps"][row, 0] == 0
    assert (read["ages"] >= 0).all()
    assert not read["context"].any()
    assert sorted(set(slices.users.tolist())) == [row for row, length in enumerate(sizes[1]) if length >= 2]


def test_nothing_to_cut_is_an_empty_batch() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert cut(batch_of(0, [3]), Slices(none, none, none, none.float()))["mask"].shape == (0, 1)


@pytest.mark.parametrize("events", [0, 1, 5])
def test_counts_and_mean_numbers_of_the_window_are_right(shop: Any, events: int) -> None:
    from segmenter_plugin.config import EncoderConfig
    from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
    from segmenter_plugin.model.next_days import _mean_by_row, _mean_numbers

    encoder = SequenceEncoder(EncoderSettings.of(EncoderConfig(embedding_size=8), shop.features))
    task = NextDays(encoder, PretrainConfig())
    torch.nn.init.zeros_(task.counts.weight)
    torch.nn.init.zeros_(task.counts.bias)
    values = {name: torch.full((events,), 3) for name in task.decoders}
    rows = torch.ones(events, dtype=torch.long)
    loss = task._count_loss(torch.zeros(2, encoder.width), rows, values)
    cells = torch.zeros(2, len(task.counts.bias))
    cells[1, 0] = events
    at = 1
    for size in task._counted.values():
        cells[1, at] = events
        at += size - 3
    torch.testing.assert_close(loss, torch.nn.functional.huber_loss(torch.zeros_like(cells), cells.log1p()))
    numbers = torch.tensor([[2.0, 0.0]] * events + [[0.0, 1.0]]).reshape(-1, 2)
    means = _mean_numbers(numbers, torch.ones(len(numbers), dtype=torch.long), 3)
    assert means.tolist() == [[0, 1], [2, 0] if events else [0, 1], [0, 1]]
    each = torch.tensor([1.0, 3.0, 8.0])
    assert _mean_by_row(each, torch.tensor([0, 0, 2]), 4).item() == 5.0

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segmenter_plugin.model.augmentation import Augmentation, crop_oldest, jitter_times
from segmenter_plugin.model.tensors import TensorBatch, to_tensors

EVENT_FIELDS = ("numeric", "gaps", "ages", "hours", "weekdays")


@pytest.fixture
def batch(shop: Any) -> TensorBatch:
    """The shop's users; the last has no event."""
    lengths = shop.training.sequences.lengths
    rows = np.concatenate([np.flatnonzero(lengths)[:100], np.flatnonzero(lengths == 0)[:1]])
    torch.manual_seed(0)
    return to_tensors(shop.training.sequences.pad(rows))


def test_a_crop_keeps_the_newest_events_and_nothing_else(batch: TensorBatch) -> None:
    cropped = crop_oldest(batch, 0.5)
    before, after = batch["mask"].sum(dim=1), cropped["mask"].sum(dim=1)
    assert (after <= before).all()
    assert (after[before > 0] >= 1).all()
    assert 20 < (after < before).sum() < 60
    torch.testing.assert_close(cropped["context"], batch["context"])
    for user, (old, new) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        for name in EVENT_FIELDS:
            kept = batch[name][user, old - new : old].clone()  # type: ignore[literal-required]
            if name == "gaps" and new < old:
                kept[0] = 0.0
            torch.testing.assert_close(cropped[name][user, :new], kept)  # type: ignore[literal-required]
        for name, values in batch["categorical"].items():
            assert cropped["categorical"][name][user, :new].tolist() == values[user, old - new : old].tolist()
            assert not cropped["categorical"][name][user, new:].any()


def test_no_crop_and_every_crop(batch: TensorBatch) -> None:
    assert crop_oldest(batch, 0.0)["mask"].sum() == batch["mask"].sum()
    places = [crop_oldest(batch, 1.0)["mask"].sum(dim=1) for _ in range(200)]
    long = batch["mask"].sum(dim=1) == 16
    seen = torch.stack(places)[:, long]
    assert set(seen.flatten().tolist()) == set(range(1, 17))


@pytest.mark.parametrize("days", [0.01, 1.0, 30.0])
def test_jittered_times_hang_together(batch: TensorBatch, days: float) -> None:
    moved = jitter_times(batch, days)
    mask, ages = moved["mask"], moved["ages"]
    assert (ages >= 0).all()
    pairs = mask[:, 1:]
    steps = (ages[:, :-1] - ages[:, 1:])[pairs]
    assert (steps >= 0).all()
    torch.testing.assert_close(moved["gaps"][:, 1:][pairs], steps)
    assert not moved["gaps"][:, 0].any()
    assert not ages[~mask].any()
    assert moved["hours"].min() >= 0
    assert moved["hours"].max() <= 23
    assert moved["weekdays"].min() >= 0
    assert moved["weekdays"].max() <= 6
    for name in ("numeric", "context", "mask"):
        torch.testing.assert_close(moved[name], batch[name])  # type: ignore[literal-required]


def test_hours_and_weekdays_follow_the_new_age(batch: TensorBatch) -> None:
    moved = jitter_times(batch, 2.0)
    mask = batch["mask"]

    def clock(times: TensorBatch) -> torch.Tensor:
        return (times["weekdays"] * 24 + times["hours"])[mask].double()

    later = 24 * (batch["ages"] - moved["ages"])[mask].double()
    missed = (clock(batch) + later - clock(moved)) % 168
    assert torch.minimum(missed, 168 - missed).max() <= 0.51


def test_a_jitter_of_nothing_changes_nothing(batch: TensorBatch) -> None:
    moved = jitter_times(batch, 0.0)
    for name in EVENT_FIELDS:
        torch.testing.assert_close(moved[name], batch[name], atol=1e-4, rtol=0)  # type: ignore[literal-required]


def test_the_size_of_the_jitter_is_its_deviation(batch: TensorBatch) -> None:
    alone = batch["mask"].sum(dim=1) == 1
    lonely = {**batch, "mask": batch["mask"].clone()}
    lonely["mask"][:, 1:] = False
    lonely["ages"] = torch.full_like(batch["ages"], 50.0)
    shifts = torch.stack([jitter_times(lonely, 3.0)["ages"][:-1, 0] - 50.0 for _ in range(50)])  # type: ignore[arg-type]
    assert alone.any() or len(shifts)
    assert shifts.std().item() == pytest.approx(3.0, rel=0.1)
    assert abs(shifts.mean().item()) < 0.2


def test_what_is_off_leaves_the_batch_and_the_random_numbers_alone(batch: TensorBatch) -> None:
    state = torch.get_rng_state()
    same, hidden = Augmentation()(batch)
    assert same is batch
    assert hidden is None
    assert torch.equal(torch.get_rng_state(), state)


def test_all_together(batch: TensorBatch) -> None:
    seen, hidden = Augmentation(event_dropout=0.5, crop_probability=1.0, time_jitter_days=1.0)(batch)
    assert hidden is not None
    assert hidden.shape == seen["mask"].shape
    assert not (hidden & ~seen["mask"]).any()
    assert seen["mask"].sum() < batch["mask"].sum()

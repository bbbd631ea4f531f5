from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.data.split import validation_users
from segmenter_plugin.errors import SchemaError

STRINGS = pa.array([f"user-{n}" for n in range(20_000)])
NUMBERS = pa.array(np.arange(20_000) + 2**53)


@pytest.mark.parametrize("users", [STRINGS, NUMBERS], ids=["string", "int64"])
def test_the_share_is_met(users: pa.Array) -> None:
    assert abs(validation_users(users, 0.15, seed=7).mean() - 0.15) < 0.01
    assert not validation_users(users, 0.0, seed=7).any()


@pytest.mark.parametrize("users", [STRINGS, NUMBERS], ids=["string", "int64"])
def test_a_user_falls_on_the_same_side_in_any_company(users: pa.Array) -> None:
    whole = validation_users(users, 0.3, seed=7)
    order = np.random.default_rng(0).permutation(len(users))[:1000]
    assert (validation_users(users.take(pa.array(order)), 0.3, seed=7) == whole[order]).all()
    assert (validation_users(users.slice(777, 50), 0.3, seed=7) == whole[777:827]).all()


def test_string_layouts_agree() -> None:
    expected = validation_users(STRINGS, 0.3, seed=1)
    for other in (STRINGS.cast(pa.large_string()), STRINGS.dictionary_encode()):
        assert (validation_users(other, 0.3, seed=1) == expected).all()


def test_seeds_draw_unrelated_splits() -> None:
    first, second = (validation_users(STRINGS, 0.5, seed) for seed in (1, 2))
    assert abs((first == second).mean() - 0.5) < 0.02


def test_a_larger_share_keeps_who_was_in_the_smaller() -> None:
    small, large = (validation_users(STRINGS, share, seed=1) for share in (0.1, 0.2))
    assert (large | ~small).all()


def test_the_split_is_what_it_was() -> None:
    # Another split would silently move users of existing artifacts from validation into training.
    assert np.flatnonzero(validation_users(STRINGS[:40], 0.25, seed=7)).tolist() == [7, 9, 16, 21, 22, 32, 35, 36, 38]


def test_empty_and_unusual_ids() -> None:
    assert validation_users(pa.array([], pa.string()), 0.5, seed=1).tolist() == []
    assert len(validation_users(pa.array(["", "é", "x" * 300]), 0.5, seed=1)) == 3
    with pytest.raises(SchemaError, match="1 of 2 user ids are null"):
        validation_users(pa.array(["a", None]), 0.5, seed=1)
    with pytest.raises(SchemaError, match="double"):
        validation_users(pa.array([1.5]), 0.5, seed=1)

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.vocabulary import MASK, PADDING, SPECIAL_COUNT, UNKNOWN, ValueCounts, Vocabulary
from segmenter_plugin.errors import ArtifactError, SchemaError


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary({"category": ("milk", "bread", "salt"), "brand": ()})


def test_specials_are_distinct_and_in_front() -> None:
    assert sorted({PADDING, MASK, UNKNOWN}) == list(range(SPECIAL_COUNT))


def test_unknown_and_null_share_a_number_and_known_values_follow_the_specials(vocabulary: Vocabulary) -> None:
    encoded = vocabulary.encode("category", pa.array(["salt", None, "caviar", "milk"]))
    assert encoded.tolist() == [SPECIAL_COUNT + 2, UNKNOWN, UNKNOWN, SPECIAL_COUNT]
    assert encoded.dtype == np.int32


@pytest.mark.parametrize("values", [["bread", None, "x", "milk", "bread"], [None, None], []])
def test_dictionary_encoded_and_plain_values_get_the_same_numbers(vocabulary: Vocabulary, values: list[str]) -> None:
    plain = pa.array(values, pa.string())
    expected = vocabulary.encode("category", plain)
    assert vocabulary.encode("category", plain.dictionary_encode()).tolist() == expected.tolist()
    assert vocabulary.encode("category", plain.cast(pa.large_string())).tolist() == expected.tolist()


def test_a_slice_is_encoded_from_its_own_start(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode("category", pa.array(["milk", "bread", "salt"])[1:]).tolist() == [4, 5]


def test_a_column_without_known_values_is_all_unknown(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode("brand", pa.array(["a", None])).tolist() == [UNKNOWN, UNKNOWN]
    assert vocabulary.size("brand") == SPECIAL_COUNT


def test_numbers_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(SchemaError, match=r"'category' have the type int64"):
        vocabulary.encode("category", pa.array([1, 2]))


def test_counts_add_up_over_batches_and_rank_by_frequency_then_name() -> None:
    counts = ValueCounts(("category",))
    counts.add("category", pa.array(["b", "a", "c", None]))
    counts.add("category", pa.array(["b", "a", "d", "b"]).dictionary_encode())
    assert counts.vocabulary(min_count=2, max_size=10).values["category"] == ("b", "a")
    assert counts.vocabulary(min_count=1, max_size=3).values["category"] == ("b", "a", "c")


def test_json_round_trip_keeps_the_hash_and_any_change_changes_it(vocabulary: Vocabulary) -> None:
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert again.content_hash == vocabulary.content_hash
    swapped = Vocabulary({"category": ("bread", "milk", "salt"), "brand": ()})
    assert swapped.content_hash != vocabulary.content_hash
    assert Vocabulary({"brand": (), "category": vocabulary.values["category"]}).content_hash != vocabulary.content_hash


TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=30)


@given(TEXTS, st.integers(1, 1000), st.integers(0, 10))
def test_a_hashed_value_has_the_same_number_wherever_it_stands(values: list[str | None], count: int, skip: int) -> None:
    hashed = Vocabulary({}, {"item": count})
    numbers = hashed.encode("item", pa.array(values, pa.string()))
    alone = [int(hashed.encode("item", pa.array([value], pa.string()))[0]) for value in values]
    assert numbers.tolist() == alone
    assert hashed.encode("item", pa.array(values, pa.string())[skip:]).tolist() == alone[skip:]
    assert hashed.encode("item", pa.array(values, pa.string()).dictionary_encode()).tolist() == alone
    for value, number in zip(values, alone, strict=True):
        assert number == UNKNOWN if value is None else SPECIAL_COUNT <= number < hashed.size("item")


def test_hashed_values_spread_over_their_buckets_and_never_move() -> None:
    hashed = Vocabulary({"brand": ("a",)}, {"item": 64})
    assert hashed.columns == ("brand", "item")
    numbers = hashed.encode("item", pa.array([f"item-{n}" for n in range(64_000)]))
    counts = np.bincount(numbers - SPECIAL_COUNT, minlength=64)
    assert counts.min() > 850
    assert counts.max() < 1150
    # An artifact's weights belong to these numbers: another release must find the same.
    assert hashed.encode("item", pa.array(["", "sku-1", "Ä" * 300])).tolist() == [59, 55, 49]


def test_buckets_are_part_of_the_hash_and_survive_json() -> None:
    counts = ValueCounts(("brand",))
    counts.add("brand", pa.array(["a", "a"]))
    hashed = counts.vocabulary(1, 10, {"item": 64})
    assert Vocabulary.from_json(json.loads(json.dumps(hashed.to_json()))) == hashed
    assert Vocabulary(hashed.values, {"item": 65}).content_hash != hashed.content_hash


@pytest.mark.parametrize(
    "tree", [[], {"category": "milk"}, {"category": [1]}, {"category": True}, {"category": 0}, {"category": 1.5}, None]
)
def test_a_foreign_tree_is_refused(tree: object) -> None:
    with pytest.raises(ArtifactError):
        Vocabulary.from_json(tree)

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.event_ids import later_namesakes

#: One width of whole words, one of none, and several; "" and null are not the same.
NAMES = {
    "whole words": ["a" * 16, "a" * 15 + "b", "b" + "a" * 15, "a" * 8 + "b" * 8, "b" * 8 + "a" * 8, None],
    "no whole words": ["abc", "abd", "bbd", None],
    "widths": ["", "a", "a" * 8, "a" * 9, "ä" * 40, "ä" * 39 + "b", None],
    "far too wide": ["a" * 200, "a" * 199 + "b", None],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@given(data=st.data())
def test_later_rows_of_the_same_user_and_id_are_found(names, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(names)), max_size=20))
    seen, expected = set(), []
    for place, pair in enumerate(pairs):
        if pair[1] is not None and pair in seen:
            expected.append(place)
        seen.add(pair)
    owners = np.array([owner for owner, _ in pairs], np.int32)
    shift = data.draw(st.integers(0, 3))
    ids = [names[0]] * shift + [name for _, name in pairs][::-1]
    rows = np.arange(len(ids) - 1, shift - 1, -1)
    split = data.draw(st.integers(0, len(ids)))
    text = pa.chunked_array([ids[:split], ids[split:]], pa.string())
    sliced = pa.chunked_array([pa.array(["x", *ids], pa.string()).slice(1)])
    for column in (text, text.dictionary_encode(), sliced):
        assert sorted(later_namesakes(owners, column, rows).tolist()) == expected


def test_ids_that_share_their_bits_are_told_apart(monkeypatch):
    monkeypatch.setattr("segmenter_plugin.data.event_ids._FACTORS", np.zeros(9, np.uint64))
    ids = pa.chunked_array([["a" * 8, "b" * 8, "a" * 8]])
    assert later_namesakes(np.zeros(3, np.int32), ids, np.arange(3)).tolist() == [2]
    assert later_namesakes(np.array([0, 0, 1], np.int32), ids, np.arange(3)).tolist() == []

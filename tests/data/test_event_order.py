import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.coded_text import CodedText
from segmenter_plugin.data.event_order import order_events, ordered, ranker

#: Small ones tie; large ones do not fit into one word beside each other.
WHOLE = st.one_of(st.integers(0, 3), st.integers(0, 2**62))
PAIRS = st.lists(st.tuples(WHOLE, WHOLE), max_size=30)


@given(PAIRS)
def test_pairs_are_ordered_and_equal_ones_keep_their_order(pairs):
    major, minor = (np.array([pair[place] for pair in pairs], np.int64) for place in (0, 1))
    order, is_same = ordered(major, minor)
    expected = sorted(range(len(pairs)), key=lambda row: pairs[row])
    assert order.tolist() == expected
    in_order = [pairs[row] for row in expected]
    assert is_same.tolist() == [place > 0 and in_order[place - 1] == pair for place, pair in enumerate(in_order)]


TIMES = st.one_of(st.integers(-2, 2), st.integers(-(2**53), 2**53))
TEXT = st.sampled_from([None, "", "a", "b"])
EVENTS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2**30]), TIMES, TEXT, st.sampled_from([None, -1.5, -0.0, 0.0, 1e300]), TEXT),
    max_size=30,
)


@given(EVENTS)
def test_events_are_ordered_by_every_column(events):
    columns = [[event[place] for event in events] for place in range(5)]
    rankers = [
        ranker(CodedText.of(pa.chunked_array([columns[2]], pa.string()))),
        ranker(pa.chunked_array([columns[3]], pa.float64())),
        ranker(pa.chunked_array([columns[4]], pa.string())),
    ]
    rows, repeats = order_events(np.array(columns[0], np.int64), np.array(columns[1], np.int64), rankers)
    key = lambda event: tuple((value is not None, value if value is not None else 0) for value in event)  # noqa: E731
    found = [key(events[row]) for row in rows]
    assert found == sorted(map(key, events))
    assert sorted(rows.tolist()) == list(range(len(events)))
    assert repeats.tolist() == [place > 0 and found[place - 1] == event for place, event in enumerate(found)]


def test_times_that_do_not_fit_beside_the_user_are_still_told_apart():
    """2**30 users and 4 rows leave 32 bits: times of 50 bits lose their last 18, here all that differs."""
    owners = np.array([2**30 - 1, 0, 2**30 - 1, 2**30 - 1])
    rows, repeats = order_events(owners, np.array([2**50 + 3, 0, 2**50 + 1, 2**50 + 2]), [])
    assert rows.tolist() == [1, 2, 3, 0]
    assert not repeats.any()


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64()])
def test_numbers_rank_by_value_and_null_is_first(kind):
    ranks = ranker(pa.chunked_array([[3, None, -2, 0, 3]], kind))(np.array([0, 1, 2, 3, 4]))
    assert ranks.tolist() == [3, 0, 1, 2, 3]


def test_a_column_is_not_asked_where_nothing_is_tied():
    def refuse(rows):
        raise AssertionError(f"asked for {rows}")

    rows, _ = order_events(np.array([1, 0]), np.array([5, 5]), [refuse])
    assert rows.tolist() == [1, 0]

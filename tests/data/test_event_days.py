"""Which events stay, beside plain Python, and that it may be decided in parts."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.data.event_days import EventDays, without_surplus
from segmenter_plugin.data.user_buckets import hashes_of
from segmenter_plugin.schemas import TIMESTAMP

NOON = datetime(1970, 1, 1, 12, tzinfo=UTC)
#: Before and after midnight and 1970; few values, so that repeats are common.
EVENT = st.tuples(
    st.sampled_from(["anna", "berta", ""]),
    st.integers(-30, 30).map(lambda hours: NOON + timedelta(hours=hours)),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, 0.5]),
)
EVENTS = st.lists(EVENT, max_size=60)
MOST = st.sampled_from([1, 2, 5, None])


def table_of(events):
    types = (pa.string(), TIMESTAMP, pa.string(), pa.float64())
    names = ("user_id", "event_timestamp", "event_type", "amount")
    return pa.table({n: pa.array([e[k] for e in events], t) for k, (n, t) in enumerate(zip(names, types, strict=True))})


def rows_of(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def key(event):
    return tuple((value is not None, value if value is not None else 0) for value in event)


def day_of(event):
    return event[0], (event[1] - datetime(1970, 1, 1, tzinfo=UTC)).days


def expected(events, most):
    """Rows that stay; and the bots' days with all their rows and how many of them stay."""
    by_day = {}
    for event in sorted(set(events), key=key):
        by_day.setdefault(day_of(event), []).append(event)
    kept = [event for day in by_day.values() for event in day[:most]]
    seen = Counter(map(day_of, events))
    bots = {day: (seen[day], most) for day, different in by_day.items() if most is not None and len(different) > most}
    return sorted(kept, key=key), bots


def bots_of(table):
    return {(row["user_id"], row["day"]): (row["events"], row["kept"]) for row in table.to_pylist()}


@given(EVENTS, MOST)
def test_beside_plain_python(events, most):
    table = table_of(events)
    days = EventDays.of(table, most)
    kept, bots = expected(events, most)
    assert rows_of(table.take(pa.array(days.rows))) == kept
    assert bots_of(days.bots(None)) == bots
    assert len(days.users) == len({event[0] for event in events})
    assert days.kept.sum() == len(kept)


def _without_surplus(table, most):
    places, dropped = without_surplus(table, hashes_of(table["user_id"]), most)
    return table if places is None else table.take(pa.array(places)), dropped


@given(st.lists(EVENTS, min_size=1, max_size=4), MOST)
def test_in_parts_and_then_together(parts, most):
    tables, dropped = [], []
    for part in parts:
        table = table_of(part)
        kept, gone = _without_surplus(table, most)
        tables.append(kept)
        dropped += [] if gone is None else [gone]
        count = 0 if gone is None else sum(gone["events"].to_pylist())
        assert len(kept) + count == len(part)
    together = pa.concat_tables(tables)
    days = EventDays.of(together, most)
    events = [event for part in parts for event in part]
    kept, bots = expected(events, most)
    assert rows_of(together.take(pa.array(days.rows))) == kept
    assert bots_of(days.bots(pa.concat_tables(dropped) if dropped else None)) == bots


def test_a_bot_is_cut_before_the_shuffle_and_others_are_left_alone():
    bot = [("bot", NOON + timedelta(seconds=number), "a", None) for number in range(5000)]
    others = [(f"user-{number}", NOON, "a", None) for number in range(200)] * 2
    table = table_of(bot + others)
    kept, dropped = _without_surplus(table, 100)
    assert len(kept) == 100 + len(others)
    assert bots_of(dropped.append_column("kept", pa.array([100]))) == {("bot", 0): (4900, 100)}


def test_users_may_be_whole_numbers_or_a_dictionary():
    table = table_of([("b", NOON, "a", None), ("a", NOON, "a", None), ("b", NOON, "a", None)])
    coded = table.set_column(0, "user_id", table["user_id"].dictionary_encode())
    numbers = table.set_column(0, "user_id", pa.array([2, 1, 2]))
    for events in (coded, numbers):
        assert EventDays.of(events, 1).rows.tolist() in ([1, 0], [1, 2])

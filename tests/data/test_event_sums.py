import math

import block_world
import numpy as np
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.data.event_sums import NEVER, NO_KEY, EventSums, key_columns


@pytest.fixture(scope="module")
def block():
    config = block_world.dense_config()
    return EventBlock.of(block_world.dense_events(config, seed=6, users=15, rows=900), config)


@pytest.fixture(scope="module")
def sums(block):
    return EventSums.of(block, block_world.dense_config())


def next_times(block, keys):
    """By a walk from the newest row to the oldest."""
    later, found = {}, []
    for owner, key, time in reversed(list(zip(block.owners.tolist(), keys, block.times.tolist(), strict=True))):
        found.append(NO_KEY if key is None else later.get((owner, key), NEVER))
        later[owner, key] = time
    return found[::-1]


@pytest.mark.parametrize("kind", ["session", "item", "category", "brand"])
def test_keys_are_next_seen_where_a_walk_finds_them(block, sums, kind):
    keys = block.words[key_columns(block_world.dense_config())[kind]].text().to_pylist()
    assert sums.next_seen[kind].tolist() == next_times(block, keys)


def test_orders_are_next_seen_where_a_walk_finds_them(block, sums):
    names = [block.words[name].text().to_pylist() for name in ("event_type", "order_id", "session_id")]
    keys = []
    for kind, order, session, time in zip(*names, block.times.tolist(), strict=True):
        named = ("order", order) if order is not None else ("session", session)
        keys.append(None if kind != "purchase" else ("at", time) if named[1] is None else named)
    assert sums.next_seen["order"].tolist() == next_times(block, keys)


def test_sums_are_in_whole_cents_and_halves_go_up(block, sums):
    """12.5 cents are 13; 1.005 is, as a float64, just below its half cent."""
    cents = {0.0: 0, 0.1: 10, 0.2: 20, 19.99: 1999, 0.125: 13, 1.005: 100, 123456.78: 12345678}
    kinds, amounts = block.words["event_type"].text().to_pylist(), block.numbers["amount"].tolist()
    for kind in ("purchase", "return"):
        minor = [
            cents[amount]
            for name, amount in zip(kinds, amounts, strict=True)
            if name == kind and not math.isnan(amount)
        ]
        whole = sums.minor_units(kind, np.array([0]), np.array([len(block)]))
        assert whole.tolist() == [sum(minor)]
        assert sums.money[kind].amounts[sums.money[kind].amounts >= 0].tolist() == minor


def test_types_are_counted_that_the_configuration_or_a_task_names(block, sums):
    kinds = np.array(block.words["event_type"].text().to_pylist())
    assert set(sums.types) == {"view", "purchase", "return", "never", "cart"}
    for kind, events in sums.types.items():
        assert events.rows.tolist() == np.flatnonzero(kinds == kind).tolist()
        assert events.counts[[0, -1]].tolist() == [0, len(events.rows)]


def test_without_prices_there_is_no_money():
    columns = {"user_id": "u", "item_id": "i", "event_type": "t", "event_timestamp": "at"}
    config = parse_config({"events": {"path": "unused", "columns": columns}})
    block = EventBlock.of(block_world.dense_events(config, seed=1, rows=20), config)
    assert EventSums.of(block, config).money == {}

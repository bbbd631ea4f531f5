"""Keys of a project are told from those of others, whatever bytes their names and values hold."""

from __future__ import annotations

import pytest
from feast import ValueType
from hypothesis import given
from hypothesis import strategies as st
from redis_world import redis_server

from segmenter_plugin.store.keys import KeyEncoder
from segmenter_plugin.store.redis_keys import delete_packed, entity_key_size, walk

JOIN_KEYS = {"a*b[c]?\\": ValueType.STRING, "user": ValueType.INT64}


def keys_of(count, join_keys=JOIN_KEYS):
    columns = {"a*b[c]?\\": [f"u{i}\0shop" for i in range(count)], "user": list(range(count))}
    return KeyEncoder(join_keys)(columns)


@given(text=st.text(max_size=9), number=st.integers(-(2**63), 2**63 - 1), rest=st.binary(max_size=9))
def test_a_serialised_key_says_where_it_ends(text, number, rest):
    (key,) = KeyEncoder(JOIN_KEYS)({"a*b[c]?\\": [text], "user": [number]})
    assert entity_key_size(key + rest) == len(key)
    for cut in range(len(key)):
        assert entity_key_size(key[:cut]) is None


@pytest.fixture(scope="module")
def client():
    with redis_server() as server, server.client() as client:
        yield client


def test_a_walk_meets_its_own_keys_and_no_others(client):
    client.flushall()
    own = keys_of(2_300)
    others = [*keys_of(50, {"user": ValueType.INT64}), b"", b"other", b"\xff" * 40]
    for suffix in (b"shop", b"work_shop", b"shop\0view", b"sho?"):
        client.mset({key + suffix: b"1" for key in own + others})
    for suffix in (b"shop", b"shop\0view", b"sho?"):
        batches = list(walk(client, list(JOIN_KEYS), suffix))
        assert max(map(len, batches)) <= 1_000
        assert {key for batch in batches for key in batch} == set(own)
    assert list(walk(client, ["nobody"], b"shop")) == []


def test_packed_rows_are_deleted_by_view_or_all_and_nothing_else(client):
    client.flushall()
    own = keys_of(1_200)
    suffixes = (b"shop\0view", b"shop\0view_2", b"work_shop\0view", b"shop")
    client.mset({key + suffix: b"1" for key in own for suffix in suffixes})
    assert delete_packed(client, "shop", list(JOIN_KEYS), "view") == 1_200
    assert delete_packed(client, "shop", list(JOIN_KEYS), "view") == 0
    assert delete_packed(client, "shop", list(JOIN_KEYS)) == 1_200
    assert {key[len(own[0]) :] for key in client.scan_iter() if key.startswith(own[0])} == {b"work_shop\0view", b"shop"}

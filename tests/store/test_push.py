"""Fresh rows through Feast's push: online at once, newest row wins, and into the history where that is asked."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest
import served_world
import shop_tables
from feast.data_source import PushMode

from segmenter_plugin.store import training_frame

SERVICE = "ranking_g1"


@pytest.fixture(scope="module", params=served_world.ONLINE)
def shop(request, tmp_path_factory):
    """A shop as of 1 October, declared and online."""
    cutoff = shop_tables.day(10, 1)
    with served_world.online_store(request.param) as settings:
        shop = served_world.published_shop(tmp_path_factory.mktemp("push"), cutoff, settings)
        store = shop.store
        store.apply(shop.declared().objects(), partial=True)
        store.materialize(cutoff, cutoff)
        yield shop


def _segments(users, days, segments, created=None):
    count = len(users)
    times = pd.to_datetime([shop_tables.day(*day) for day in days], utc=True)
    return pd.DataFrame(
        {
            "user_id": users,
            "event_timestamp": times,
            "created_timestamp": times if created is None else pd.to_datetime([shop_tables.day(*created)] * count),
            "segment_id": segments,
            "segment_name": ["pushed"] * count,
            "segment_stability": [0.5] * count,
            "model_version": ["by hand"] * count,
            "trained_through": pd.to_datetime([shop_tables.day(9, 1)] * count, utc=True),
        }
    )


def _online(shop, users, feature="segment_id"):
    store = shop.store
    features = store.get_feature_service(SERVICE)
    return store.get_online_features(features=features, entity_rows={"user_id": users}).to_dict()[feature]


def test_a_pushed_row_is_online_at_once_and_the_others_stay(shop):
    before = _online(shop, shop.users)
    shop.store.push("user_segment_g1_push", _segments(["new", shop.users[0]], [(10, 5)] * 2, [41, 42]))
    assert _online(shop, ["new", *shop.users]) == [41, 42, *before[1:]]
    assert _online(shop, ["new"], "embedding") == [None]


def test_an_older_row_does_not_overwrite_a_newer_one(shop):
    user = shop.users[1]
    shop.store.push("user_segment_g1_push", _segments([user], [(10, 5)], [51]))
    shop.store.push("user_segment_g1_push", _segments([user], [(10, 4)], [52]))
    assert _online(shop, [user]) == [51]


def test_a_corrected_row_of_the_same_time_overwrites(shop):
    user = shop.users[2]
    shop.store.push("user_segment_g1_push", _segments([user], [(10, 5)], [61]))
    shop.store.push("user_segment_g1_push", _segments([user], [(10, 5)], [62], created=(10, 6)))
    assert _online(shop, [user]) == [62]


def test_of_two_rows_in_one_push_the_newest_stays(shop):
    users = ["twice", "once", "twice"]
    shop.store.push("user_segment_g1_push", _segments(users, [(10, 6), (10, 5), (10, 4)], [71, 72, 73]))
    assert _online(shop, ["twice", "once"]) == [71, 72]


def test_a_null_is_pushed_as_null(shop):
    shop.store.push(
        "user_segment_g1_push", _segments(["a", "b"], [(10, 5)] * 2, [81, None]).astype({"segment_id": "Int64"})
    )
    assert _online(shop, ["a", "b"]) == [81, None]
    assert _online(shop, ["b"], "segment_name") == ["pushed"]


def test_embeddings_keep_every_bit(shop):
    vectors = np.random.default_rng(0).normal(size=(300, shop_tables.DIMENSION)).astype(np.float32)
    users = [f"pushed-{number}" for number in range(300)]
    rows = _segments(users, [(10, 5)] * 300, [0] * 300).drop(
        columns=["segment_id", "segment_name", "segment_stability"]
    )
    shop.store.push("user_embedding_g1_push", rows.assign(embedding=list(vectors)))
    np.testing.assert_array_equal(np.array(_online(shop, users, "embedding"), np.float32), vectors)


def test_an_async_push_is_the_same(shop):
    store = shop.store
    if not store._get_provider().async_supported.online.write:
        pytest.skip("this store has no asynchronous writes, as in stock")
    asyncio.run(store.push_async("user_segment_g1_push", _segments(["later"], [(10, 5)], [91])))
    assert _online(shop, ["later"]) == [91]


def test_both_stores_take_the_same_row(shop):
    user, rows = shop.users[3], _segments([shop.users[3]], [(10, 5)], [77])
    shop.store.push("user_segment_g1_push", rows, to=PushMode.ONLINE_AND_OFFLINE)
    assert _online(shop, [user]) == [77]
    moment = pd.DataFrame({"user_id": [user], "event_timestamp": pd.to_datetime([shop_tables.day(10, 6)], utc=True)})
    assert training_frame(shop.store, SERVICE, moment)["segment_id"].tolist() == [77]
    before = moment.assign(event_timestamp=pd.Timestamp(shop_tables.day(10, 4)))
    assert training_frame(shop.store, SERVICE, before)["segment_id"].tolist() != [77]

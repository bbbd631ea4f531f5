"""Feast's precomputed services over our stores: Feast writes its blobs, and our answers are right with and without.

Of these services Feast 0.67 itself answers only requests with full feature names, for users who all have a blob, on
Redis; any other request is an error. Our stores read the views' own rows, which are fresher and quicker to decode.
"""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
import served_world
import shop_tables
import yaml
from feast import FeatureService

from segmenter_plugin.store.repository import open_store


@pytest.fixture(scope="module", params=served_world.ONLINE)
def world(request, tmp_path_factory):
    """The kind of store, and a shop online with the same views in a plain and in a precomputed service."""
    cutoff = shop_tables.day(10, 1)
    with served_world.online_store(request.param) as settings:
        shop = served_world.published_shop(tmp_path_factory.mktemp("precomputed"), cutoff, settings)
        declared = shop.declared()
        views = [declared.user_embedding, declared.user_scores]
        plain = FeatureService(name="plain", features=views)
        fast = FeatureService(name="precomputed", features=views, precompute_online=True)
        shop.store.apply([*declared.objects(), plain, fast], partial=True)
        shop.store.materialize(cutoff, cutoff)
        yield request.param, shop


def _answer(store, service, users, **options):
    return store.get_online_features(
        features=store.get_feature_service(service), entity_rows={"user_id": users}, **options
    ).to_dict()


@pytest.mark.parametrize("full_feature_names", [False, True], ids=["short", "full"])
def test_a_precomputed_service_answers_as_the_plain_one(world, full_feature_names):
    _, shop = world
    store = shop.store
    for users in (shop.users, [shop.users[3], "nobody", shop.users[0]], ["nobody"]):
        options = {"full_feature_names": full_feature_names}
        assert _answer(store, "precomputed", users, **options) == _answer(store, "plain", users, **options)
    known = _answer(store, "precomputed", shop.users, full_feature_names=full_feature_names)
    assert not [name for name, values in known.items() if None in values]


def test_a_pushed_row_is_in_the_next_answer(world):
    _, shop = world
    store = shop.store
    columns = _answer(store, "plain", shop.users[:1])
    row = pd.DataFrame(
        columns | {"event_timestamp": pd.to_datetime([shop_tables.day(10, 3)], utc=True), "model_version": ["pushed"]}
    ).assign(created_timestamp=pd.Timestamp(shop_tables.day(10, 3)), user_id=[shop.users[5]])
    store.push("user_scores_g1_push", row.drop(columns="embedding"))
    assert _answer(store, "precomputed", [shop.users[5]])["model_version"] == ["pushed"]


def test_feast_writes_one_blob_a_user_into_the_stock_layout_and_stock_reads_it(world, tmp_path):
    kind, shop = world
    written = shop.store.precompute_feature_service("precomputed")
    # Feast finds users by scanning keys of Redis' stock layout; elsewhere it warns and writes nothing.
    assert written == (len(shop.users) if kind == "stock" else 0)
    if kind != "stock":
        return
    shutil.copytree(shop.repo, tmp_path / "stock_repo")
    yaml_path = tmp_path / "stock_repo" / "feature_store.yaml"
    settings = yaml.safe_load(yaml_path.read_text())
    address = settings["online_store"]["connection_string"]
    yaml_path.write_text(yaml.safe_dump(settings | {"online_store": {"type": "redis", "connection_string": address}}))
    stock = open_store(yaml_path.parent)
    blobs = _answer(stock, "precomputed", shop.users, full_feature_names=True)
    assert blobs == _answer(shop.store, "plain", shop.users, full_feature_names=True)
    with pytest.raises(RuntimeError, match="pre-computed vectors could not be read"):
        _answer(stock, "precomputed", ["nobody"], full_feature_names=True)

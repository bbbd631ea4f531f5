"""Feast's own command line over our engine and stores, from apply to teardown."""

from __future__ import annotations

from datetime import timedelta

import pytest
import served_world

from segmenter_plugin.clock import publication_time
from segmenter_plugin.store import online_table

pytestmark = pytest.mark.slow

SERVICE = "ranking_g1"


@pytest.fixture(scope="module", params=served_world.ONLINE)
def shop(request, tmp_path_factory):
    """A shop published as of yesterday, so that an incremental materialisation takes it in; declared, not online."""
    cutoff = publication_time().replace(minute=0, second=0, microsecond=0) - timedelta(hours=20)
    with served_world.online_store(request.param) as settings:
        shop = served_world.published_shop(tmp_path_factory.mktemp("cli"), cutoff, settings)
        shop.feast("apply")
        yield shop


def _versions(shop):
    """Model versions that are online, by the view that they came with."""
    store = shop.store
    answer = store.get_online_features(
        features=store.get_feature_service(SERVICE), entity_rows={"user_id": shop.users}
    ).to_dict()
    return set(answer["model_version"]), answer["embedding"]


def _window(shop):
    return [(shop.cutoff - timedelta(hours=1)).isoformat(), (shop.cutoff + timedelta(hours=1)).isoformat()]


def _declared(shop):
    store = shop.store
    lists = (store.list_feature_views(), store.list_on_demand_feature_views(), store.list_feature_services())
    return [sorted(((thing.name, thing) for thing in things), key=lambda pair: pair[0]) for things in lists]


def test_applying_again_changes_nothing(shop):
    before = _declared(shop)
    shop.feast("apply")
    assert _declared(shop) == before
    assert [name for name, _ in before[1]] == ["user_item_affinity_g1"]
    assert "user_item_affinity_g1" in shop.feast("on-demand-feature-views", "list")


def test_incremental_puts_all_views_online(shop):
    output = shop.feast("materialize-incremental", publication_time().isoformat())
    for view in shop.store.list_feature_views():
        assert view.name in output
    table = online_table(shop.store, SERVICE, [*shop.users, "nobody"])
    assert table["found"].to_pylist() == [True] * len(shop.users) + [False]
    written = shop.written
    assert table["embedding"].to_pylist()[:-1] == written["scores"]["embedding"].to_pylist()
    for name in ("order_count_28d", "purchase_sum_28d", "recency_days"):
        assert table[name].to_pylist()[:-1] == written["behaviour"][name].to_pylist()
    assert table["segment_name"].to_pylist()[:-1] == written["segments"]["segment_name"].to_pylist()
    assert table["trained_through"].to_pylist()[:-1] == written["scores"]["trained_through"].to_pylist()


def test_one_view_is_materialised_alone_and_a_corrected_row_goes_online(shop):
    corrected = shop.rewrite(seed=5)
    shop.feast("materialize", *_window(shop), "--views", "user_scores_g1")
    versions, embeddings = _versions(shop)
    assert versions == {"version-5"}
    assert embeddings == shop.written["scores"]["embedding"].to_pylist()
    shop.feast("materialize", *_window(shop))
    assert _versions(shop)[1] == corrected["scores"]["embedding"].to_pylist()


def test_the_engine_is_ours_and_nothing_falls_back(shop):
    output = shop.feast("--log-level", "INFO", "materialize", *_window(shop))
    lines = [line for line in output.splitlines() if "segmenter_plugin.store.engine" in line]
    for view in shop.store.list_feature_views():
        assert any(view.name in line for line in lines), output
    assert "local engine" not in output


def test_teardown_takes_everything_away(shop):
    before = _versions(shop)
    shop.feast("teardown")
    shop.feast("apply")
    versions, embeddings = _versions(shop)
    assert before[0] == {"version-5"}
    assert versions == {None}
    assert set(embeddings) == {None}

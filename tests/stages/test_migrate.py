"""`segmenter migrate-online` on a shop whose features are online."""

from __future__ import annotations

import json

import pytest
import served_world
import shop_tables

from segmenter_plugin.cli import main
from segmenter_plugin.errors import StoreError
from segmenter_plugin.stages.migrate import migrate_online


def _answers(shop):
    service = shop.store.get_feature_service("ranking_g1")
    rows = {"user_id": [*shop.users, "nobody"]}
    return shop.store.get_online_features(features=service, entity_rows=rows).to_dict()


def _switch(shop, layout):
    path = shop.repo / "feature_store.yaml"
    path.write_text(path.read_text().replace("layout: stock", f"layout: {layout}"))


def test_answers_stay_the_same_through_a_move(tmp_path, monkeypatch, capsys):
    cutoff = shop_tables.day(10, 1)
    with served_world.online_store("stock") as settings:
        shop = served_world.published_shop(tmp_path, cutoff, settings)
        shop.store.apply(shop.declared().objects(), partial=True)
        shop.store.materialize(cutoff, cutoff)
        before = _answers(shop)
        assert None in before["embedding"]
        result = migrate_online(shop.config, "packed", keep_old=True)
        assert [view["moved"] for view in result["views"]] == [len(shop.users)] * 4
        assert _answers(shop) == before
        _switch(shop, "packed")
        assert _answers(shop) == before
        monkeypatch.setattr("segmenter_plugin.commands.serve.load", lambda *_: shop.config)
        main(["migrate-online", "--to", "packed"])
        printed = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [view["deleted"] for view in printed["views"]] == [len(shop.users)] * 4
        assert _answers(shop) == before


def test_sqlite_has_one_layout(tmp_path):
    shop = served_world.published_shop(tmp_path, shop_tables.day(10, 1), served_world.SQLITE)
    shop.store.apply(shop.declared().objects(), partial=True)
    with pytest.raises(StoreError, match="one layout only"):
        migrate_online(shop.config, "packed")

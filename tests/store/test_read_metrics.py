"""What Feast counts of a lookup is counted of ours."""

from __future__ import annotations

import dataclasses

import pytest
import read_world
from read_world import ArrowDictStore, StockDictStore

from segmenter_plugin.store import read_metrics


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """What each of Feast's store and ours counts of one lookup."""
    from feast import metrics

    declared = read_world.declared()
    rows: read_world.Rows = {}
    calls: list[tuple] = []
    monkeypatch.setattr(metrics, "_config", dataclasses.replace(metrics._config, online_features=True))
    monkeypatch.setattr(metrics, "track_online_store_read", lambda seconds: calls.append(("read", seconds > 0)))
    monkeypatch.setattr(metrics, "track_feature_statuses", lambda *counts: calls.append(counts))

    def count(online_store) -> list[tuple]:
        store = read_world.project(tmp_path / type(online_store).__name__, *declared.values())
        read_world.put(ArrowDictStore(rows), store.config, declared["tastes"], read_world.tastes_batch(["a", "b"]))
        asked = {"user_id": ["a", "nobody", "b"], "item_id": [1, 2, 3]}
        read_world.over(store, online_store).get_online_features(
            ["tastes:spend", "tastes:visits", "prices:price"], asked
        )
        counts = sorted(calls, key=str)
        calls.clear()
        return counts

    return count(StockDictStore(rows)), count(ArrowDictStore(rows))


def test_the_same_is_counted_as_in_feast(counted):
    stock, ours = counted
    assert ours == stock == sorted([("read", True), ("tastes", 4, 2), ("prices", 0, 3)], key=str)


def test_nothing_is_counted_without_a_metrics_server():
    assert not read_metrics.reads_are_counted()


def test_feast_without_its_metrics_packages_is_no_error(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "feast.metrics", None)
    monkeypatch.delattr("feast.metrics", raising=False)
    read_metrics._feast_metrics.cache_clear()
    try:
        assert not read_metrics.reads_are_counted()
        read_metrics.count_seconds(1.0)
    finally:
        read_metrics._feast_metrics.cache_clear()

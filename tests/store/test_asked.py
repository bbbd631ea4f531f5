"""A service is resolved once, and again when the registry has changed."""

from __future__ import annotations

import pyarrow as pa
import pytest
import read_world
from feast import FeatureService, ValueType

from segmenter_plugin.errors import StoreError, UserError
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.store import asked as module
from segmenter_plugin.store.asked import asked_service


@pytest.fixture
def store(tmp_path):
    declared = read_world.declared()
    own = FeatureService(name="own", features=[declared["tastes"]])
    priced = FeatureService(name="priced", features=[declared["prices"]])
    return read_world.project(tmp_path / "repo", *declared.values(), own, priced)


def test_what_a_lookup_needs(store):
    asked = asked_service(store, "own")
    assert (asked.join_key, asked.key_type) == ("user_id", pa.string())
    assert asked.types["embedding"] == ValueType.FLOAT_LIST
    assert list(asked.types) == asked.schema.names
    assert asked.schema.field("embedding").type == pa.list_(pa.float32())
    assert asked.schema.field("seen").type == TIMESTAMP
    assert asked_service(store, "priced").key_type == pa.int64()


def test_a_service_is_resolved_once(store, monkeypatch):
    resolved = []
    resolve = module._resolve
    monkeypatch.setattr(module, "_resolve", lambda store, name: resolved.append(name) or resolve(store, name))
    first = asked_service(store, "own")
    assert asked_service(store, "own") is first
    assert resolved == ["own"]
    monkeypatch.setattr(type(store.registry), "is_cache_valid", lambda _: False)
    asked_service(store, "own")
    assert resolved == ["own", "own"]


def test_a_changed_service_is_seen_at_once(store):
    assert len(asked_service(store, "own").types) == 5
    tastes = store.get_feature_view("tastes")
    store.apply([FeatureService(name="own", features=[tastes[["spend"]]])], partial=True)
    assert list(asked_service(store, "own").types) == ["spend"]


def test_a_service_over_two_entities_is_refused(store):
    with pytest.raises(StoreError, match="join keys"):
        asked_service(store, "shelf")


def test_ids_as_the_entity_has_them(store):
    assert asked_service(store, "own").user_ids([7, "a"]) == ["7", "a"]
    assert asked_service(store, "priced").user_ids(["7", 8]) == [7, 8]
    for wrong in ("a", 2**63, None):
        with pytest.raises(UserError, match="is not an int64"):
            asked_service(store, "priced").user_ids([wrong])

"""Requests are resolved once, and again when the registry has changed."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import read_world
from feast import Entity, FeatureService, FeatureView, Field, OnDemandFeatureView, RequestSource, ValueType
from feast.errors import FeatureNameCollisionError, FeatureViewNotFoundException
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float32, Float64, Int64, String

from segmenter_plugin.store import plan as plans
from segmenter_plugin.store.plan import Plans, entity_keys, make_plan, read_entities


@pytest.fixture
def world(tmp_path):
    declared = read_world.declared(ttl=timedelta(days=2, microseconds=3))
    store = read_world.project(tmp_path / "repo", *declared.values())
    return SimpleNamespace(store=store, config=store.config, registry=store.registry, **declared)


def _made(world, features, full_names=False):
    return make_plan(world.config, world.registry, "reads", features, full_names)


def test_a_plan_holds_what_the_request_names_in_its_order(world):
    plan = _made(world, ["prices:price", "tastes:segment", "tastes:embedding"], full_names=True)
    assert [view.label for view in plan.views] == ["prices", "tastes"]
    assert plan.views[1].features == ("segment", "embedding")
    assert plan.views[1].answers == ("tastes__segment", "tastes__embedding")
    assert [decoder.value_type for decoder in plan.views[1].decoders] == [ValueType.STRING, ValueType.FLOAT_LIST]
    assert plan.join_keys == {"item_id": ValueType.INT64, "user_id": ValueType.STRING}
    assert [plan.keys[view.key].columns for view in plan.views] == [
        (("item_id", "item_id"),),
        (("user_id", "user_id"),),
    ]


def test_views_of_one_entity_share_their_keys(world):
    other = FeatureView(
        name="other",
        entities=[read_world.USER],
        schema=[Field(name="user_id", dtype=String), Field(name="y", dtype=Float32)],
        source=read_world.source("other"),
    )
    world.store.apply([other], partial=True)
    plan = _made(world, ["tastes:spend", "other:y"])
    assert [view.key for view in plan.views] == [0, 0]
    assert len(plan.keys) == 1


def test_ttl_counts_only_where_the_store_enforces_it(world, monkeypatch):
    assert not _made(world, world.service).enforces_ttl
    monkeypatch.setattr(type(world.config.online_store), "enforce_ttl", True, raising=False)
    plan = _made(world, world.service)
    assert plan.enforces_ttl
    assert [view.ttl_nanos for view in plan.views] == [2 * 86_400 * 10**9 + 3_000, None]


def test_what_feast_refuses_is_refused_in_its_words(world):
    with pytest.raises(FeatureViewNotFoundException):
        _made(world, ["nothing:x"])
    with pytest.raises(FeatureNameCollisionError):
        _made(world, ["tastes:spend", "tastes:spend"])
    with pytest.raises(KeyError, match="unheard"):
        _made(world, ["tastes:unheard"])


def test_on_demand_views_and_views_without_an_entity_are_left_to_feast(world):
    def double(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"doubled": inputs["spend"] * inputs["factor"]})

    on_demand = OnDemandFeatureView(
        name="on_demand",
        sources=[world.tastes, RequestSource(name="asked", schema=[Field(name="factor", dtype=Float32)])],
        schema=[Field(name="doubled", dtype=Float64)],
        udf=double,
        udf_string="double",
    )
    everyone = FeatureView(
        name="everyone", schema=[Field(name="mean", dtype=Float32)], source=read_world.source("everyone")
    )
    world.store.apply([on_demand, everyone], partial=True)
    assert _made(world, ["on_demand:doubled"]) is None
    assert _made(world, ["everyone:mean"]) is None
    assert _made(world, ["tastes:spend"]) is not None


def test_one_column_that_two_views_type_differently_is_left_to_feast(world):
    number = Entity(name="number", join_keys=["user_id"], value_type=ValueType.INT64)
    other = FeatureView(
        name="other",
        entities=[number],
        schema=[Field(name="user_id", dtype=Int64), Field(name="y", dtype=Float32)],
        source=read_world.source("other"),
    )
    world.store.apply([number, other], partial=True)
    assert _made(world, ["tastes:spend", "other:y"]) is None


def test_renamed_join_keys(world):
    renamed = world.tastes.with_name("friend").with_join_key_map({"user_id": "friend_id"})
    own = world.tastes.with_name("own")  # Feast cannot compare a view with an alias to one without
    service = FeatureService(name="friends", features=[own[["spend"]], renamed[["segment"]]])
    world.store.apply([service], partial=True)
    plan = _made(world, service)
    assert [view.label for view in plan.views] == ["own", "friend"]
    assert [view.stored for view in plan.views] == ["tastes", "tastes"]
    assert plan.keys[1].columns == (("user_id", "friend_id"),)
    entities = read_entities(plan, {"user_id": ["a"], "friend_id": ["b"]})
    own, friend = entity_keys(plan, entities)
    assert own != friend
    assert friend == entity_keys(plan, {"user_id": ["b"], "friend_id": ["c"]})[0]


@pytest.fixture
def counted(monkeypatch):
    """How often a request is resolved."""
    calls = []

    def counting(*arguments):
        calls.append(arguments)
        return make_plan(*arguments)

    monkeypatch.setattr(plans, "make_plan", counting)
    return calls


def _asked(kept, world, features, project="reads", full_names=False):
    return kept.plan(world.config, world.registry, project, features, full_names)


def test_a_request_is_resolved_once(world, counted):
    kept = Plans()
    first = _asked(kept, world, world.service)
    assert _asked(kept, world, world.service) is first
    assert _asked(kept, world, ["tastes:spend"]) is _asked(kept, world, ["tastes:spend"])
    assert len(counted) == 2
    assert _asked(kept, world, ["tastes:spend"], full_names=True).views[0].answers == ("tastes__spend",)


def test_a_list_named_like_a_service_is_something_else(world, counted):
    kept = Plans()
    _asked(kept, world, world.service)
    with pytest.raises(ValueError, match="shelf"):
        _asked(kept, world, ["shelf"])


def test_a_changed_registry_is_seen_at_once(world, counted):
    kept = Plans()
    assert len(_asked(kept, world, world.service).views) == 2
    world.store.apply([FeatureService(name="shelf", features=[world.prices])], partial=True)
    assert [view.label for view in _asked(kept, world, world.store.get_feature_service("shelf")).views] == ["prices"]


def test_a_stale_registry_cache_is_resolved_again(world, counted, monkeypatch):
    kept = Plans()
    _asked(kept, world, world.service)
    monkeypatch.setattr(type(world.registry), "is_cache_valid", lambda _: False)
    _asked(kept, world, world.service)
    assert len(counted) == 2


def test_another_store_does_not_empty_our_plans(world, counted, tmp_path):
    kept = Plans()
    other = read_world.project(tmp_path / "other", *read_world.declared().values())
    _asked(kept, world, world.service)
    Plans().plan(other.config, other.registry, "reads", world.service, False)
    _asked(kept, world, world.service)
    assert len(counted) == 2


def test_plans_do_not_grow_without_end(world, monkeypatch):
    monkeypatch.setattr(plans, "PLANS_KEPT", 2)
    kept = Plans()
    for features in (["tastes:spend"], ["tastes:visits"], ["tastes:segment"]):
        _asked(kept, world, features)
    assert len(kept._kept[1]) == 1


def test_rows_and_columns_are_the_same_request(world):
    plan = _made(world, world.service)
    columns = {"user_id": ["a", "b"], "item_id": [1, 2]}
    rows = [{"user_id": "a", "item_id": 1}, {"item_id": 2, "user_id": "b"}]
    assert read_entities(plan, columns) == read_entities(plan, rows) == columns
    assert list(read_entities(plan, {"item_id": [1], "user_id": ["a"]})) == ["item_id", "user_id"]


def test_values_of_another_type_become_what_feast_makes_of_them(world):
    plan = _made(world, world.service)
    entities = read_entities(plan, {"user_id": ("a", "b"), "item_id": [np.int64(3), 4]})
    assert entities == {"user_id": ["a", "b"], "item_id": [3, 4]}
    assert {type(value) for value in entities["item_id"]} == {int}


@pytest.mark.parametrize(
    "asked",
    [
        [],
        {"user_id": [], "item_id": []},
        {"user_id": ["a", "b"], "item_id": [1]},
        [{"user_id": "a", "item_id": 1}, {"user_id": "b"}],
        [{"user_id": "a", "item_id": 1}, {"user_id": "b", "other": 2}],
        [{"user_id": "a", "item_id": 1}, {"user_id": "b", "item_id": 2, "other": 3}],
        {"user_id": ["a"], "item_id": [Value(int64_val=1)]},
        {"user": ["a"], "item_id": [1]},
        {"user_id": np.array(["a"]), "item_id": [1]},
    ],
    ids=["no rows", "empty", "unequal", "a row less", "another key", "a row more", "messages", "entity name", "array"],
)
def test_what_feast_has_to_see_is_left_to_it(world, asked):
    assert read_entities(_made(world, world.service), asked) is None


def test_a_column_that_means_nothing_is_ignored(world):
    plan = _made(world, ["tastes:spend"])
    assert read_entities(plan, {"user_id": ["a"], "note": ["x"]}) == {"user_id": ["a"]}
    assert read_entities(plan, {"user_id": ["a"], "note": ["x", "y"]}) is None
    assert read_entities(plan, {"user_id": ["a"], "item_id": [1]}) is None  # Feast repeats it in its answer


def test_half_a_key_is_refused(world):
    with pytest.raises(KeyError, match="item_id"):
        read_entities(_made(world, ["pairs:clicks"]), {"user_id": ["a"]})


def test_a_number_beyond_its_type_is_left_to_feast(world):
    assert entity_keys(_made(world, ["prices:price"]), {"item_id": [2**70]}) is None

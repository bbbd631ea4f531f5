"""Declared views, in our own names and in a team's repository."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    PushSource,
    ValueType,
)
from feast.types import Float32, Int64

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.store import user_value_views, views_from_config
from segmenter_plugin.store.repository import open_store


def _file(view):
    return FileSource(name=f"{view}_files", path=f"/nowhere/{view}/*/*.parquet", timestamp_field="event_timestamp")


def _declare(**options):
    return user_value_views(
        **{"source": _file, "activity_columns": ["order_count_28d"], "score_columns": ["purchase_14d_probability"]}
        | options
    )


def test_each_view_has_its_columns_source_and_push_source():
    declared = _declare(owner="me@example.com", tags={"team": "ranking"}, ttl=timedelta(days=30))
    columns = {view.name: [field.name for field in view.features] for view in declared.views}
    assert columns == {
        "user_activity": ["order_count_28d"],
        "user_embedding_g1": ["embedding"],
        "user_scores_g1": ["purchase_14d_probability", "model_version", "trained_through"],
        "user_segment_g1": ["segment_id", "segment_name", "segment_stability"],
    }
    assert [source.name for source in declared.push_sources] == [f"{name}_push" for name in columns]
    for view in declared.views:
        assert view.batch_source.name == f"{view.name}_files"
        assert view.owner == "me@example.com"
        assert view.ttl == timedelta(days=30)
        assert view.tags["team"] == "ranking"
        assert view.tags["segmenter.generation"] == "g1"
        assert view.entities == ["user"]
    assert declared.service.name == "ranking_g1"


def test_objects_are_everything_once():
    declared = _declare()
    kinds = [type(thing) for thing in declared.objects()]
    counts = {Entity: 1, FileSource: 4, PushSource: 4, FeatureView: 4, FeatureService: 2, OnDemandFeatureView: 1}
    assert {kind: kinds.count(kind) for kind in set(kinds)} == counts
    assert len({id(thing) for thing in declared.objects()}) == len(kinds)


def test_a_view_without_source_is_left_out():
    declared = _declare(source=lambda view: None if view == "user_activity" else _file(view), activity_columns=())
    assert declared.user_activity is None
    assert len(declared.service.feature_view_projections) == 3


def test_the_affinity_has_a_service_of_its_own_and_goes_with_the_embedding():
    declared = _declare(generation="g2", name_prefix="shop_", owner="me@example.com")
    assert declared.user_item_affinity.name == "shop_user_item_affinity_g2"
    assert declared.user_item_affinity.owner == "me@example.com"
    assert declared.user_item_affinity.tags["segmenter.generation"] == "g2"
    assert declared.item_service.name == "shop_ranking_items_g2"
    asked = [projection.name for projection in declared.item_service.feature_view_projections]
    assert asked == [*(view.name for view in declared.views), "shop_user_item_affinity_g2"]
    assert "affinity" not in str([projection.name for projection in declared.service.feature_view_projections])
    without = _declare(source=lambda view: None if view.startswith("user_embedding") else _file(view))
    assert without.user_item_affinity is None
    assert without.item_service is None
    assert not [thing for thing in without.objects() if thing is None]


def test_own_arrow_fields_are_served_as_they_are():
    declared = _declare(activity_columns=[pa.field("loyalty_points", pa.int64())])
    assert declared.user_activity.features == [Field(name="loyalty_points", dtype=Int64)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": lambda _: None}, "nothing would be declared"),
        ({"activity_columns": ()}, "\\['user_activity'\\] have no columns"),
        ({"score_columns": ["order_count_28d"]}, "'order_count_28d'"),
        ({"activity_columns": ["user_id"]}, "'user_id'"),
        ({"activity_columns": ["event_timestamp"]}, "'event_timestamp'"),
        ({"generation": "first"}, "'first' is not a generation"),
        ({"name_prefix": "my-"}, "'my-'"),
        ({"user_type": pa.date32()}, "date32"),
    ],
)
def test_contradictions_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        _declare(**options)


def test_a_configuration_names_everything(shop, tmp_path):
    config = shop.shop_config(
        tmp_path, entity="customer", join_key="customer_id", generation="g2", ttl_days=7, name_prefix="shop_"
    )
    declared = views_from_config(config, source=_file, user_type=pa.int64())
    assert declared.entity.name == "customer"
    assert declared.entity.join_key == "customer_id"
    assert declared.entity.value_type == ValueType.INT64
    assert declared.user_scores.name == "shop_user_scores_g2"
    assert declared.user_scores.ttl == timedelta(days=7)
    names = [field.name for field in declared.user_scores.features]
    assert {"spend_14d_gap7d_expected", "spend_14d_gap7d_p90", "value_score"} <= set(names)
    assert "funnel_14d_probabilities" in names


def test_an_entity_without_type_takes_the_one_given(team_repo):
    with pytest.warns(DeprecationWarning, match="value_type"):
        untyped = Entity(name="customer", join_keys=["customer_id"])
    declared = _declare(entity=untyped, user_type=pa.int64())
    assert declared.user_scores.entity_columns == [Field(name="customer_id", dtype=Int64)]
    store = open_store(team_repo)
    store.apply(declared.objects(), partial=True)
    assert store.get_feature_view("user_scores_g1").entity_columns[0].dtype == Int64
    assert _declare(entity=untyped).user_scores.entity_columns == []


@pytest.fixture
def busy(team_repo):
    """A repository that already has an entity, three views and a service."""
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING, description="Ours.")
    views = [
        FeatureView(
            name=name, entities=[customer], schema=[Field(name=f"{name}_value", dtype=Float32)], source=_file(name)
        )
        for name in ("basket", "address", "credit")
    ]
    store = open_store(team_repo)
    store.apply([customer, *views, FeatureService(name="checkout", features=views)])
    return store, customer


def test_a_partial_apply_keeps_what_was_there(busy, team_repo):
    store, customer = busy
    declared = _declare(entity=customer, name_prefix="value_")
    store.apply(declared.objects(), partial=True)
    again = open_store(team_repo)
    views = {view.name: view for view in again.list_feature_views()}
    assert {"basket", "address", "credit"} < set(views)
    assert len(views) == 7
    services = {service.name for service in again.list_feature_services()}
    assert services == {"checkout", "value_ranking_g1", "value_ranking_items_g1"}
    assert views["value_user_scores_g1"].entities == ["customer"]
    assert [column.name for column in views["value_user_scores_g1"].entity_columns] == ["customer_id"]
    assert again.get_entity("customer").description == "Ours."
    assert len(again.get_feature_service("checkout").feature_view_projections) == 3


def test_applying_twice_is_applying_once(busy, team_repo):
    store, customer = busy
    for _ in range(2):
        store.apply(_declare(entity=customer).objects(), partial=True)
    assert len(open_store(team_repo).list_feature_views()) == 7

"""Online rows of a team's own entity."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.errors import StoreError
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.store import online_frame, online_table
from segmenter_plugin.store.repository import open_store

SERVICE = "value_ranking_g1"


def test_users_come_in_the_order_asked_and_as_often(team):
    asked = [team.users[3], team.users[0], team.users[3]]
    table = online_table(team.store, SERVICE, asked)
    assert table.column_names[:2] == ["customer_id", "found"]
    assert table["customer_id"].to_pylist() == asked
    assert table["embedding"][0] == table["embedding"][2]
    assert table["embedding"][0] != table["embedding"][1]


def test_types_are_the_published_ones(team):
    table = online_table(team.store, SERVICE, team.users[:2])
    published = pq.read_schema(Layout.of(team.config).feature("user_scores_g1", team.second) / "part-00000.parquet")
    for name in published.names:
        if name in table.column_names and name != "customer_id":
            assert table.schema.field(name).type == published.field(name).type, name
    assert table.schema.field("trained_through").type == TIMESTAMP
    assert table.schema.field("embedding").type == pa.list_(pa.float32())


def test_more_users_than_one_call_takes(team, monkeypatch):
    monkeypatch.setattr("segmenter_plugin.store.retrieve.USERS_PER_CALL", 7)
    table = online_table(team.store, SERVICE, team.users)
    assert table["customer_id"].to_pylist() == team.users
    assert table["found"].to_pylist() == [True] * len(team.users)
    assert table["model_version"].to_pylist() == ["version-2"] * 39 + ["version-1"]


def test_no_users_give_an_empty_table(team):
    table = online_table(team.store, SERVICE, [])
    assert table.num_rows == 0
    assert "embedding" in table.column_names


def test_integers_stay_integers_beside_a_missing_user(team):
    frame = online_frame(team.store, SERVICE, [team.users[0], "nobody"])
    assert frame["segment_id"].dtype == pd.Int64Dtype()
    assert frame["found"].tolist() == [True, False]
    assert frame["segment_id"].isna().tolist() == [False, True]
    assert frame["embedding"][1] is None


def test_a_number_is_a_text_where_ids_are_texts(team):
    assert online_table(team.store, SERVICE, [7])["customer_id"].to_pylist() == ["7"]


@pytest.fixture
def fresh(team_repo, team):
    """The same declarations in another project, never materialised."""
    from segmenter_plugin.store.views import views_from_config

    def source(view):
        return team.store.get_feature_view(f"value_{view}").batch_source

    store = open_store(team_repo)
    declared = views_from_config(team.config, source=source, entity=team.customer, user_type=pa.string())
    store.apply(declared.objects(), partial=True)
    return store


def test_reading_before_materialising_is_told(fresh):
    with pytest.raises(StoreError, match="has been materialised yet") as caught:
        online_table(fresh, SERVICE, ["a"])
    assert "segmenter materialize" in caught.value.hint


def test_a_view_that_feast_holds_back_is_told(fresh, team_repo):
    from feast.feature_view import FeatureViewState

    yaml = team_repo / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace(", serve_features_while_materializing: true", ""))
    view = fresh.get_feature_view("value_user_scores_g1")
    view.state = FeatureViewState.MATERIALIZING
    fresh.registry.apply_feature_view(view, fresh.project, commit=True)
    with pytest.raises(StoreError, match="in state 'MATERIALIZING'") as caught:
        online_table(open_store(team_repo), SERVICE, ["a"])
    assert "serve_features_while_materializing: true" in caught.value.hint

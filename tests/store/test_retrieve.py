"""Online rows of a team's own entity."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import StoreError
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.store import OnlineMatrix, online_frame, online_matrix, online_table
from segmenter_plugin.store.repository import open_store

SERVICE = "value_ranking_g1"


@pytest.fixture(scope="module", params=["stock", "ours"])
def team(request, team, tmp_path_factory):
    """The team's project, read through Feast's SQLite store and through ours, over the same file."""
    if request.param == "stock":
        return team
    theirs = team.store.repo_path
    yaml = (theirs / "feature_store.yaml").read_text()
    yaml = yaml.replace("type: sqlite", "type: segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore")
    folder = tmp_path_factory.mktemp("ours")
    (folder / "feature_store.yaml").write_text(yaml.replace("path: data", f"path: {theirs}/data"))
    return SimpleNamespace(**vars(team) | {"store": open_store(folder)})


def test_users_come_in_the_order_asked_and_as_often(team):
    asked = [team.users[3], team.users[0], team.users[3]]
    table = online_table(team.store, SERVICE, asked)
    assert table.column_names[:2] == ["customer_id", "found"]
    assert table["customer_id"].to_pylist() == asked
    assert table["embedding"][0] == table["embedding"][2]
    assert table["embedding"][0] != table["embedding"][1]


def test_types_are_the_published_ones(team):
    table = online_table(team.store, SERVICE, team.users[:2])
    published = pq.read_schema(data_files(Layout.of(team.config).feature("user_scores_g1", team.second))[0])
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


def test_the_matrix_holds_the_numbers_of_the_table(team):
    asked = [team.users[3], "nobody", team.users[0]]
    matrix, frame = online_matrix(team.store, SERVICE, asked), online_frame(team.store, SERVICE, asked)
    assert isinstance(matrix, OnlineMatrix)
    assert matrix.values.dtype == np.float32
    assert matrix.found.tolist() == frame["found"].tolist() == [True, False, True]
    dim = len(frame["embedding"][0])
    places = [matrix.columns.index(f"embedding_{i}") for i in range(dim)]
    assert places == list(range(places[0], places[0] + dim))
    assert matrix.values[2, places].tolist() == frame["embedding"][2].tolist()
    assert np.isnan(matrix.values[1]).all()
    for name in set(matrix.columns) & set(frame.columns) - {"embedding"}:
        expected = frame[name].astype("Float64").to_numpy(np.float32, na_value=np.nan)
        assert np.array_equal(matrix.values[:, matrix.columns.index(name)], expected, equal_nan=True), name
    left_out = set(frame.columns) - set(matrix.columns)
    assert {"model_version", "trained_through", "segment_name", "customer_id", "found", "embedding"} <= left_out
    assert "segment_id" in matrix.columns


def test_the_matrix_has_the_columns_that_the_model_was_trained_on(team):
    trained = online_matrix(team.store, SERVICE, team.users[:2]).columns
    chosen = [trained[-1], "embedding_1", trained[0]]
    whole = online_matrix(team.store, SERVICE, team.users[:2])
    part = online_matrix(team.store, SERVICE, team.users[:2], columns=chosen)
    assert part.columns == tuple(chosen)
    assert np.array_equal(part.values, whole.values[:, [trained.index(name) for name in chosen]])
    with pytest.raises(StoreError, match="no column 'embedding_99'"):
        online_matrix(team.store, SERVICE, team.users[:2], columns=["embedding_99"])


def test_users_who_are_all_missing_have_the_columns_of_the_model(team):
    trained = online_matrix(team.store, SERVICE, team.users[:1]).columns
    matrix = online_matrix(team.store, SERVICE, ["nobody", "noone"], columns=trained)
    assert matrix.values.shape == (2, len(trained))
    assert np.isnan(matrix.values).all()
    assert matrix.found.tolist() == [False, False]
    with pytest.raises(StoreError, match="none of the 1 users has 'embedding'") as caught:
        online_matrix(team.store, SERVICE, ["nobody"])
    assert "columns=" in caught.value.hint
    with pytest.raises(StoreError, match="no column 'unheard_of'"):
        online_matrix(team.store, SERVICE, ["nobody"], columns=["unheard_of"])


def test_a_matrix_of_several_calls_with_one_that_finds_nobody(team, monkeypatch):
    asked = ["nobody", "noone", *team.users[:3]]
    whole = online_matrix(team.store, SERVICE, asked)
    monkeypatch.setattr("segmenter_plugin.store.retrieve.USERS_PER_CALL", 2)
    parts = online_matrix(team.store, SERVICE, asked)
    assert parts.columns == whole.columns
    assert np.array_equal(parts.values, whole.values, equal_nan=True)
    assert parts.found.tolist() == [False, False, True, True, True]
    assert online_matrix(team.store, SERVICE, [], columns=whole.columns).values.shape == (0, len(whole.columns))

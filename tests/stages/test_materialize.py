"""Materialising through Feast's own command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from segmenter_plugin.errors import MissingStageError, StoreError, UserError
from segmenter_plugin.stages.gate import gate
from segmenter_plugin.stages.lookup import lookup
from segmenter_plugin.stages.materialize import materialize
from segmenter_plugin.stages.publish import publish


def _models(config, users):
    return [row["model_version"] for row in lookup(config, users)["rows"]]


def test_the_window_takes_in_the_cutoffs_themselves(served):
    assert served.result["views"] == ["user_activity", "user_embedding_g1", "user_scores_g1", "user_segment_g1"]
    assert served.result["start"] == "2017-10-01T00:00:00+00:00"
    assert served.result["end"] == "2017-11-01T00:00:00+00:00"


@pytest.mark.slow
def test_an_older_cutoff_does_not_replace_a_newer_row_online(served):
    before = _models(served.config, served.users[:3])
    result = materialize(served.config, [served.first])
    assert result["end"] == "2017-11-01T00:00:00+00:00"
    assert _models(served.config, served.users[:3]) == before == ["version-1", "version-2", "version-2"]


def test_a_view_that_was_killed_while_materialising_is_served_and_done_again(served):
    from feast.feature_view import FeatureViewState

    from segmenter_plugin.store.repository import open_store

    def state():
        return open_store(Path(served.config.store.feature_repo)).get_feature_view("user_scores_g1").state

    store = open_store(Path(served.config.store.feature_repo))
    view = store.get_feature_view("user_scores_g1")
    view.state = FeatureViewState.MATERIALIZING
    store.registry.apply_feature_view(view, store.project, commit=True)
    assert state() == FeatureViewState.MATERIALIZING
    assert _models(served.config, served.users[1:2]) == ["version-2"]
    materialize(served.config, [served.second])
    assert state() == FeatureViewState.AVAILABLE_ONLINE


def test_views_that_were_not_declared_are_told(shop, tmp_path):
    config = shop.shop_config(tmp_path)
    shop.write_shop(config, shop.day(10, 1), users=[1, 2], user_type=pa.int64())
    publish(config, [shop.day(10, 1)])
    with pytest.raises(StoreError, match=r"no feature_store.yaml"):
        materialize(config, [shop.day(10, 1)])
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    shutil.copy(Path(__file__).parents[2] / "feature_repo" / "feature_store.yaml", repo)
    with pytest.raises(StoreError, match=r"'ranking_g1' is not in the registry.*\[\]") as caught:
        materialize(config, [shop.day(10, 1)])
    assert "partial=True" in caught.value.hint


def test_an_unpublished_cutoff_is_told(served, shop):
    with pytest.raises(MissingStageError, match="has not been built") as caught:
        materialize(served.config, [shop.day(12, 1)])
    assert "segmenter publish --cutoff 2017-12-01T00:00:00Z" in caught.value.hint
    with pytest.raises(UserError, match="no cutoff"):
        materialize(served.config, [])


@pytest.mark.slow
def test_a_corrected_row_of_the_same_cutoff_goes_online(served_anew, shop):
    config, users = served_anew.config, served_anew.users
    shop.write_shop(config, served_anew.second, users=users[1:], user_type=pa.int64(), seed=9)
    publish(config, [served_anew.second], created_at="2017-11-03T10:00:00Z")
    gate(config, [served_anew.second], accept="random rows of two models")
    materialize(config, [served_anew.second])
    assert _models(config, users[:3]) == ["version-1", "version-9", "version-9"]


@pytest.mark.slow
def test_applying_again_changes_nothing_that_is_served(served_anew):
    from segmenter_plugin.store.repository import open_store, run_feast

    config, repo = served_anew.config, Path(served_anew.config.store.feature_repo)
    run_feast(repo, ["apply", "--skip-source-validation"])
    assert _models(config, served_anew.users[:2]) == ["version-1", "version-2"]
    views = open_store(repo).list_feature_views()
    assert len(views) == 4
    assert all(view.materialization_intervals for view in views)

"""Names of views, services and folders."""

from __future__ import annotations

import pytest
import shop_tables

from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.errors import ConfigError


def test_the_prefix_is_in_the_registry_and_not_in_the_folders():
    names = FeatureNames("g2", "shop_")
    assert names.folders == ("user_activity", "user_embedding_g2", "user_scores_g2", "user_segment_g2")
    assert names.views == (
        "shop_user_activity",
        "shop_user_embedding_g2",
        "shop_user_scores_g2",
        "shop_user_segment_g2",
    )
    assert names.service == "shop_ranking_g2"
    assert names.affinity == "shop_user_item_affinity_g2"
    assert names.item_service == "shop_ranking_items_g2"
    assert names.push_source(names.scores) == "shop_user_scores_g2_push"


def test_a_configuration_gives_them(tmp_path):
    config = shop_tables.shop_config(tmp_path, generation="g3", name_prefix="a_")
    assert FeatureNames.of(config) == FeatureNames("g3", "a_")


@pytest.mark.parametrize("generation", ["1", "g0", "G1", "g1x", ""])
def test_what_is_no_generation_is_refused(generation):
    with pytest.raises(ConfigError, match="is not a generation"):
        FeatureNames(generation)


@pytest.mark.parametrize("prefix", ["1_", "a-", "_a", "a b", "ä"])
def test_what_cannot_begin_a_name_is_refused(prefix):
    with pytest.raises(ConfigError, match="cannot begin a Feast name"):
        FeatureNames("g1", prefix)

"""What two generations say of a user never meets in one row."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureService, FeatureView, Field
from feast.types import Float32

from segmenter_plugin.config import parse_config
from segmenter_plugin.errors import StoreError
from segmenter_plugin.store import online_matrix, training_frame
from segmenter_plugin.store.generations import generations_of, require_one_generation
from segmenter_plugin.store.views import views_from_config


@pytest.fixture(scope="module")
def generations(team):
    """The team's project with the views of a second generation beside the first, and its own view."""
    tree = team.config.model_dump()
    tree["store"]["generation"] = "g2"
    second = parse_config(tree)

    def source(view):
        return team.store.get_feature_view(f"value_{view.replace('_g2', '_g1')}").batch_source

    declared = views_from_config(second, source=source, entity=team.customer, user_type=pa.string())
    own = FeatureView(
        name="own",
        entities=[team.customer],
        schema=[*declared.user_scores.entity_columns, Field(name="own_number", dtype=Float32)],
        source=declared.user_scores.batch_source,
        tags={"team": "ranking"},
    )
    # All of the second generation, the aggregates too: they carry its tag from now on.
    team.store.apply([*declared.objects(), own], partial=True)
    view = team.store.get_feature_view
    mixed = FeatureService(name="mixed", features=[view("value_user_embedding_g1"), view("value_user_scores_g2")])
    fine = FeatureService(name="fine", features=[view("value_user_activity"), view("value_user_scores_g1"), own])
    team.store.apply([mixed, fine], partial=True)
    return team.store


def test_a_service_of_two_generations_is_refused(generations, team):
    message = "mixes generations .g1: value_user_embedding_g1; g2: value_user_scores_g2"
    with pytest.raises(StoreError, match=message) as caught:
        require_one_generation("mixed", generations_of(generations, generations.get_feature_service("mixed")))
    assert "a service for each generation" in caught.value.hint
    with pytest.raises(StoreError, match="mixes generations"):
        online_matrix(generations, "mixed", team.users[:1])
    moments = pd.DataFrame({"customer_id": team.users[:1], "event_timestamp": [pd.Timestamp(team.second)]})
    with pytest.raises(StoreError, match="mixes generations"):
        training_frame(generations, "mixed", moments)


@pytest.mark.parametrize("service", ["fine", "value_ranking_g1", "value_ranking_g2", "value_ranking_items_g1"])
def test_aggregates_and_a_team_s_own_views_go_with_any_generation(generations, service):
    assert generations.get_feature_view("value_user_activity").tags["segmenter.generation"] == "g2"
    require_one_generation(service, generations_of(generations, generations.get_feature_service(service)))

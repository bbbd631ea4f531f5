"""Embeddings and scores of two generations mean different things: they never meet in one row of numbers."""

from __future__ import annotations

from collections.abc import Mapping

from feast import FeatureService, FeatureStore

from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.views import FOLDER_TAG, GENERATION_TAG


def generations_of(store: FeatureStore, service: FeatureService) -> dict[str, list[str]]:
    """For each generation the views of a service that come from its weights.

    The aggregates have no weights, so they go with any generation; so do a team's own views.
    """
    by_generation: dict[str, list[str]] = {}
    for projection in service.feature_view_projections:
        tags = store.registry.get_any_feature_view(projection.name, store.project, allow_cache=True).tags
        if GENERATION_TAG in tags and tags.get(FOLDER_TAG) != FeatureNames().activity:
            by_generation.setdefault(tags[GENERATION_TAG], []).append(projection.name)
    return by_generation


def require_one_generation(service: str, generations: Mapping[str, list[str]]) -> None:
    """Refuse a service whose views come from weights of several generations.

    Raises:
        StoreError: It mixes them.
    """
    if len(generations) > 1:
        listed = "; ".join(f"{name}: {', '.join(views)}" for name, views in sorted(generations.items()))
        raise StoreError(
            f"the service {service!r} mixes generations ({listed}); what their weights say cannot be compared.",
            hint="declare a service for each generation, as user_value_views does.",
        )

"""Which features there are; `feast feature-views describe NAME` shows the columns with their units."""

from datetime import timedelta

from entities import config, user
from sources import published

from segmenter_plugin.schemas import activity_fields, score_fields
from segmenter_plugin.store import user_value_views

# One call declares all views of a generation, each with a push source for fresh rows.
# In a repository of your own, call it with your Entity and your source class instead.
declared = user_value_views(
    entity=user,
    source=published,
    generation=config.store.generation,
    activity_columns=activity_fields(config),
    score_columns=score_fields(config),
    ttl=timedelta(days=config.store.ttl_days),
    name_prefix=config.store.name_prefix,
    owner=config.store.owner,
)

# Feast collects what stands at the top of a module, by identity: each object is built once and named here.
# Aggregates need no model, so their view outlives a generation.
user_activity = declared.user_activity

# The embedding has a view of its own: beside scalars it would hide the view from `feast monitor`.
# g1 in the name is the space in which vectors may be compared; a new space is a new view.
user_embedding = declared.user_embedding

# Predicted value, and which weights said so: model_version and trained_through travel with the scores.
# Join them into every training frame; they tell whether a row knew the future.
user_scores = declared.user_scores

# Segment ids keep their meaning over retrains; names are for people.
# Rules and dashboards should use the id.
user_segment = declared.user_segment

# Cosine and dot product of the user's embedding with an item vector that the request brings along.
# Computed when asked, online and in training frames alike, so a ranking model gets a ready score.
user_item_affinity = declared.user_item_affinity

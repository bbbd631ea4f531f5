"""Whom the features describe."""

from pathlib import Path

from feast import Entity

from segmenter_plugin.config import load_config
from segmenter_plugin.store.fields import key_type
from segmenter_plugin.store.publications import published_key_type

# Names and columns derive from the same segmenter.toml that the jobs read, one folder up.
# Two copies of these names would drift apart; here a renamed task renames its feature.
config = load_config(Path(__file__).resolve().parent.parent / "segmenter.toml")

# Feast must know whether ids are strings or integers: the published rows say.
# So publish once before the first `feast apply`.
user_type = published_key_type(config)

# An entity is what you look features up by; its join key is a column of every table below.
# Ranking models pass {"user_id": ...} and get all views of the service in one call.
user = Entity(
    name=config.store.entity,
    join_keys=[config.store.join_key],
    value_type=key_type(user_type),
    description="A user, customer or household whose behaviour is recorded.",
    owner=config.store.owner,
)

"""The feature views of one generation, declared for anybody's Feast repository.

Each view reads a batch source for history and has a push source for fresh rows. The embedding has a view of its
own: beside scalars it would make ``feast monitor run`` report no view at all (Feast 0.67).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
from feast import Entity, FeatureService, FeatureView, Field, OnDemandFeatureView, PushSource, ValueType
from feast.data_source import DataSource
from feast.types import from_value_type

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.schemas import activity_fields, provenance_fields, score_fields, segment_fields
from segmenter_plugin.store.affinity import affinity_view
from segmenter_plugin.store.fields import arrow_field, feast_field, key_type

#: Tags by which retrieval recognises our views, whatever prefix they carry.
FOLDER_TAG = "segmenter.view"
GENERATION_TAG = "segmenter.generation"

_ABOUT = {
    "user_activity": "Model-free aggregates of the observation window before the cutoff.",
    "user_embedding": "Behaviour embedding as of the cutoff.",
    "user_scores": "Predicted value as of the cutoff, with the weights it came from.",
    "user_segment": "Value segment as of the cutoff.",
}


@dataclass(frozen=True)
class UserValueViews:
    """What `user_value_views` declares; a view that was left out is None.

    The affinity is held against the embedding, and has a service of its own: asking `service` needs no item vector.
    """

    entity: Entity
    user_activity: FeatureView | None
    user_embedding: FeatureView | None
    user_scores: FeatureView | None
    user_segment: FeatureView | None
    service: FeatureService
    user_item_affinity: OnDemandFeatureView | None
    item_service: FeatureService | None

    @property
    def views(self) -> list[FeatureView]:
        """The views that are there and hold rows."""
        declared = (self.user_activity, self.user_embedding, self.user_scores, self.user_segment)
        return [view for view in declared if view is not None]

    @property
    def push_sources(self) -> list[PushSource]:
        """One a view, named ``<view>_push``."""
        return [view.stream_source for view in self.views]

    def objects(self) -> list[Any]:
        """Everything to register: ``store.apply(views.objects(), partial=True)``.

        Partial, because a full apply (as ``feast apply`` does it) deletes what else the registry holds.
        """
        sources = [view.batch_source for view in self.views]
        on_demand = [thing for thing in (self.user_item_affinity, self.item_service) if thing is not None]
        return [self.entity, *sources, *self.push_sources, *self.views, self.service, *on_demand]


def user_value_views(
    *,
    source: Callable[[str], DataSource | None],
    entity: Entity | None = None,
    generation: str = "g1",
    activity_columns: Sequence[pa.Field | str] = (),
    score_columns: Sequence[pa.Field | str] = (),
    ttl: timedelta | None = None,
    name_prefix: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
    user_type: pa.DataType | None = None,
) -> UserValueViews:
    """Declare the views, push sources and service of one generation.

    Args:
        source: Batch source of a view, by its unprefixed name (``user_scores_g1``, also the published folder's name),
            of any class that your offline store reads; None leaves that view out.
        entity: Yours; by default ``user`` with the join key ``user_id``.
        generation: Space in which embeddings may be compared; part of the names.
        activity_columns: Aggregates to serve; a bare name is typed by our naming rule.
        score_columns: Head outputs to serve, likewise; the provenance columns are added.
        ttl: How old a row a training frame may still take; None for any age. Online reads never check it.
        name_prefix: Put before every name.
        owner: Owner of all objects.
        tags: Yours, beside the two that mark the views as ours.
        user_type: Arrow type of the ids, string or int64, where the entity does not say: string for the default
            entity; for one of yours Feast asks the source (which fails for a FileSource with a glob).

    Raises:
        ConfigError: Names clash, cannot be Feast names, or no view is left.
    """
    names = FeatureNames(generation, name_prefix)
    common = _Common(
        names=names,
        entity=entity or user_entity(user_type or pa.string(), owner=owner),
        key_type=None if user_type is None else key_type(user_type),
        ttl=ttl or timedelta(0),
        owner=owner,
        tags=dict(tags or {}) | {GENERATION_TAG: generation},
    )
    schemas = _schemas(names, activity_columns, score_columns)
    sources = {folder: source(folder) for folder in schemas}
    _check({folder: schemas[folder] for folder in schemas if sources[folder] is not None}, common.entity)
    activity, embedding, scores, segment = (
        None if batch_source is None else common.view(folder, batch_source, schemas[folder])
        for folder, batch_source in sources.items()
    )
    present = [view for view in (activity, embedding, scores, segment) if view is not None]
    affinity = None if embedding is None else common.affinity(embedding)
    service, item_service = common.service(present), common.item_service(present, affinity)
    return UserValueViews(common.entity, activity, embedding, scores, segment, service, affinity, item_service)


def views_from_config(
    config: Config, *, source: Callable[[str], DataSource | None], entity: Entity | None = None, user_type: pa.DataType
) -> UserValueViews:
    """`user_value_views` with the columns, names, ttl and owner that a configuration gives.

    Args:
        config: Its ``[store]`` section names things, its events and tasks derive the columns.
        source: As in `user_value_views`.
        entity: Yours; by default one with `[store] entity` and `join_key`.
        user_type: Arrow type of the ids, see `store.publish.published_user_type`.
    """
    store = config.store
    return user_value_views(
        source=source,
        entity=entity or user_entity(user_type, store.entity, store.join_key, store.owner),
        generation=store.generation,
        activity_columns=activity_fields(config),
        score_columns=score_fields(config),
        ttl=timedelta(days=store.ttl_days),
        name_prefix=store.name_prefix,
        owner=store.owner,
        user_type=user_type,
    )


def user_entity(user_type: pa.DataType, name: str = "user", join_key: str = Columns.user_id, owner: str = "") -> Entity:
    """The entity that all views describe.

    Raises:
        ConfigError: Ids are neither strings nor int64.
    """
    value_type = key_type(user_type)
    about = "A user, customer or household whose behaviour is recorded."
    return Entity(name=name, join_keys=[join_key], value_type=value_type, description=about, owner=owner)


def _schemas(
    names: FeatureNames, activity_columns: Sequence[pa.Field | str], score_columns: Sequence[pa.Field | str]
) -> dict[str, list[pa.Field]]:
    return {
        names.activity: [arrow_field(column) for column in activity_columns],
        names.embedding: [pa.field(Columns.embedding, pa.list_(pa.float32()))],
        names.scores: [*(arrow_field(column) for column in score_columns), *provenance_fields()],
        names.segment: segment_fields(),
    }


@dataclass(frozen=True)
class _Common:
    """What all objects of one declaration share."""

    names: FeatureNames
    entity: Entity
    key_type: ValueType | None
    ttl: timedelta
    owner: str
    tags: dict[str, str]

    def view(self, folder: str, batch_source: DataSource, schema: list[pa.Field]) -> FeatureView:
        about = _ABOUT[folder.removesuffix(f"_{self.names.generation}")]
        push = PushSource(
            name=self.names.push_source(folder),
            batch_source=batch_source,
            description=f"Fresh rows. {about}",
            owner=self.owner,
        )
        return FeatureView(
            name=self.names.registered(folder),
            entities=[self.entity],
            ttl=self.ttl,
            schema=[*self._key(), *(feast_field(field) for field in schema)],
            source=push,
            online=True,
            description=about,
            owner=self.owner,
            tags=self.tags | {FOLDER_TAG: folder},
        )

    def _key(self) -> list[Field]:
        """Empty where nobody names the type: Feast then infers the key from the source."""
        declared = self.entity.value_type
        known = self.key_type if declared == ValueType.UNKNOWN else declared
        return [] if known is None else [Field(name=self.entity.join_key, dtype=from_value_type(known))]

    def affinity(self, embedding: FeatureView) -> OnDemandFeatureView:
        return affinity_view(self.names.affinity, embedding, owner=self.owner, tags=self.tags)

    def item_service(self, views: list[FeatureView], affinity: OnDemandFeatureView | None) -> FeatureService | None:
        if affinity is None:
            return None
        return FeatureService(
            name=self.names.item_service,
            features=[*views, affinity],
            description="The same and the affinity to an item, whose vector each row of the request brings along.",
            owner=self.owner,
            tags=self.tags,
        )

    def service(self, views: list[FeatureView]) -> FeatureService:
        return FeatureService(
            name=self.names.service,
            features=views,
            description=f"What a ranking model asks for: all views of generation {self.names.generation}.",
            owner=self.owner,
            tags=self.tags,
        )


def _check(schemas: dict[str, list[pa.Field]], entity: Entity) -> None:
    if not schemas:
        raise ConfigError(
            "source returned None for every view, so nothing would be declared.",
            hint="return a data source for at least one of them.",
        )
    empty = [folder for folder, schema in schemas.items() if not schema]
    if empty:
        raise ConfigError(
            f"the views {empty} have no columns.",
            hint="give activity_columns, or leave the view out: let source return None for it.",
        )
    own = [entity.join_key, Columns.event_timestamp, Columns.created_timestamp]
    columns = own + [column.name for schema in schemas.values() for column in schema]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"the columns {repeated} stand twice among the views, their keys and timestamps; a training frame could "
            "not tell them apart.",
            hint="rename the event type, task or join key that they derive from.",
        )

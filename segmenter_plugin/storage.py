"""The `[store]` section: where outputs lie, and how Feast knows and reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segmenter_plugin.columns import Columns

#: Stands in `[store] table` for the folder's name of each view.
VIEW_PLACE = "{view}"


class StoreConfig(BaseModel):
    """Where outputs lie and how Feast knows them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = "runs/default"
    artifacts: str = "artifacts"
    feature_repo: str = "feature_repo"
    generation: Annotated[str, Field(pattern=r"^g[1-9][0-9]*$")] = "g1"
    ttl_days: Annotated[int, Field(ge=0)] = 0
    entity: str = "user"
    join_key: str = Columns.user_id
    name_prefix: str = ""
    owner: str = ""
    #: Which of Feast's offline stores reads the published rows; must agree with the `feature_store.yaml`.
    offline: Literal["duckdb", "spark"] = "duckdb"
    #: How published rows lie in our folders: plain files, or a Delta table a view, of which a reader has a snapshot.
    table_format: Literal["parquet", "delta"] = "parquet"
    #: Spark tables that hold the rows instead of our folders: ``lake.features.{view}``.
    table: str | None = None
    #: Where published rows lie instead of under the root: ``s3://bucket/prefix``.
    published: Annotated[str, Field(pattern=r"^s3://[^/*?\[]+(/[^/*?\[]+)*$")] | None = None
    #: Of a store that speaks S3 and is not Amazon's: ``https://minio.shop.example:9000``.
    published_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+$")] | None = None

    @model_validator(mode="after")
    def _format_is_read(self) -> Self:
        if self.table_format == "delta" and self.offline != "duckdb":
            raise ValueError(
                f'table_format = "delta" needs offline = "duckdb", not {self.offline!r}; Spark reads Delta tables by '
                "[store] table"
            )
        return self

    @model_validator(mode="after")
    def _table_is_of_use(self) -> Self:
        if self.table is None:
            return self
        if self.offline != "spark":
            raise ValueError(f'table = {self.table!r} needs offline = "spark"; duckdb reads the published folders')
        if self.table.count(VIEW_PLACE) != 1:
            raise ValueError(
                f"table = {self.table!r} must hold {VIEW_PLACE} once, for example lake.features.{VIEW_PLACE}: each "
                "view has a table of its own"
            )
        return self

    @model_validator(mode="after")
    def _places_can_be(self) -> Self:
        if "://" in self.root:
            raise ValueError(
                f"root = {self.root!r} is no folder: what jobs exchange needs a file system that renames; "
                'published rows may lie elsewhere, with published = "s3://..."'
            )
        if self.published is not None and self.table is not None:
            raise ValueError(f"published = {self.published!r} and table = {self.table!r}: the rows lie in one of them")
        if self.published is None and self.published_endpoint is not None:
            raise ValueError(f'published_endpoint = {self.published_endpoint!r} needs published = "s3://..."')
        return self


def published_folder(root: Path, view: str) -> Path:
    """All published partitions of one view: ``features/<view>/cutoff=<time>/*.parquet``."""
    return root / "features" / view


def published_table(root: Path, view: str) -> Path:
    """The Delta table of one view, where ``[store] table_format`` says so."""
    return root / "features_delta" / view


def published_manifests(root: Path, view: str) -> Path:
    """Manifests of a Delta table's partitions: on a file system, wherever the table is.

    A vacuum removes from the table's folder what is not the table's, unless its name begins so.
    """
    return published_table(root, view) / "_manifests"


def published_uri(store: StoreConfig, view: str) -> str:
    """The same folder or table where ``[store] published`` says that rows lie in a bucket."""
    folder = published_table if store.table_format == "delta" else published_folder
    return f"{store.published}/{folder(Path(), view).as_posix()}"


def spark_address(place: str) -> str:
    """A path or an address as Spark takes it: its S3 file system is Hadoop's, which is called s3a."""
    if place.startswith("s3://"):
        return f"s3a://{place.removeprefix('s3://')}"
    # The scheme, because without it a cluster would look in its own default file system.
    return place if "://" in place else f"file://{place}"

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


def published_folder(root: Path, view: str) -> Path:
    """All published partitions of one view: ``features/<view>/cutoff=<time>/*.parquet``."""
    return root / "features" / view


def published_table(root: Path, view: str) -> Path:
    """The Delta table of one view, where ``[store] table_format`` says so."""
    return root / "features_delta" / view

"""The `[segments]` section: value tiers crossed with behaviour clusters, and how their ids are kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Segments that a person could still tell apart, by far.
MOST_SEGMENTS = 200


class SegmentsConfig(BaseModel):
    """How users are grouped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Value tiers, of equally many users each; 1: none, and value is part of the distance between users instead.
    tiers: Annotated[int, Field(ge=1, le=20)] = 3
    #: Behaviour clusters, the same in each tier; "auto": the best separated number on which two halves of users agree.
    count: Annotated[int, Field(ge=1, le=MOST_SEGMENTS)] | Literal["auto"] = 4
    method: Literal["kmeans", "gaussian_mixture"] = "kmeans"
    #: Cells with a smaller share of the users are dropped; each of their users gets the nearest segment of its tier.
    minimum_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    #: A user stays in its cluster until it is past the border by this share of the way to the other centroid's middle.
    margin: Annotated[float, Field(ge=0, le=1)] = 0.5
    #: A user stays in its tier until its value has passed the edge by this share of all users.
    tier_margin: Annotated[float, Field(ge=0, le=1)] = 0.25
    #: Whether segments fitted for another encoder carry the ids, and users their segment, of the ones before.
    keep_ids: bool = True
    #: A TOML file whose table [names] says what a person calls a segment: ``3 = "Families"``.
    names: str | None = None
    seed: int = 7

    @model_validator(mode="after")
    def _are_few(self) -> Self:
        if self.count != "auto" and self.tiers * self.count > MOST_SEGMENTS:
            raise ValueError(
                f"tiers = {self.tiers} times count = {self.count} are {self.tiers * self.count} segments; at most "
                f"{MOST_SEGMENTS} are allowed"
            )
        return self

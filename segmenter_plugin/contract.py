"""The `[contract]` section: how much dirt in the owner's events is borne, and what a change of their columns does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class ContractConfig(BaseModel):
    """What is held against each lot of events before any of it becomes visible.

    None of it changes what is made of the events, only whether anything is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Shares of a lot's rows that are refused: above the first a warning, above the second an error.
    warn_quarantined_share: Share = 0.01
    stop_quarantined_share: Share = 0.5
    #: Columns of the source that earlier lots did not have.
    new_columns: Literal["ignore", "warn", "stop"] = "warn"
    #: Columns whose type is another than in earlier lots (int32 became int64, a number became text).
    changed_types: Literal["warn", "stop"] = "warn"

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.warn_quarantined_share > self.stop_quarantined_share:
            raise ValueError(
                f"warn_quarantined_share = {self.warn_quarantined_share} is above "
                f"stop_quarantined_share = {self.stop_quarantined_share}"
            )
        return self

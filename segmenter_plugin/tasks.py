"""What is to be predicted: one `[[tasks]]` entry, and the column names that derive from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from segmenter_plugin.columns import PURCHASE

Kind = Literal["binary", "value", "multiclass", "multilabel"]
#: What labels and scores look like: as the kind says, but for a ladder that is asked of each category.
Form = Kind | Literal["category"]

#: Percentiles of money that a value task's scores hold.
PERCENTILES = (10, 50, 90)


class TaskConfig(BaseModel):
    """One prediction over the window ``[cutoff + gap_days, cutoff + gap_days + prediction_days)``.

    Kinds:
        binary: does an event of `event_type` happen?
        value: how much money does it bring, ``max(0, purchases - returns)``, in the events' currency?
        multiclass: how far does the user get on `ladder`, for example ``["view", "purchase"]``; "none" below it. With
            a `target` (for example category): how far with each of its `top_count` most frequent values.
        multilabel: which values of the column `target` (for example category) do those events have?
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    kind: Kind
    event_type: str = PURCHASE
    gap_days: Annotated[int, Field(ge=0)] = 0
    prediction_days: PositiveInt
    ladder: tuple[str, ...] = ()
    target: str | None = None
    #: How many of the most frequent target values a task with a target predicts.
    top_count: PositiveInt = 20

    @model_validator(mode="after")
    def _kind_has_its_keys(self) -> Self:
        if (self.kind == "multiclass") != bool(self.ladder):
            raise ValueError(
                f"task {self.name!r}: ladder (event types, lowest first) goes with kind = 'multiclass' only"
            )
        if self.kind == "multilabel" and self.target is None:
            raise ValueError(f"task {self.name!r}: kind = 'multilabel' needs a target (a column)")
        if self.kind in ("binary", "value") and self.target is not None:
            raise ValueError(
                f"task {self.name!r}: target (a column) goes with kind = 'multilabel', or with 'multiclass' and its "
                f"ladder, not with {self.kind!r}"
            )
        if self.kind == "value" and self.event_type != PURCHASE:
            raise ValueError(f"task {self.name!r}: a value task counts the money of purchases; leave event_type out")
        return self

    @property
    def window_name(self) -> str:
        """Name with window, for example ``purchase_14d``, or ``purchase_14d_gap7d`` after a gap."""
        gap = f"_gap{self.gap_days}d" if self.gap_days else ""
        return f"{self.name}_{self.prediction_days}d{gap}"

    @property
    def label_column(self) -> str:
        """Column of the labels table, null where censored; its type by form is that of `schemas.label_fields`."""
        return f"{self.window_name}_label"

    @property
    def form(self) -> Form:
        """The kind, but ``category`` where the ladder is asked of each value of a target."""
        return "category" if self.kind == "multiclass" and self.target is not None else self.kind

    @property
    def event_types(self) -> tuple[str, ...]:
        """Event types that decide the label."""
        return self.ladder or (self.event_type,)

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of a multiclass task, lowest first; with a target, of each of its values."""
        return ("none", *self.ladder)

    @property
    def score_columns(self) -> tuple[str, ...]:
        """Columns that scoring adds for this task, the one to rank users by first.

        | kind | columns |
        |---|---|
        | binary | ``purchase_14d_probability`` |
        | value | ``spend_28d_expected`` (the mean, currency), ``spend_28d_probability`` (of spending at all), |
        | | ``spend_28d_p10``, ``_p50``, ``_p90`` (percentiles, currency) |
        | multiclass, multilabel | ``..._probabilities``: a list, in the order that the artifact's classes have |
        | multiclass with a target | ``..._probabilities``: all classes of the first value, then of the next, ... |
        """
        value = ("expected", "probability", *(f"p{percentile}" for percentile in PERCENTILES))
        by_kind = {"binary": ("probability",), "value": value}
        return tuple(f"{self.window_name}_{suffix}" for suffix in by_kind.get(self.kind, ("probabilities",)))

    @property
    def rates_a_user(self) -> bool:
        """Whether the scores are one number a user, which `value_score` can be made of."""
        return self.kind in ("binary", "value")

    def window(self, cutoff: datetime) -> tuple[datetime, datetime]:
        """Prediction window ``[start, end)`` of a cutoff."""
        start = cutoff + timedelta(days=self.gap_days)
        return start, start + timedelta(days=self.prediction_days)

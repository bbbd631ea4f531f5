"""The `[gates]` section: what a published cutoff is held against before its rows may go online."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

#: ``high``: large values are bad; ``low``: small ones are.
Bad = Literal["high", "low"]


class Limits(BaseModel):
    """Where a check begins to warn, and where it stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warn: float
    stop: float


#: Check -> which end is bad, and its limits by default. docs/gates.md says how each was chosen.
DEFAULTS: dict[str, tuple[Bad, Limits]] = {
    "age_days": ("high", Limits(warn=2.0, stop=4.0)),
    "coverage": ("low", Limits(warn=0.999, stop=0.95)),
    "kept_users": ("low", Limits(warn=0.95, stop=0.8)),
    "user_growth": ("high", Limits(warn=1.25, stop=2.0)),
    "score_nulls": ("high", Limits(warn=0.0, stop=0.01)),
    "activity_nulls": ("high", Limits(warn=0.05, stop=0.2)),
    "model_versions": ("high", Limits(warn=1.0, stop=1.0)),
    "embedding_mmd": ("high", Limits(warn=0.02, stop=0.1)),
    "centroid_shift": ("high", Limits(warn=0.1, stop=0.3)),
    "norm_change": ("high", Limits(warn=0.1, stop=0.3)),
    "dimension_spread": ("low", Limits(warn=0.5, stop=0.2)),
    "cosine_median": ("low", Limits(warn=0.9, stop=0.7)),
    "cosine_p5": ("low", Limits(warn=0.3, stop=-0.5)),
    "unexplained_growth": ("high", Limits(warn=1.5, stop=3.0)),
    "score_psi": ("high", Limits(warn=0.1, stop=0.25)),
    "segment_shares": ("high", Limits(warn=0.05, stop=0.2)),
    "metric_drop": ("high", Limits(warn=0.05, stop=0.1)),
}


def _limits(name: str) -> Any:
    return Field(default=DEFAULTS[name][1])


class GatesConfig(BaseModel):
    """Limits of each check, as ``coverage = { warn = 0.999, stop = 0.95 }``; one of the two may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Decides which users are looked at, and the permutations.
    seed: int = 7
    #: Users that are looked at, all of them where there are no more; memory is bounded by so many rows.
    sample_users: PositiveInt = 20_000
    #: Of them, how many of each side enter the kernel of the MMD, and how often they are permuted.
    mmd_users: PositiveInt = 1_000
    permutations: PositiveInt = 500
    #: A difference that chance gives more often than this is none, however large.
    mmd_p_value: Annotated[float, Field(gt=0, lt=1)] = 0.01
    #: How many of the users who moved furthest are told.
    moved_users: Annotated[int, Field(ge=0)] = 10

    age_days: Limits = _limits("age_days")
    coverage: Limits = _limits("coverage")
    kept_users: Limits = _limits("kept_users")
    user_growth: Limits = _limits("user_growth")
    score_nulls: Limits = _limits("score_nulls")
    activity_nulls: Limits = _limits("activity_nulls")
    model_versions: Limits = _limits("model_versions")
    embedding_mmd: Limits = _limits("embedding_mmd")
    centroid_shift: Limits = _limits("centroid_shift")
    norm_change: Limits = _limits("norm_change")
    dimension_spread: Limits = _limits("dimension_spread")
    cosine_median: Limits = _limits("cosine_median")
    cosine_p5: Limits = _limits("cosine_p5")
    unexplained_growth: Limits = _limits("unexplained_growth")
    score_psi: Limits = _limits("score_psi")
    segment_shares: Limits = _limits("segment_shares")
    metric_drop: Limits = _limits("metric_drop")

    def limits(self, check: str) -> Limits:
        """Those of one check."""
        found: Limits = getattr(self, check)
        return found

    @model_validator(mode="before")
    @classmethod
    def _other_limit_by_default(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        given = {name: value for name, value in tree.items() if name in DEFAULTS and isinstance(value, dict)}
        return tree | {name: DEFAULTS[name][1].model_dump() | value for name, value in given.items()}

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        for name, (bad, _) in DEFAULTS.items():
            limits = self.limits(name)
            first, then = (limits.warn, limits.stop) if bad == "high" else (limits.stop, limits.warn)
            if first > then:
                raise ValueError(
                    f"{name} = {{ warn = {limits.warn:g}, stop = {limits.stop:g} }} would stop before it warns; "
                    f"{bad} values are bad"
                )
        return self

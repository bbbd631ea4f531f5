"""The gate's checks, each a number held against its limits, and the verdict that they give together.

| verdict | meaning |
|---|---|
| ok | nothing to see |
| warn | rows may go online; a person should look |
| stop | they may not, unless a person accepts it |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from segmenter_plugin.gating import DEFAULTS, GatesConfig

Verdict = Literal["ok", "warn", "stop"]
_ORDER: tuple[Verdict, ...] = ("ok", "warn", "stop")
#: What a number without bound is told as: JSON has no infinity.
_LARGEST = 1e9

#: Check -> what its number is, and what to do where it stops.
ABOUT: dict[str, tuple[str, str]] = {
    "age_days": ("days from the cutoff to --as-of", "run the stages for a later cutoff"),
    "coverage": ("share of users with behaviour who have a row in each view", "score, segment and publish again"),
    "kept_users": ("share of the users before who still have a row", "look for events that are missing, build again"),
    "user_growth": ("users beside those before", "look for bots or ids that changed, build again"),
    "score_nulls": ("share of scores or segments that are null", "score, segment and publish again"),
    "activity_nulls": ("growth of the share of nulls in an aggregate", "look for a column that the events lost"),
    "model_versions": ("models that made the rows", "score, segment and publish the cutoff again with one model"),
    "embedding_mmd": ("MMD² of the embeddings to those before", ""),
    "centroid_shift": ("shift of the embeddings' mean, in their spread", ""),
    "norm_change": ("|log| of the change of the embeddings' mean norm", ""),
    "dimension_spread": ("least spread of a dimension beside the one before", "score again; is the artifact whole?"),
    "cosine_median": ("median cosine of a user's embedding to the one before", ""),
    "cosine_p5": ("5th percentile of these cosines", ""),
    "unexplained_growth": (
        "growth of what yesterday's map from embedding to score leaves unexplained",
        "embeddings and scores are not of the same users or weights: score and publish again",
    ),
    "score_psi": ("largest PSI of a score", "look at the aggregates; is it the right model?"),
    "segment_shares": ("share of users by which the segments' shares differ", "segment again; is it the right model?"),
    "metric_drop": ("drop of a metric from one labelled cutoff to the next", "train again, or find what changed"),
}
_SAME_MODEL = "look for rows under the wrong users, score and publish again"
_OTHER_MODEL = (
    "another model made the rows before, in a space that cannot be compared: promote it to a generation of its own "
    '([store] generation = "g2"), which readers move to, or score with the model before'
)


@dataclass(frozen=True)
class Measurement:
    """What a check found.

    Attributes:
        check: A name of `ABOUT`.
        value: None where there is nothing to judge by.
        detail: What it was found in: a column, a dimension, or why it is not judged.
        counts: Whether the value is more than chance gives; without it no limit is held against it.
    """

    check: str
    value: float | None
    detail: str = ""
    counts: bool = True


@dataclass(frozen=True)
class Check:
    """A measurement beside its limits; the message says what it is, and what to do."""

    name: str
    value: float | None
    warn: float
    stop: float
    verdict: Verdict
    message: str

    @classmethod
    def of(cls, measured: Measurement, config: GatesConfig, *, same_model: bool = True) -> Check:
        """Hold a measurement against `[gates]`.

        Args:
            measured: What was found.
            config: The limits.
            same_model: Whether the rows before are by the same weights, which decides the advice.
        """
        name, limits = measured.check, config.limits(measured.check)
        what, advice = ABOUT[name]
        if measured.value is None:
            return cls(name, None, limits.warn, limits.stop, "ok", f"not judged: {measured.detail}")
        bad = DEFAULTS[name][0]
        worst = _LARGEST if bad == "high" else -_LARGEST
        value = worst if math.isnan(measured.value) else max(-_LARGEST, min(measured.value, _LARGEST))
        verdict = _held(value, limits.warn, limits.stop, bad) if measured.counts else "ok"
        found = f"{name} = {value:.4g}{f' ({measured.detail})' if measured.detail else ''}: {what}"
        if verdict != "ok":
            side = "above" if bad == "high" else "below"
            limit = limits.stop if verdict == "stop" else limits.warn
            found += f"; {side} {limit:g} it {'stops' if verdict == 'stop' else 'warns'}"
            found += f"; {advice or (_SAME_MODEL if same_model else _OTHER_MODEL)}"
        return cls(name, value, limits.warn, limits.stop, verdict, found if found.endswith("?") else f"{found}.")

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "check": self.name,
            "value": None if self.value is None else float(f"{self.value:.6g}"),
            "warn": self.warn,
            "stop": self.stop,
            "verdict": self.verdict,
            "message": self.message,
        }


def _held(value: float, warn: float, stop: float, bad: str) -> Verdict:
    sign = 1.0 if bad == "high" else -1.0
    if sign * value > sign * stop:
        return "stop"
    return "warn" if sign * value > sign * warn else "ok"


@dataclass(frozen=True)
class GateReport:
    """All checks of a cutoff.

    Attributes:
        checks: Those that were held.
        moved: The users whose embedding moved furthest, the furthest first; JSON-able.
        compared_with: The cutoff before, as its partition is called; None where there is none.
        accepted: Why a person lets the rows through although they were stopped.
    """

    checks: Sequence[Check]
    moved: Sequence[Mapping[str, Any]] = field(default=())
    compared_with: str | None = None
    accepted: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return max((check.verdict for check in self.checks), key=_ORDER.index, default="ok")

    @property
    def passes(self) -> bool:
        """Whether the rows may go online."""
        return self.verdict != "stop" or self.accepted is not None

    @property
    def stopped(self) -> list[Check]:
        """The checks that stop it."""
        return [check for check in self.checks if check.verdict == "stop"]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the same for the same inputs."""
        return {
            "verdict": self.verdict,
            "accepted": self.accepted,
            "compared_with": self.compared_with,
            "checks": [check.as_dict() for check in self.checks],
            "moved": [dict(user) for user in self.moved],
        }

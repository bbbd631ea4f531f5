"""Sampled users as readers see them, and what a day's snapshot measures beside the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segmenter_plugin.data.split import validation_users
from segmenter_plugin.data.user_buckets import hashes_of
from segmenter_plugin.gating import GatesConfig
from segmenter_plugin.quality import drift
from segmenter_plugin.quality.gate import Measurement
from segmenter_plugin.quality.metrics import auroc, spearman
from segmenter_plugin.quality.weighted import FloatArray

#: Fewer users than this tell nothing of a distribution.
FEWEST = 100
#: A drop of a metric counts from so many standard errors.
_ERRORS = 3.0


@dataclass(frozen=True)
class Snapshot:
    """N sampled users, each with a row in every view.

    Attributes:
        users: (N,) ids, string or int64, each once.
        embedding: (N, D).
        scores: Score -> (N,); NaN for null. Of a score that is a list, one entry a place.
        segments: (N,) ids; -1 for null.
        model_versions: Of all rows of embedding and scores.
        score_nulls: Column -> share of null, of scores and segment.
        activity_nulls: Aggregate -> share of null.
    """

    users: pa.Array
    embedding: FloatArray
    scores: Mapping[str, FloatArray]
    segments: NDArray[np.int64]
    model_versions: frozenset[str]
    score_nulls: Mapping[str, float]
    activity_nulls: Mapping[str, float]

    def __len__(self) -> int:
        """Users."""
        return len(self.users)


def own_measurements(now: Snapshot) -> list[Measurement]:
    """What needs no day before."""
    column, share = _largest(now.score_nulls)
    versions = ", ".join(sorted(now.model_versions)) if len(now.model_versions) > 1 else ""
    return [
        Measurement("score_nulls", share, column if share else ""),
        Measurement("model_versions", float(len(now.model_versions)), versions),
    ]


def compared(before: Snapshot, now: Snapshot, config: GatesConfig) -> list[Measurement]:
    """What a snapshot measures beside the one before.

    Args:
        before: What readers saw.
        now: What they would see.
        config: Seed and sample sizes.
    """
    mine, theirs = common_places(before.users, now.users)
    paired = before.embedding[mine], now.embedding[theirs]
    both = [before.embedding, now.embedding]
    found = [_activity_nulls(before, now)]
    if min(len(before), len(now), len(mine)) < FEWEST or both[0].shape[1] != both[1].shape[1]:
        why = f"{len(mine)} sampled users are in both, {FEWEST} are needed"
        if both[0].shape[1] != both[1].shape[1]:
            # Nothing that reads the one space can read the other.
            why = f"{both[1].shape[1]} dimensions, {both[0].shape[1]} before"
            return [*found, Measurement("cosine_median", -1.0, why)]
        names = ("embedding_mmd", "centroid_shift", "norm_change", "dimension_spread", "cosine_median", "cosine_p5")
        others = ("unexplained_growth", "score_psi", "segment_shares")
        return [*found, *(Measurement(name, None, why) for name in (*names, *others))]
    spread = drift.dimension_spread(*both)
    narrowest = int(spread.argmin())
    cosines = drift.cosines(*paired)
    return [
        *found,
        _mmd(before, now, config),
        Measurement("centroid_shift", drift.centroid_shift(*both)),
        Measurement("norm_change", drift.norm_change(*both)),
        Measurement("dimension_spread", float(spread[narrowest]), f"dimension {narrowest}"),
        Measurement("cosine_median", float(np.median(cosines))),
        Measurement("cosine_p5", float(np.quantile(cosines, 0.05))),
        _unexplained(before, now, (mine, theirs), config),
        _psi(before, now),
        Measurement("segment_shares", drift.share_change(before.segments, now.segments)),
    ]


def moved_users(before: Snapshot, now: Snapshot, count: int, rated_by: str | None) -> list[dict[str, Any]]:
    """The users whose embedding turned furthest; JSON-able.

    Args:
        before: What readers saw.
        now: What they would see.
        count: How many at most.
        rated_by: The score that is told beside.
    """
    mine, theirs = common_places(before.users, now.users)
    if before.embedding.shape[1] != now.embedding.shape[1] or not len(mine):
        return []
    cosines = drift.cosines(before.embedding[mine], now.embedding[theirs])
    found = []
    for place in np.argsort(cosines, kind="stable")[:count]:
        old, new = int(mine[place]), int(theirs[place])
        user = {"user_id": now.users[new].as_py(), "cosine": round(float(cosines[place]), 4)}
        user |= {"segment_before": int(before.segments[old]), "segment_now": int(now.segments[new])}
        if rated_by is not None and rated_by in before.scores and rated_by in now.scores:
            pair = before.scores[rated_by][old], now.scores[rated_by][new]
            sides = [None if np.isnan(value) else float(f"{value:.4g}") for value in pair]
            user |= {f"{rated_by}_before": sides[0], f"{rated_by}_now": sides[1]}
        found.append(user)
    return found


def metric_drop(name: str, kind: str, sides: Sequence[tuple[FloatArray, FloatArray]]) -> Measurement:
    """How much a ranking lost from one labelled cutoff to the next: AUROC, or Spearman's correlation with money.

    A drop within 3 standard errors counts as none: at most sqrt(A (1 - A) / min(positives, negatives)) of an AUROC
    (Birnbaum and Klose 1957), 1 / sqrt(N - 1) of a correlation.

    Args:
        name: Of the task.
        kind: Of the task, a key of `RANKINGS`.
        sides: Truth (N,) and score (N,) of the earlier and of the later cutoff.
    """
    title, judge = RANKINGS[kind]
    values, errors = [], []
    for truth, score in sides:
        value, error = judge(truth, score)
        if not np.isfinite(error):
            return Measurement("metric_drop", None, f"{name}: {FEWEST} users with and without are needed")
        values.append(value)
        errors.append(error)
    drop = values[0] - values[1]
    told = f"{name}: {title} {values[0]:.3f} -> {values[1]:.3f}"
    return Measurement("metric_drop", drop, told, counts=drop > _ERRORS * float(np.hypot(errors[0], errors[1])))


def _auroc(truth: FloatArray, score: FloatArray) -> tuple[float, float]:
    """The value and its standard error, at most; infinite where there is too little."""
    positives = truth.astype(bool)
    fewer = min(int(positives.sum()), int((~positives).sum()))
    if fewer < FEWEST:
        return 0.0, np.inf
    value = float(auroc(positives, score))
    return value, float(np.sqrt(value * (1 - value) / fewer))


def _spearman(truth: FloatArray, score: FloatArray) -> tuple[float, float]:
    value = float(spearman(truth, score)) if len(truth) > FEWEST else np.nan
    return value, float(1 / np.sqrt(len(truth) - 1)) if np.isfinite(value) else np.inf


#: Kind of task -> how its ranking is judged.
RANKINGS = {"binary": ("AUROC", _auroc), "value": ("Spearman", _spearman)}


def common_places(before: pa.Array, now: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(P,) and (P,): where the users of both sides stand in each, in the order of the later one."""
    places = pc.index_in(now.cast(before.type), value_set=before)
    theirs = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    return places.drop_null().to_numpy().astype(np.int64), theirs


def _mmd(before: Snapshot, now: Snapshot, config: GatesConfig) -> Measurement:
    # Different users on each side, see `drift.mmd`; by a hash, so that the same ones are looked at each day.
    halves = [validation_users(side.users, 0.5, config.seed) for side in (before, now)]
    places = [np.flatnonzero(halves[0]), np.flatnonzero(~halves[1])]
    few = [
        place[np.argsort(hashes_of(side.users.take(pa.array(place))))][: config.mmd_users]
        for side, place in zip((before, now), places, strict=True)
    ]
    if min(map(len, few)) < 2:
        return Measurement("embedding_mmd", None, "too few users")
    found = drift.mmd(before.embedding[few[0]], now.embedding[few[1]], config.permutations, config.seed)
    is_chance = found.p_value > config.mmd_p_value
    return Measurement("embedding_mmd", found.value, f"p = {found.p_value:.3g}", counts=not is_chance)


def _unexplained(
    before: Snapshot, now: Snapshot, places: tuple[NDArray[np.int64], NDArray[np.int64]], config: GatesConfig
) -> Measurement:
    names = [name for name in before.scores if name in now.scores]
    if not names:
        return Measurement("unexplained_growth", None, "no score is on both sides")
    old = np.column_stack([_linear(name, before.scores[name][places[0]]) for name in names])
    new = np.column_stack([_linear(name, now.scores[name][places[1]]) for name in names])
    known = np.isfinite(old).all(axis=1) & np.isfinite(new).all(axis=1)
    folds = validation_users(now.users.take(pa.array(places[1])), 0.5, config.seed + 1)[known]
    if min(folds.sum(), (~folds).sum()) < FEWEST:
        return Measurement("unexplained_growth", None, "too few users with all scores")
    sides = [
        (embedding[place][known], scores[known])
        for embedding, place, scores in zip((before.embedding, now.embedding), places, (old, new), strict=True)
    ]
    growth = drift.unexplained_growth(sides[0], sides[1], folds)
    worst = int(growth.argmax())
    return Measurement("unexplained_growth", float(growth[worst]), names[worst])


def _linear(name: str, values: FloatArray) -> FloatArray:
    """On a scale on which heads are nearly linear in the embedding: logits, and logarithms of money."""
    if "probabilit" in name or name == "value_score":
        kept = np.clip(values, 1e-4, 1 - 1e-4)
        return np.asarray(np.log(kept / (1 - kept)))
    return np.asarray(np.log1p(np.maximum(values, 0.0)))


def _psi(before: Snapshot, now: Snapshot) -> Measurement:
    found = {}
    for name in before.scores:
        sides = [side.scores[name][np.isfinite(side.scores[name])] for side in (before, now) if name in side.scores]
        if len(sides) == 2 and min(map(len, sides)) >= FEWEST:
            found[name] = drift.psi(sides[0], sides[1])
    if not found:
        return Measurement("score_psi", None, "no score is on both sides")
    name, value = _largest(found)
    return Measurement("score_psi", value, name)


def _activity_nulls(before: Snapshot, now: Snapshot) -> Measurement:
    growth = {name: share - before.activity_nulls.get(name, share) for name, share in now.activity_nulls.items()}
    name, value = _largest(growth)
    return Measurement("activity_nulls", value, name if value > 0 else "")


def _largest(named: Mapping[str, float]) -> tuple[str, float]:
    return max(named.items(), key=lambda item: item[1], default=("", 0.0))

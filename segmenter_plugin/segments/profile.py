"""What the users of each segment are like, gathered batch by batch.

A lift is what is typical of the segment over what is typical of all users (the base). Typical is
exp(mean(log(1 + x))) - 1: a plain mean of money or days is made by a few large values, and one whale or bot would name
its whole segment. Nulls, such as the recency of one who never bought, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segmenter_plugin.columns import PURCHASE, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.schemas import activity_fields
from segmenter_plugin.segments.event_times import EventTimes

FloatArray = NDArray[np.float64]
Ids = NDArray[np.int64]

#: Only lifts from here on are told.
SMALLEST_CATEGORY_LIFT = 1.1
#: A category must hold this share of a segment's events before its lift counts: rare ones have large lifts by chance.
SMALLEST_CATEGORY_SHARE = 0.03
#: And this many events.
FEWEST_CATEGORY_EVENTS = 20
MOST_CATEGORIES = 3
#: A median stability is told to a hundredth.
STABILITY_STEPS = 100
#: Lifts that one line of the profile table shows, the strongest first.
SHOWN_LIFTS = 3


@dataclass(frozen=True)
class CategoryLift:
    """How much more often a segment's events are of a category than all users' are."""

    category: str
    share: float
    lift: float


@dataclass(frozen=True)
class SegmentProfile:
    """One segment.

    Attributes:
        share: Of all users, in [0, 1].
        expected: By the first score column of each binary and value task, the mean.
        lifts: By trait (see `trait_columns`), typical value over the base's.
        inactive_share: Share of users without any purchase in the observation window.
        categories: The most lifted frequent categories, highest lift first.
        stability: The median of its users', in [0, 1].
        line: What sets it apart, in words.
    """

    segment_id: int
    users: int
    share: float
    expected: dict[str, float]
    lifts: dict[str, float]
    inactive_share: float
    categories: tuple[CategoryLift, ...]
    name: str = ""
    stability: float = 0.0
    line: str = ""

    def of(self, segment_id: int) -> SegmentProfile:
        """The same under the segment's id."""
        return replace(self, segment_id=segment_id)

    def named(self, name: str, line: str = "") -> SegmentProfile:
        """The same with a name, and what sets it apart."""
        return replace(self, name=name, line=line or self.line)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        tree = asdict(self)
        return tree | {"categories": list(tree["categories"])}


def profile_rows(profiles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The profile table, one line a segment, from what `SegmentProfile.as_dict` gave."""
    return [_row(profile) for profile in profiles]


def _row(profile: Mapping[str, Any]) -> dict[str, Any]:
    lifts: dict[str, float] = profile["lifts"]
    strongest = sorted(lifts, key=lambda trait: -abs(math.log(lifts[trait])) if lifts[trait] > 0 else -math.inf)
    shown = [f"{trait} x{lifts[trait]:.2f}" for trait in strongest[:SHOWN_LIFTS]]
    categories = [f"{entry['category']} x{entry['lift']:.2f}" for entry in profile["categories"]]
    means = {f"mean {column}": round(value, 4) for column, value in profile["expected"].items()}
    row = {"segment": profile["segment_id"], "name": profile["name"], "users": profile["users"]}
    row |= {"share": round(profile["share"], 4), "stability": round(profile["stability"], 3)}
    return row | means | {"against all users": ", ".join(shown + categories[:1])}


def trait_columns(config: Config) -> dict[str, str]:
    """Trait -> the aggregate that measures it, over the longest window; traits without one are left out."""
    names = [field.name for field in activity_fields(config)]

    def last(*stems: str) -> str | None:
        return next((name for stem in stems for name in reversed(names) if name.startswith(stem)), None)

    found = {
        "spend": last(f"{PURCHASE}_sum_"),
        "frequency": last("order_count_"),
        "recency": last(f"{PURCHASE}_recency_days", "recency_days"),
        "breadth": last("distinct_category_count", "distinct_item_count"),
        "order size": last("order_amount_mean"),
        "tenure": last("tenure_days"),
        "loyalty": last("active_day_count_"),
        "returns": last("return_count_"),
    }
    return {trait: column for trait, column in found.items() if column is not None}


def behaviour_columns(config: Config) -> list[str]:
    """Columns of the behaviour table that a profile reads."""
    columns = [Columns.user_id, *trait_columns(config).values(), Columns.sequence(Columns.event_timestamp)]
    if Columns.category in config.events.columns.mapped:
        columns += [Columns.sequence(Columns.event_type), Columns.sequence(Columns.category)]
    return columns


class ProfileSums:
    """Sums from which profiles are made; memory is bounded by the segments and categories, not the users.

    Args:
        config: The configuration.
        count: K segments.
    """

    def __init__(self, config: Config, count: int) -> None:
        self._config = config
        self._count = count
        self._traits = trait_columns(config)
        self._scores = [task.score_columns[0] for task in config.tasks if task.kind in ("binary", "value")]
        self._users = np.zeros(count)
        self._score_sums = np.zeros((len(self._scores), count))
        self._seen = np.zeros(count)
        self._inactive = np.zeros(count)
        self._trait_sums = np.zeros((len(self._traits), count))
        self._trait_counts = np.zeros((len(self._traits), count))
        self._categories: dict[str, FloatArray] = {}
        self._stabilities = np.zeros((count, STABILITY_STEPS + 1))
        self._times = EventTimes(config, count)

    def add_stability(self, stability: FloatArray, ids: Ids) -> None:
        """Take in how clearly users belong, each in [0, 1], with the segment of each."""
        np.add.at(self._stabilities, (ids, np.rint(stability * STABILITY_STEPS).astype(np.int64)), 1.0)

    def add_scores(self, batch: pa.RecordBatch, ids: Ids) -> None:
        """Take in scores, with the segment of each row."""
        self._users += np.bincount(ids, minlength=self._count)
        for place, name in enumerate(self._scores):
            values = _numbers(batch.column(name))
            self._score_sums[place] += np.bincount(ids, weights=values, minlength=self._count)

    def add_behaviour(self, batch: pa.RecordBatch, ids: Ids) -> None:
        """Take in behaviour, with the segment of each row."""
        self._seen += np.bincount(ids, minlength=self._count)
        for place, (trait, column) in enumerate(self._traits.items()):
            values = np.log1p(np.maximum(_numbers(batch.column(column)), 0.0))
            known = np.isfinite(values)
            self._trait_sums[place] += np.bincount(ids[known], weights=values[known], minlength=self._count)
            self._trait_counts[place] += np.bincount(ids[known], minlength=self._count)
            if trait == "recency":
                self._inactive += np.bincount(ids[~known], minlength=self._count)
        self._times.add(batch, ids)
        if Columns.sequence(Columns.category) in batch.schema.names:
            self._add_categories(batch, ids)

    def _add_categories(self, batch: pa.RecordBatch, ids: Ids) -> None:
        lists = batch.column(Columns.sequence(Columns.category))
        segments = ids[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)]
        values = lists.flatten()
        kept = pc.is_valid(values)
        if PURCHASE in self._config.events.types:
            bought = pc.equal(batch.column(Columns.sequence(Columns.event_type)).flatten(), PURCHASE)
            kept = pc.and_(kept, pc.fill_null(bought, fill_value=False))
        encoded = values.filter(kept).dictionary_encode()
        names = encoded.dictionary.to_pylist()
        cells = segments[kept.to_numpy(zero_copy_only=False)] * len(names) + encoded.indices.to_numpy()
        counts = np.bincount(cells, minlength=self._count * len(names)).reshape(self._count, len(names))
        for place, name in enumerate(names):
            self._categories[name] = self._categories.get(name, np.zeros(self._count)) + counts[:, place]

    def profiles(self) -> list[SegmentProfile]:
        """One profile a segment, by id."""
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = self._score_sums / self._users
            typical = np.expm1(self._trait_sums / self._trait_counts)
            lifts = typical / np.expm1(self._trait_sums.sum(axis=1) / self._trait_counts.sum(axis=1))[:, None]
            inactive = np.nan_to_num(self._inactive / self._seen)
            share = self._users / self._users.sum()
        categories = self._category_lifts()
        return [
            SegmentProfile(
                segment_id=segment,
                users=int(self._users[segment]),
                share=float(share[segment]),
                expected=_finite(self._scores, expected[:, segment]),
                lifts=_finite(list(self._traits), lifts[:, segment]) | self._times.lifts(segment),
                inactive_share=float(inactive[segment]),
                categories=categories[segment],
                stability=self._median_stability(segment),
            )
            for segment in range(self._count)
        ]

    def _median_stability(self, segment: int) -> float:
        reached = np.cumsum(self._stabilities[segment])
        return float(np.searchsorted(reached, reached[-1] / 2)) / STABILITY_STEPS

    def _category_lifts(self) -> list[tuple[CategoryLift, ...]]:
        names = sorted(self._categories)
        if not names:
            return [()] * self._count
        counts = np.stack([self._categories[name] for name in names], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = counts / counts.sum(axis=1, keepdims=True)
            lifts = shares / (counts.sum(axis=0) / counts.sum())
        usable = (shares >= SMALLEST_CATEGORY_SHARE) & (counts >= FEWEST_CATEGORY_EVENTS)
        ranked = np.argsort(-np.where(usable, lifts, 0.0), axis=1, kind="stable")[:, :MOST_CATEGORIES]
        return [
            tuple(
                CategoryLift(names[place], float(shares[segment, place]), float(lifts[segment, place]))
                for place in ranked[segment]
                if usable[segment, place] and lifts[segment, place] >= SMALLEST_CATEGORY_LIFT
            )
            for segment in range(self._count)
        ]


def _finite(names: list[str], values: FloatArray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def _numbers(column: pa.Array) -> FloatArray:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)

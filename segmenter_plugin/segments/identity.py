"""Ids that survive a retrain: new segments take the ids of old ones by the users that they share.

One-to-one, by the assignment of most overlap in sum (Kuhn 1955; `scipy.optimize.linear_sum_assignment`), with how near
the shared users' means lie as the tie-breaker. What is left is a birth or a death, and as in MONIC (Spiliopoulou et al.
2006) a birth that got most of its users from one old segment is a split of it, a death that lost most of its users to
one new segment a merge into it. The id of a dead segment is never used again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from segmenter_plugin.segments.space import FloatArray

Places = NDArray[np.int64]

#: Jaccard index (shared users over the users of either) from which on a segment is the same one.
SURVIVES = 0.2
#: Share of users that makes a birth a split, or a death a merge.
MOSTLY = 0.5
#: Weight of the distance between means, beside a Jaccard index: decides between overlaps that are all but equal.
TIE = 1e-3
#: A user without a segment before.
NONE = -1


@dataclass(frozen=True)
class Past:
    """What is known of the segments before.

    Attributes:
        users: (M,) ids of users, unique.
        segments: (M,) the segment id of each.
        cells: Of each segment id its tier and cluster, as the model before had them.
        clusters: K of the model before.
        next_id: The least id that no segment has ever had.
        names: Of each segment id its name.
    """

    users: pa.Array
    segments: Places
    cells: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    clusters: int = 0
    next_id: int = 0
    names: Mapping[int, str] = field(default_factory=dict)

    def of(self, users: pa.Array) -> Places:
        """The earlier segment id of each user, (N,); `NONE` where there is none."""
        if not len(self.users):
            return np.full(len(users), NONE, dtype=np.int64)
        places = pc.index_in(users.cast(self.users.type), value_set=self.users)
        found = np.append(self.segments, NONE)
        return found[pc.fill_null(places, len(self.segments)).to_numpy(zero_copy_only=False)]

    def clusters_of(self, segments: Places) -> Places:
        """The cluster that each segment id was of, (N,); `NONE` where there is none."""
        table = {segment: cluster for segment, (_, cluster) in self.cells.items()}
        unique, places = np.unique(segments, return_inverse=True)
        return np.array([table.get(int(segment), NONE) for segment in unique], dtype=np.int64)[places]


#: Nothing before: the first fit of a shop.
NOTHING = Past(pa.array([], pa.string()), np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Change:
    """What became of the segments before.

    Attributes:
        kept: Ids that go on, each with its Jaccard index.
        births: New ids.
        deaths: Ids that end.
        splits: Of an old id the new ids that most of their users brought from it.
        merges: Of a new id (kept or born) the dead ids most of whose users are there now.
        shared_users: Users that both have.
    """

    kept: dict[int, float] = field(default_factory=dict)
    births: tuple[int, ...] = ()
    deaths: tuple[int, ...] = ()
    splits: dict[int, tuple[int, ...]] = field(default_factory=dict)
    merges: dict[int, tuple[int, ...]] = field(default_factory=dict)
    shared_users: int = 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with text as keys."""
        return {
            "kept": {str(segment): overlap for segment, overlap in self.kept.items()},
            "births": list(self.births),
            "deaths": list(self.deaths),
            "splits": {str(parent): list(children) for parent, children in self.splits.items()},
            "merges": {str(heir): list(parents) for heir, parents in self.merges.items()},
            "shared_users": self.shared_users,
        }


def continued_ids(
    before: Places, now: Places, points: FloatArray, segments: int, next_id: int
) -> tuple[tuple[int, ...], Change]:
    """Ids of new segments.

    Args:
        before: (N,) old segment ids; `NONE` for users without one.
        now: (N,) places of new segments, in [0, S).
        points: (N, Q) users in the new space.
        segments: S, ordered by worth; births get ids in that order.
        next_id: The least id that is free.

    Returns:
        S ids, and the record of what changed.
    """
    shared = before != NONE
    old = np.unique(before[shared])
    rows = np.searchsorted(old, before[shared])
    counts = np.zeros((len(old), segments))
    np.add.at(counts, (rows, now[shared]), 1.0)
    sizes = np.bincount(now[shared], minlength=segments)
    jaccard = counts / np.maximum(counts.sum(axis=1)[:, None] + sizes - counts, 1.0)
    apart = _distances(_means(points[shared], rows, len(old)), _means(points[shared], now[shared], segments))
    pairs = zip(*linear_sum_assignment(TIE * apart - jaccard), strict=True)
    matched = {int(new): int(row) for row, new in pairs if jaccard[row, new] >= SURVIVES}
    ids, free = [], next_id
    for place in range(segments):
        if place in matched:
            ids.append(int(old[matched[place]]))
        else:
            ids.append(free)
            free += 1
    return tuple(ids), _change(old, ids, matched, counts, jaccard)


def _change(
    old: Places, ids: Sequence[int], matched: Mapping[int, int], counts: FloatArray, jaccard: FloatArray
) -> Change:
    born = [place for place in range(len(ids)) if place not in matched]
    dead = [row for row in range(len(old)) if row not in set(matched.values())]
    splits: dict[int, list[int]] = {}
    for place in born:
        if (parent := _majority(counts[:, place])) is not None:
            splits.setdefault(int(old[parent]), []).append(ids[place])
    merges: dict[int, list[int]] = {}
    for row in dead:
        if (heir := _majority(counts[row])) is not None:
            merges.setdefault(ids[heir], []).append(int(old[row]))
    return Change(
        kept={ids[place]: round(float(jaccard[row, place]), 4) for place, row in sorted(matched.items())},
        births=tuple(ids[place] for place in born),
        deaths=tuple(int(old[row]) for row in dead),
        splits={parent: tuple(children) for parent, children in splits.items()},
        merges={heir: tuple(parents) for heir, parents in merges.items()},
        shared_users=int(counts.sum()),
    )


def _majority(counts: FloatArray) -> int | None:
    total = counts.sum()
    return int(counts.argmax()) if total and counts.max() >= MOSTLY * total else None


def _means(points: FloatArray, groups: Places, count: int) -> FloatArray:
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, groups, points)
    return sums / np.maximum(np.bincount(groups, minlength=count), 1)[:, None]


def _distances(left: FloatArray, right: FloatArray) -> FloatArray:
    """(A, B) Euclidean distances, the largest being 1."""
    found: FloatArray = np.sqrt(((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2))
    return found / max(float(found.max(initial=0.0)), np.finfo(float).tiny)


def mean_of_groups(points: FloatArray, groups: Places, count: int) -> tuple[FloatArray, Places]:
    """Means (M, Q) of the groups that somebody is in, and which they are (M,); `NONE` is no group."""
    known = groups != NONE
    present = np.unique(groups[known])
    return _means(points[known], groups[known], count)[present], present

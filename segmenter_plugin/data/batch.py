"""Sequences of many users: ragged as they are stored, padded as the network reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segmenter_plugin.data.vocabulary import PADDING

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SequenceBatch:
    """B users' events, oldest first, padded on the right to the longest of them (T); F numbers an event, C a user.

    Attributes:
        categorical: Numbers of the vocabulary by column, (B, T) each; `PADDING` after the end.
        numeric: Standardised numbers and their indicators, (B, T, F).
        gaps: Days since the user's previous event, (B, T); 0 for the first.
        ages: Days from the event to the cutoff, (B, T).
        hours: Hour of the day in UTC, (B, T).
        weekdays: Monday is 0, (B, T).
        mask: True where there is an event, (B, T).
        context: Standardised aggregates and their indicators, (B, C).
    """

    categorical: dict[str, Ints]
    numeric: Floats
    gaps: Floats
    ages: Floats
    hours: Ints
    weekdays: Ints
    mask: npt.NDArray[np.bool_]
    context: Floats


@dataclass(frozen=True)
class RaggedSequences:
    """N users' events one after the other (E in all), without padding. Units and meanings as in `SequenceBatch`.

    Attributes:
        lengths: Events of each user, (N,).
        categorical: (E,) by column.
        numeric: (E, F).
        gaps: (E,).
        ages: (E,).
        hours: (E,).
        weekdays: (E,).
        context: (N, C).
    """

    lengths: Ints
    categorical: dict[str, npt.NDArray[np.int32]]
    numeric: Floats
    gaps: Floats
    ages: Floats
    hours: npt.NDArray[np.int8]
    weekdays: npt.NDArray[np.int8]
    context: Floats

    def __len__(self) -> int:
        return len(self.lengths)

    def pad(self, rows: Ints) -> SequenceBatch:
        """The users at `rows`, (B,), as one padded batch: one gather and one scatter index for all columns."""
        starts = np.cumsum(self.lengths)[rows] - self.lengths[rows]
        lengths = self.lengths[rows]
        width = max(1, int(lengths.max(initial=0)))
        place = np.arange(width)
        mask = place < lengths[:, None]
        source = (starts[:, None] + place)[mask]

        def scatter(flat: npt.NDArray[np.generic], dtype: npt.DTypeLike, fill: int = 0) -> npt.NDArray[np.generic]:
            padded = np.full((*mask.shape, *flat.shape[1:]), fill, dtype=dtype)
            padded[mask] = flat[source]
            return padded

        return SequenceBatch(
            categorical={
                name: scatter(flat, np.int64, PADDING).astype(np.int64, copy=False)
                for name, flat in self.categorical.items()
            },
            numeric=scatter(self.numeric, np.float32).astype(np.float32, copy=False),
            gaps=scatter(self.gaps, np.float32).astype(np.float32, copy=False),
            ages=scatter(self.ages, np.float32).astype(np.float32, copy=False),
            hours=scatter(self.hours, np.int64).astype(np.int64, copy=False),
            weekdays=scatter(self.weekdays, np.int64).astype(np.int64, copy=False),
            mask=mask,
            context=self.context[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[RaggedSequences]) -> RaggedSequences:
        """All users of all parts, in order; the parts share their columns."""
        names = parts[0].categorical
        return cls(
            lengths=np.concatenate([part.lengths for part in parts]),
            categorical={name: np.concatenate([part.categorical[name] for part in parts]) for name in names},
            numeric=np.concatenate([part.numeric for part in parts]),
            gaps=np.concatenate([part.gaps for part in parts]),
            ages=np.concatenate([part.ages for part in parts]),
            hours=np.concatenate([part.hours for part in parts]),
            weekdays=np.concatenate([part.weekdays for part in parts]),
            context=np.concatenate([part.context for part in parts]),
        )

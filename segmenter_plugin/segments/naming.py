"""Names that a person understands, from what sets a segment's users apart from all users."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segmenter_plugin.segments.profile import SegmentProfile

#: Trait -> what a high and a low mean is called; in the order in which a name lists them.
WORDS: dict[str, tuple[str, str]] = {
    "spend": ("high spend", "low spend"),
    "frequency": ("frequent", "occasional"),
    "recency": ("lapsing", "recent"),
    "breadth": ("broad basket", "narrow basket"),
    "order size": ("large orders", "small orders"),
    "tenure": ("long-standing", "new"),
    "returns": ("returns often", "returns little"),
}
#: A trait is worth a word when its typical value differs from the base's by this factor, up or down.
NOTABLE_LIFT = 1.25
#: Money spreads widest, so it gets a second step: from this factor on, spend is "very" high or low.
EXTREME_SPEND_LIFT = 2.5
#: A category is worth a word from this lift on.
NOTABLE_CATEGORY_LIFT = 1.2
#: Traits in a name, unless more are needed to tell segments apart.
USUAL_TRAITS = 2
LONGEST_CATEGORY = 24
#: From this share of users without a purchase on, they are what the segment is about.
INACTIVE_SHARE = 0.5


def name_segments(profiles: Sequence[SegmentProfile]) -> list[str]:
    """A short, unique name for each segment; the same profiles give the same names.

    A name lists the strongest traits and the most lifted category, for example ``high spend, frequent, buys MEAT``.
    Where two segments would share a name, the later one takes further traits, then "lower value" (ids are
    ordered by it), then a number.

    Args:
        profiles: One a segment, by id.
    """
    names: list[str] = []
    for profile in profiles:
        candidates = _candidates(profile)
        # Ids are ordered by worth, so the later of two namesakes is the one of lower value.
        free = [name for name in (*candidates, f"{candidates[0]}, lower value") if name not in names]
        names.append(free[0] if free else _numbered(candidates[0], names))
    return names


def _candidates(profile: SegmentProfile) -> list[str]:
    """Names from the usual length to the longest."""
    strength = {
        trait: abs(math.log(lift)) if lift > 0 else math.inf
        for trait, lift in profile.lifts.items()
        if lift >= NOTABLE_LIFT or lift <= 1 / NOTABLE_LIFT
    }
    strongest = sorted(strength, key=lambda trait: (-strength[trait], trait))
    categories = [
        f"buys {_short(entry.category)}" for entry in profile.categories if entry.lift >= NOTABLE_CATEGORY_LIFT
    ]
    first = ["no purchases"] if profile.inactive_share >= INACTIVE_SHARE else []
    found = []
    for count in range(min(USUAL_TRAITS, len(strongest)), len(strongest) + 1):
        traits = [_word(profile, trait) for trait in WORDS if trait in strongest[:count]]
        found.append(", ".join([*first, *traits, *categories[:1]]) or "typical")
    everything = [_word(profile, trait) for trait in WORDS if trait in strongest]
    found += [", ".join([*first, *everything, *categories[:count]]) for count in range(2, len(categories) + 1)]
    return found


def _word(profile: SegmentProfile, trait: str) -> str:
    lift = profile.lifts[trait]
    extreme = lift >= EXTREME_SPEND_LIFT or lift <= 1 / EXTREME_SPEND_LIFT
    return ("very " if trait == "spend" and extreme else "") + WORDS[trait][0 if lift > 1 else 1]


def _short(category: str) -> str:
    return category if len(category) <= LONGEST_CATEGORY else category[: LONGEST_CATEGORY - 1].rstrip() + "…"


def _numbered(name: str, taken: Sequence[str]) -> str:
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"

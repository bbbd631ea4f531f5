"""Names that a person understands, from what sets a segment's users apart from all users."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.segments.profile import SegmentProfile

#: Trait -> what a high and a low mean is called; in the order in which a name lists them.
WORDS: dict[str, tuple[str, str]] = {
    "spend": ("high spend", "low spend"),
    "frequency": ("frequent", "occasional"),
    "recency": ("lapsing", "recent"),
    "breadth": ("broad basket", "narrow basket"),
    "order size": ("large orders", "small orders"),
    "tenure": ("long-standing", "new"),
    "loyalty": ("loyal", "rarely here"),
    "returns": ("returns often", "returns little"),
    "weekend": ("weekend", "weekdays"),
    "evening": ("evenings", "daytime"),
}
#: A trait is worth a word when its typical value differs from the base's by this factor, up or down.
NOTABLE_LIFT = 1.25
#: Money spreads widest, so it gets a second step: from this factor on, spend is "very" high or low.
EXTREME_SPEND_LIFT = 2.5
#: A category is worth a word from this lift on.
NOTABLE_CATEGORY_LIFT = 1.2
#: Traits in a name, unless more are needed to tell segments apart.
USUAL_TRAITS = 2
#: Traits, then categories, in a one-line profile.
LINE_TRAITS, LINE_CATEGORIES = 5, 2
LONGEST_CATEGORY = 24
#: From this share of users without a purchase on, they are what the segment is about.
INACTIVE_SHARE = 0.5


def name_segments(profiles: Sequence[SegmentProfile], former: Mapping[int, str] | None = None) -> list[str]:
    """A short, unique name for each segment; the same profiles give the same names.

    A name lists the strongest traits and the most lifted category, for example ``high spend, frequent, buys MEAT``.
    Where two segments would share a name, the later one takes further traits, then "lower value" (ids are
    ordered by it), then a number.

    A segment that had a name before keeps it while it is still true.

    Args:
        profiles: One a segment, by falling worth.
        former: Of segment ids that were there before, their names.
    """
    found = [_candidates(profile) for profile in profiles]
    before = [(former or {}).get(profile.segment_id) for profile in profiles]
    kept = {name for name, candidates in zip(before, found, strict=True) if name in candidates}
    names: list[str] = []
    for name, candidates in zip(before, found, strict=True):
        if name is not None and name in candidates:
            names.append(name)
            continue
        # Segments are ordered by worth, so the later of two namesakes is the one of lower value.
        taken = {*names, *kept}
        free = [name for name in (*candidates, f"{candidates[0]}, lower value") if name not in taken]
        names.append(free[0] if free else _numbered(candidates[0], taken))
    return names


def one_line(profile: SegmentProfile) -> str:
    """What sets a segment apart, in one line: ``high spend, loyal, weekend, buys BABY FOODS``."""
    strongest = _strongest(profile)[:LINE_TRAITS]
    words = ["no purchases"] if profile.inactive_share >= INACTIVE_SHARE else []
    words += [_word(profile, trait) for trait in WORDS if trait in strongest]
    return ", ".join([*words, *_bought(profile)[:LINE_CATEGORIES]]) or "typical"


def overridden(names: Sequence[str], ids: Sequence[int], chosen: Mapping[int, str], known: Container[int]) -> list[str]:
    """Names of segments, those that a person chose first.

    Args:
        names: By the segments' order.
        ids: Their ids.
        chosen: By id; one of a segment that has ended is passed over, since the file outlives it.
        known: All ids that there have been.

    Raises:
        ConfigError: An id has never been one, or two segments would share a name.
    """
    unknown = sorted(segment for segment in chosen if segment not in known)
    if unknown:
        raise ConfigError(
            f"[segments] names gives names to {unknown}, which are no segments; there are {sorted(ids)}.",
            hint="`segmenter segments` lists them.",
        )
    found = [chosen.get(segment, name) for segment, name in zip(ids, names, strict=True)]
    repeated = sorted({name for name in found if found.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"[segments] names makes {repeated} the name of several segments; names must differ.",
            hint="name the other segment too, or choose another name.",
        )
    return found


def _candidates(profile: SegmentProfile) -> list[str]:
    """Names from the usual length to the longest."""
    strongest, categories = _strongest(profile), _bought(profile)
    first = ["no purchases"] if profile.inactive_share >= INACTIVE_SHARE else []
    found = []
    for count in range(min(USUAL_TRAITS, len(strongest)), len(strongest) + 1):
        traits = [_word(profile, trait) for trait in WORDS if trait in strongest[:count]]
        found.append(", ".join([*first, *traits, *categories[:1]]) or "typical")
    everything = [_word(profile, trait) for trait in WORDS if trait in strongest]
    found += [", ".join([*first, *everything, *categories[:count]]) for count in range(2, len(categories) + 1)]
    return found


def _strongest(profile: SegmentProfile) -> list[str]:
    """Traits that are worth a word, the most unusual first."""
    strength = {
        trait: abs(math.log(lift)) if lift > 0 else math.inf
        for trait, lift in profile.lifts.items()
        if lift >= NOTABLE_LIFT or lift <= 1 / NOTABLE_LIFT
    }
    return sorted(strength, key=lambda trait: (-strength[trait], trait))


def _bought(profile: SegmentProfile) -> list[str]:
    return [f"buys {_short(entry.category)}" for entry in profile.categories if entry.lift >= NOTABLE_CATEGORY_LIFT]


def _word(profile: SegmentProfile, trait: str) -> str:
    lift = profile.lifts[trait]
    extreme = lift >= EXTREME_SPEND_LIFT or lift <= 1 / EXTREME_SPEND_LIFT
    return ("very " if trait == "spend" and extreme else "") + WORDS[trait][0 if lift > 1 else 1]


def _short(category: str) -> str:
    return category if len(category) <= LONGEST_CATEGORY else category[: LONGEST_CATEGORY - 1].rstrip() + "…"


def _numbered(name: str, taken: Container[str]) -> str:
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"

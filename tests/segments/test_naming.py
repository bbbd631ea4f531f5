"""Names are readable, short, unique and the same each time."""

from itertools import product

import pytest

from segmenter_plugin.segments.naming import WORDS, name_segments
from segmenter_plugin.segments.profile import CategoryLift, SegmentProfile


def profile(segment=0, inactive=0.0, categories=(), **lifts):
    lifts = {name.replace("_", " "): lift for name, lift in lifts.items()}
    found = tuple(CategoryLift(name, 0.2, lift) for name, lift in categories)
    return SegmentProfile(segment, 10, 0.1, {}, lifts, inactive, found)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"spend": 2.0, "frequency": 1.5}, "high spend, frequent"),
        ({"spend": 3.0, "frequency": 1.5}, "very high spend, frequent"),
        ({"spend": 0.3, "recency": 4.0, "breadth": 0.7}, "very low spend, lapsing"),
        ({"recency": 0.5, "breadth": 1.6, "spend": 1.1}, "recent, broad basket"),
        ({"spend": 1.0, "frequency": 1.2}, "typical"),
        ({"spend": 1.0, "categories": [("MEAT", 1.5)]}, "buys MEAT"),
        ({"spend": 1.0, "categories": [("MEAT", 1.1)]}, "typical"),
        ({"spend": 0.0, "inactive": 0.9}, "no purchases, very low spend"),
        ({"order_size": 2.0, "tenure": 0.5, "categories": [("FROZEN", 2.0)]}, "large orders, new, buys FROZEN"),
    ],
)
def test_a_name_says_what_is_special(given, name):
    assert name_segments([profile(**given)]) == [name]


def test_the_strongest_traits_are_named():
    assert name_segments([profile(spend=1.3, frequency=1.4, recency=0.2, breadth=3.0)]) == ["recent, broad basket"]


def test_namesakes_take_further_traits_then_categories_then_value():
    alike = {"spend": 2.0, "frequency": 1.9}
    names = name_segments(
        [
            profile(0, **alike, breadth=1.3),
            profile(1, **alike, breadth=1.3),
            profile(2, **alike),
            profile(3, **alike),
            profile(4, **alike),
        ]
    )
    assert names == [
        "high spend, frequent",
        "high spend, frequent, broad basket",
        "high spend, frequent, lower value",
        "high spend, frequent (2)",
        "high spend, frequent (3)",
    ]
    two = [("MEAT", 1.5), ("BREAD", 1.4)]
    assert name_segments([profile(0, categories=two), profile(1, categories=two)]) == [
        "buys MEAT",
        "buys MEAT, buys BREAD",
    ]


def test_names_are_unique_and_deterministic_whatever_the_profiles():
    steps = (0.3, 1.0, 2.0)
    profiles = [
        profile(place, spend=a, frequency=b, recency=c) for place, (a, b, c) in enumerate(product(steps, repeat=3))
    ] * 3
    names = name_segments(profiles)
    assert len(set(names)) == len(names) == 81
    assert names == name_segments(profiles)
    assert max(map(len, names)) <= 60


def test_a_long_category_is_cut():
    (name,) = name_segments([profile(categories=[("X" * 80, 2.0)])])
    assert len(name) <= 30
    assert name.endswith("…")


def test_every_trait_has_both_words():
    for trait, (high, low) in WORDS.items():
        key = trait.replace(" ", "_")
        assert name_segments([profile(**{key: 2.0}), profile(**{key: 0.5})]) == [high, low]

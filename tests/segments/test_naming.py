"""Names are readable, short, unique and the same each time."""

from itertools import product

import pytest

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.segments.naming import WORDS, name_segments, one_line, overridden
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


def test_a_name_stays_while_it_is_true():
    strong = profile(3, spend=2.0, frequency=1.9, breadth=1.3)
    former = {3: "high spend, frequent, broad basket"}
    assert name_segments([strong], former) == ["high spend, frequent, broad basket"]
    assert name_segments([profile(3, spend=0.5)], former) == ["low spend"]
    # One that comes first does not take the name of a later one.
    both = name_segments(
        [profile(1, spend=2.0, frequency=1.9), profile(3, spend=2.0, frequency=1.9)], {3: "high spend, frequent"}
    )
    assert both == ["high spend, frequent, lower value", "high spend, frequent"]


def test_one_line_tells_more_than_the_name():
    lifts = {"spend": 2.0, "loyalty": 1.5, "weekend": 1.4, "frequency": 1.1}
    assert one_line(profile(categories=[("BABY", 2.0)], **lifts)) == "high spend, loyal, weekend, buys BABY"
    assert one_line(profile()) == "typical"


def test_a_person_has_the_last_word():
    assert overridden(["a", "b"], [4, 7], {7: "Families", 2: "gone"}, {2, 4, 7}) == ["a", "Families"]
    with pytest.raises(ConfigError, match=r"\[9\]") as caught:
        overridden(["a"], [4], {9: "x"}, {4})
    assert "segmenter segments" in caught.value.hint
    with pytest.raises(ConfigError, match="several"):
        overridden(["a", "b"], [4, 7], {7: "a"}, {4, 7})

"""Base rates from counts of parts, and what is found suspicious of them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from segmenter_plugin.data.label_quality import added, base_rates, label_counts, label_warnings
from segmenter_plugin.tasks import TaskConfig

TASKS = (
    TaskConfig(name="purchase", kind="binary", prediction_days=7),
    TaskConfig(name="spend", kind="value", prediction_days=7),
    TaskConfig(name="depth", kind="multiclass", prediction_days=7, ladder=("view", "purchase")),
    TaskConfig(name="taste", kind="multilabel", prediction_days=7, target="category"),
)
TYPES = [pa.bool_(), pa.float64(), pa.string(), pa.list_(pa.string())]
LADDERS = TaskConfig(
    name="interest", kind="multiclass", prediction_days=7, ladder=("view", "purchase"), target="category"
)


def labels(*rows):
    columns = zip(*rows, strict=True) if rows else [[]] * len(TASKS)
    names = [task.label_column for task in TASKS]
    return pa.table({name: pa.array(values, kind) for name, values, kind in zip(names, columns, TYPES, strict=True)})


ROWS = [
    (True, 5.0, "purchase", ["a"]),
    (True, 0.1, "purchase", ["a", "b"]),
    (False, 0.0, "view", []),
    (False, 0.0, "none", []),
]


@pytest.mark.parametrize("cut", range(len(ROWS) + 1))
def test_rates_do_not_depend_on_the_parts(cut):
    parts = [label_counts(labels(*rows), TASKS) for rows in (ROWS[:cut], ROWS[cut:])]
    counts = added(parts)
    rates = base_rates(counts, TASKS)
    assert rates == {
        "purchase_7d_label": 0.5,
        "spend_7d_label": {"above_zero": 0.5, "mean": 5.1 / 4},
        "depth_7d_label": {"none": 0.25, "view": 0.25, "purchase": 0.5},
        "taste_7d_label": {"any": 0.5},
    }
    assert label_warnings(rates, counts, TASKS) == []


def test_the_mean_does_not_depend_on_the_order_of_parts():
    parts = [label_counts(labels((True, money, "purchase", [])), TASKS) for money in (0.1, 0.2, 0.3)]
    orders = (parts, parts[::-1], parts[1:] + parts[:1])
    assert len({added(order)["spend_7d_label"]["sum"] for order in orders}) == 1


def test_censored_labels_have_no_rate_and_no_warning():
    counts = label_counts(labels((None, None, None, None)), TASKS)
    rates = base_rates(counts, TASKS)
    assert set(rates.values()) == {None}
    assert label_warnings(rates, counts, TASKS) == []


def found(*rows):
    counts = label_counts(labels(*rows), TASKS)
    return label_warnings(base_rates(counts, TASKS), counts, TASKS)


def test_labels_that_nobody_or_everybody_has():
    never = found((False, 0.0, "none", []))
    assert never == [
        "purchase_7d_label: no user has an event of type 'purchase' that counts in the window",
        "spend_7d_label: no user has an event of type 'purchase' that counts in the window",
        "depth_7d_label: nobody is of the classes ['purchase', 'view']",
        "taste_7d_label: no user has an event of type 'purchase' that counts in the window",
    ]
    always = found((True, 1.0, "purchase", ["a"]))
    assert always[0] == "purchase_7d_label: every user has an event of type 'purchase' in the window"


def test_buyers_who_paid_nothing():
    ours = [text for text in found((True, 0.0, "purchase", ["a"]), *ROWS) if "paid nothing" in text]
    assert ours == []
    (text,) = [text for text in found(*[(True, 0.0, "purchase", ["a"])] * 3, *ROWS) if "paid nothing" in text]
    assert text == "spend_7d_label: of 5 buyers in the window 3 paid nothing, or got it all back"


def ladders(*rows):
    kind = pa.list_(pa.struct([("value", pa.string()), ("rung", pa.string())]))
    lists = [None if row is None else [{"value": value, "rung": rung} for value, rung in row] for row in rows]
    return pa.table({"interest_7d_label": pa.array(lists, kind)})


def test_rates_of_a_ladder_of_each_category():
    rows = [[("a", "view"), ("b", "purchase")], [], None, [("a", "view")]]
    for cut in range(len(rows) + 1):
        counts = added(label_counts(ladders(*part), [LADDERS]) for part in (rows[:cut], rows[cut:]))
        rates = base_rates(counts, [LADDERS])
        assert rates == {
            "interest_7d_label": {
                "any": pytest.approx(2 / 3),
                "view": pytest.approx(2 / 3),
                "purchase": pytest.approx(1 / 3),
            }
        }
        assert label_warnings(rates, counts, [LADDERS]) == []


def test_a_rung_that_nothing_reaches():
    def found(*rows):
        counts = label_counts(ladders(*rows), [LADDERS])
        return label_warnings(base_rates(counts, [LADDERS]), counts, [LADDERS])

    assert found([("a", "view")], []) == ["interest_7d_label: nothing is of the rungs ['purchase']"]
    assert found([]) == ["interest_7d_label: nothing is of the rungs ['any', 'purchase', 'view']"]
    assert found(None) == []

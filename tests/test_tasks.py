from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from segmenter_plugin.tasks import TaskConfig


def test_names_derive_from_the_window():
    task = TaskConfig(name="purchase", kind="binary", prediction_days=14)
    assert task.label_column == "purchase_14d_label"
    assert task.score_columns == ("purchase_14d_probability",)
    gapped = TaskConfig(name="spend", kind="value", prediction_days=28, gap_days=7)
    suffixes = ("expected", "probability", "p10", "p50", "p90")
    assert gapped.score_columns == tuple(f"spend_28d_gap7d_{suffix}" for suffix in suffixes)


def test_the_window_starts_after_the_gap():
    task = TaskConfig(name="spend", kind="value", prediction_days=28, gap_days=7)
    cutoff = datetime(2017, 1, 1, tzinfo=UTC)
    assert task.window(cutoff) == (datetime(2017, 1, 8, tzinfo=UTC), datetime(2017, 2, 5, tzinfo=UTC))


def test_a_ladder_gives_the_classes_lowest_first():
    task = TaskConfig(name="interest", kind="multiclass", prediction_days=7, ladder=("view", "purchase"))
    assert task.classes == ("none", "view", "purchase")
    assert task.event_types == ("view", "purchase")


def test_a_ladder_with_a_target_is_asked_of_each_category():
    ladder = {"name": "interest", "kind": "multiclass", "prediction_days": 7, "ladder": ("view", "purchase")}
    task = TaskConfig(**ladder, target="category", top_count=3)
    assert task.form == "category"
    assert task.classes == ("none", "view", "purchase")
    assert task.score_columns == ("interest_7d_probabilities",)
    assert not task.rates_a_user
    assert [TaskConfig(**ladder).form, TaskConfig(name="x", kind="value", prediction_days=7).form] == [
        "multiclass",
        "value",
    ]


def test_what_a_task_is_made_from_has_not_grown():
    """Fingerprints of labels, weights and segments hold these keys: another one would have everything built anew."""
    names = ["name", "kind", "event_type", "gap_days", "prediction_days", "ladder", "target", "top_count"]
    assert list(TaskConfig(name="x", kind="binary", prediction_days=7).model_dump()) == names


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "x", "kind": "multiclass", "prediction_days": 7}, "ladder"),
        ({"name": "x", "kind": "binary", "prediction_days": 7, "ladder": ("view",)}, "ladder"),
        ({"name": "x", "kind": "multilabel", "prediction_days": 7}, "needs a target"),
        ({"name": "x", "kind": "multilabel", "prediction_days": 7, "target": "a", "ladder": ("view",)}, "ladder"),
        ({"name": "x", "kind": "multiclass", "prediction_days": 7, "target": "a"}, "ladder"),
        ({"name": "x", "kind": "binary", "prediction_days": 7, "target": "a"}, "not with 'binary'"),
        ({"name": "x", "kind": "value", "prediction_days": 7, "target": "a"}, "not with 'value'"),
        ({"name": "x", "kind": "value", "prediction_days": 7, "event_type": "view"}, "leave event_type out"),
        ({"name": "x", "kind": "binary", "prediction_days": 0}, "greater than 0"),
        ({"name": "x", "kind": "binary", "prediction_days": 7, "gap_days": -1}, "greater than or equal to 0"),
        ({"name": "X y", "kind": "binary", "prediction_days": 7}, "pattern"),
        ({"name": "x", "kind": "ranking", "prediction_days": 7}, "binary"),
    ],
)
def test_a_contradiction_is_refused(entry, message):
    with pytest.raises(ValidationError, match=message):
        TaskConfig(**entry)

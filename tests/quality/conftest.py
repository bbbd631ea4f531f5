"""Training rows with a signal that only some columns carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segmenter_plugin.quality.training_rows import TrainingRows
from segmenter_plugin.tasks import TaskConfig

NAMES = (
    "order_count_28d",
    "order_count_90d",
    "purchase_count_90d",
    "purchase_sum_28d",
    "purchase_sum_90d",
    "recency_days",
    "purchase_recency_days",
    "distinct_item_count",
)

TASKS = {
    "binary": TaskConfig(name="purchase", kind="binary", prediction_days=14),
    "value": TaskConfig(name="spend", kind="value", prediction_days=14),
    "multiclass": TaskConfig(name="funnel", kind="multiclass", prediction_days=14, ladder=("view", "purchase")),
    "multilabel": TaskConfig(name="taste", kind="multilabel", prediction_days=14, target="category"),
    "category": TaskConfig(
        name="interest", kind="multiclass", prediction_days=14, ladder=("view", "purchase"), target="category"
    ),
}


def make_rows(kind: str, count: int = 1500, seed: int = 0) -> TrainingRows:
    random = np.random.default_rng(seed)
    rate = random.gamma(1.0, 1.0, count)
    activity = np.column_stack([random.poisson(rate * scale) for scale in (2, 6, 9, 20, 60)]).astype(float)
    recency = 30 / (0.3 + rate) * random.uniform(0.5, 1.5, count)
    bought = np.where(activity[:, 2] > 0, recency, np.nan)
    # What RFM does not see: an even number of items makes the purchase likelier.
    items = random.poisson(5, count).astype(float)
    activity = np.column_stack([activity, recency, bought, items])
    outcome = random.random(count) < 1 / (1 + np.exp(-(2 * np.log(rate) + np.where(items % 2 == 0, 1.5, -1.5))))
    labels: dict[str, Any] = {
        "binary": outcome,
        "value": np.where(outcome, rate * 30 * random.gamma(5, 0.2, count), 0.0),
        "multiclass": np.where(outcome, 2, (rate > 0.5).astype(int)),
        "multilabel": np.column_stack([outcome, rate > 1, np.zeros(count, dtype=bool)]),
        # The second value has one class alone.
        "category": np.column_stack([np.where(outcome, 2, (rate > 0.5).astype(int)), np.ones(count, dtype=int)]),
    }
    return TrainingRows(
        activity, NAMES, labels[kind], random.random(count) < 0.2, {"binary": 1, "value": 1}.get(kind, 3)
    )


@pytest.fixture
def training_rows():
    return make_rows


@pytest.fixture
def tasks():
    return TASKS

"""Identity and agreement with the truth on a small simulated shop, beside what needs no encoder."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import adjusted_rand_score

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.shop import simulate
from segmenter_plugin.segments.comparison import agreement_interval, kmeans_alone, rfm_kmeans, rfm_matrix, rfm_tiers
from segmenter_plugin.segments.fit import fit_segments
from segmenter_plugin.segments.identity import Past
from segmenter_plugin.tasks import TaskConfig

START = datetime(2023, 1, 1, tzinfo=UTC)
USERS = 500


@pytest.fixture(scope="module")
def shop():
    """Truth, and what users did before two cutoffs a month apart: lines by department, orders, money, recency."""
    shop = simulate(USERS, 150, 5, START)
    events = pa.Table.from_batches(list(shop.events)).filter(pc.equal(pc.field("kind"), "buy"))
    user = np.array([int(name[1:]) for name in events.column("visitor").cast(pa.string()).to_pylist()])
    day = (events.column("at").cast(pa.int64()).to_numpy() - START.timestamp() * 1e6) / 86400e6
    names, places = np.unique(events.column("department").cast(pa.string()).to_pylist(), return_inverse=True)
    money = events.column("unit_price").to_numpy() * events.column("units").fill_null(1).to_numpy()
    seen = {}
    for cutoff in (120, 150):
        past = day < cutoff
        lines = np.bincount(user[past] * len(names) + places[past], minlength=USERS * len(names)).reshape(USERS, -1)
        last = np.full(USERS, -np.inf)
        np.maximum.at(last, user[past], day[past])
        spent = np.bincount(user[past], weights=money[past], minlength=USERS)
        seen[cutoff] = {"lines": lines, "recency": cutoff - last, "money": spent}
    truth = shop.truth
    value = np.array(pc.index_in(truth.column("value_class"), pa.array(["low", "middle", "high"])).fill_null(0))
    active = np.isfinite(seen[120]["recency"]) & pc.is_null(truth.column("churned_at")).to_numpy()
    return seen, value * 8 + truth.column("taste").to_numpy(), active


def scores(seen, seed, users):
    """An encoder of that seed: a turned, noisy map of log lines by department."""
    random = np.random.default_rng(seed)
    shares = np.log1p(seen["lines"]) - np.log1p(seen["lines"]).mean(axis=0)
    turn, _ = np.linalg.qr(random.normal(size=(shares.shape[1], shares.shape[1])))
    embedding = ((shares + 0.2 * random.normal(size=shares.shape)) @ turn)[users].astype(np.float32)
    money = seen["money"][users]
    return pa.RecordBatch.from_pydict(
        {
            "user_id": pa.array([f"v{user}" for user in users]),
            "embedding": pa.array(list(embedding), pa.list_(pa.float32())),
            "spend_28d_expected": pa.array(money, pa.float32()),
            "value_score": pa.array(money / (money + np.median(money)), pa.float32()),
        }
    )


@pytest.fixture
def config(tmp_path):
    columns = {"user_id": "u", "item_id": "i", "event_type": "k", "event_timestamp": "t", "price": "p"}
    tree = {
        "events": {"path": "e.parquet", "timezone": "UTC", "columns": columns, "types": {"purchase": ["buy"]}},
        "tasks": [{"name": "spend", "kind": "value", "prediction_days": 28}],
        "segments": {"tiers": 3, "count": 8, "minimum_share": 0.01, "seed": 1},
    }
    return parse_config(tree)


def test_ids_stay_over_a_month_and_another_seed_and_agree_with_the_truth(shop, config):
    seen, truth, active = shop
    users = np.flatnonzero(active)
    first, second = scores(seen[120], 1, users), scores(seen[150], 2, users)
    model, _ = fit_segments([first], config)
    found = model.assign(first, config)
    past = Past(first.column("user_id"), found.ids, model.cells, model.clusters.count, len(model.ids))
    other = config.model_copy(update={"segments": config.segments.model_copy(update={"seed": 2})})
    again, _ = fit_segments([second], other, past)
    later = again.assign(second, other, past.of(second.column("user_id")))
    assert (later.ids == found.ids).mean() >= 0.9

    activity = np.column_stack([seen[150]["recency"], seen[150]["lines"].sum(axis=1), seen[150]["money"]])[users]
    names = ("purchase_recency_days", "order_count_90d", "purchase_sum_90d")
    rfm = rfm_matrix(activity, names, TaskConfig(name="spend", kind="value", prediction_days=28))
    for rival in (rfm_tiers(rfm), rfm_kmeans(rfm, 24, 1)):
        difference, lowest, highest = agreement_interval(truth[users], later.ids, rival, samples=50, seed=1)
        assert 0 < lowest < difference < highest


def test_rfm_tiers_are_quantiles_and_clusters_are_deterministic():
    rfm = np.random.default_rng(0).normal(size=(900, 3))
    labels = rfm_tiers(rfm)
    assert len(np.unique(labels)) == 27
    assert np.bincount(labels // 9).tolist() == [300, 300, 300]
    np.testing.assert_array_equal(rfm_kmeans(rfm, 5, 1), rfm_kmeans(rfm, 5, 1))
    np.testing.assert_array_equal(rfm_kmeans(rfm * [1, 100, 1], 5, 1), rfm_kmeans(rfm, 5, 1))
    assert adjusted_rand_score(kmeans_alone(rfm, 4, 1), kmeans_alone(rfm, 4, 1)) == 1.0


def test_who_never_bought_is_as_long_ago_as_anyone():
    task = TaskConfig(name="spend", kind="value", prediction_days=28)
    names = ("purchase_recency_days", "order_count_90d", "purchase_sum_90d")
    rfm = rfm_matrix(np.array([[np.nan, 0.0, 0.0], [9.0, 2.0, 5.0]]), names, task)
    np.testing.assert_allclose(rfm, np.log1p([[9, 0, 0], [9, 2, 5]]))

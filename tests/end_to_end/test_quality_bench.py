"""The instruments of benchmarks/quality.py: its purchase process, cells, folds, records and bars."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.errors import LeakageError
from segmenter_plugin.tasks import TaskConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: 2,357 customers of CDNOW's 1/10 sample, 39 weeks: repeat purchases, time of the last (1/100 week), time observed,
#: mean amount (cents). Published by Fader and Hardie beside their papers.
CDNOW = Path(__file__).with_name("cdnow.npz")
PURCHASE = TaskConfig(name="purchase", kind="binary", prediction_days=7)


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def cdnow():
    with np.load(CDNOW, allow_pickle=False) as arrays:
        x, t_x, observed, mean = (arrays[name].astype(float) for name in ("x", "t_x", "T", "mean"))
    return x, t_x / 100, observed / 100, mean / 100


def test_bgnbd_finds_the_published_parameters_of_cdnow(cdnow):
    from quality_bench.purchase_process import fit_bgnbd

    x, t_x, observed, _ = cdnow
    model = fit_bgnbd(x, t_x, observed)
    # Fader, Hardie and Lee 2005, table 2.
    assert (model.r, model.alpha, model.a, model.b) == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=2e-3)
    assert model.log_likelihood(x, t_x, observed).sum() == pytest.approx(-9582.4, abs=0.1)
    customer = [np.array([value]) for value in (2.0, 30.43, 38.86)]
    assert model.expected_purchases(*customer, 39.0)[0] == pytest.approx(1.226, abs=2e-3)


def test_gamma_gamma_finds_the_published_parameters_of_cdnow(cdnow):
    from quality_bench.purchase_process import fit_gamma_gamma

    x, _, _, mean = cdnow
    model = fit_gamma_gamma(x[x > 0], mean[x > 0])
    # Fader and Hardie 2013, section 3.
    assert (model.p, model.q, model.gamma) == pytest.approx((6.25, 3.74, 15.44), rel=3e-3)
    assert model.expected_amount(np.array([0.0]), np.array([0.0]))[0] == pytest.approx(35.2, abs=0.1)


def test_any_purchase_is_what_a_simulation_of_the_process_shows():
    from quality_bench.purchase_process import BgNbd

    random = np.random.default_rng(3)
    model = BgNbd(0.8, 12.0, 0.9, 2.5)
    rate, leaves = random.gamma(model.r, 1 / model.alpha, 200_000), random.beta(model.a, model.b, 200_000)
    clock, alive = np.zeros(200_000), np.ones(200_000, dtype=bool)
    x, t_x, later = np.zeros(200_000), np.zeros(200_000), np.zeros(200_000, dtype=bool)
    while alive.any():
        clock = clock + random.exponential(1 / np.maximum(rate, 1e-9))
        x += alive & (clock <= 40)
        t_x = np.where(alive & (clock <= 40), clock, t_x)
        later |= alive & (clock > 40) & (clock <= 50)
        alive &= (clock <= 50) & (random.random(200_000) > leaves)
    predicted = model.any_purchase(x, t_x, np.full(200_000, 40.0), 10.0)
    for group in (x == 0, x == 1, x >= 3, t_x > 30):
        assert predicted[group].mean() == pytest.approx(later[group].mean(), abs=0.01)


def test_a_cell_is_kept_until_what_it_was_made_from_changes(tmp_path):
    from quality_bench.cells import Cell, Cells, Found

    cells, cell = Cells(tmp_path), Cell("shop", "purchase_7d", "served", 7)
    assert cells.read(cell, "a") is None
    cells.write(cell, "a", Found(np.array([0.25, 0.5]), {"setting": "x"}))
    found = cells.read(cell, "a")
    assert found is not None
    assert (found.predictions.tolist(), found.about) == ([0.25, 0.5], {"setting": "x"})
    assert cells.read(cell, "b") is None
    assert json.loads((tmp_path / "shop/purchase_7d/served-7.json").read_text())["method"] == "served"
    (tmp_path / "shop/purchase_7d/served-7.npz").unlink()  # as a run that died between the two would leave it
    assert cells.read(cell, "a") is None


def test_folds_split_all_users_by_id_alone():
    from quality_bench.variants import fold_of

    users = pa.array([f"user-{number}" for number in range(3000)])
    folds = fold_of(users, 4)
    assert np.bincount(folds).min() > 650
    assert len(np.bincount(folds)) == 4
    np.testing.assert_array_equal(fold_of(users.slice(100, 50), 4), folds[100:150])


def tables(count=1000):
    users = pa.array(range(count))
    times = pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * count)
    behaviour = pa.table({"user_id": users, "event_timestamp": times, "recency_days": np.arange(float(count))})
    labels = pa.table({"user_id": users, "event_timestamp": times, "purchase_7d_label": np.arange(count) % 2 == 0})
    return behaviour, labels


def test_versions_of_the_tables_change_what_they_say():
    from quality_bench.variants import fold_of, with_label_share, with_shuffled_labels, without_fold

    behaviour, labels = tables()
    left, its_labels = without_fold(1, 4)(behaviour, labels)
    assert set(fold_of(left["user_id"].combine_chunks(), 4).tolist()) == {0, 2, 3}
    assert left["user_id"].equals(its_labels["user_id"])
    few, few_labels = with_label_share(0.1)(behaviour, labels)
    assert few["user_id"].equals(few_labels["user_id"])
    assert 60 < few.num_rows < 140
    same, shuffled = with_shuffled_labels(3)(behaviour, labels)
    assert same.equals(behaviour)
    assert shuffled.select(["user_id", "event_timestamp"]).equals(labels.select(["user_id", "event_timestamp"]))
    assert shuffled["purchase_7d_label"].to_pylist() != labels["purchase_7d_label"].to_pylist()
    assert sum(shuffled["purchase_7d_label"].to_pylist()) == 500


def predictions_of(truth, skill, seeds=2):
    return [
        1 / (1 + np.exp(-(skill * (truth - 0.5) + np.random.default_rng(seed).normal(0, 1, len(truth)))))
        for seed in range(seeds)
    ]


def test_records_count_a_gain_as_positive_whichever_way_the_metric_points():
    from quality_bench.records import bars, records_of

    truth = np.random.default_rng(1).random(2000) < 0.4
    found = {"served": predictions_of(truth, 3.0), "activity_lightgbm": predictions_of(truth, 1.0)}
    records = records_of("shop", PURCHASE, truth, np.arange(2000) // 2, found)
    shown = {record["metric"]: record for record in records if record["has_bar"]}
    assert {"auroc", "log_loss"} <= set(shown)
    for name in ("auroc", "average_precision", "log_loss"):
        gain = shown[name]["gain"]
        assert 0 < gain["low"] < gain["gain"] < gain["high"], name
    assert shown["log_loss"]["values"]["served"] < shown["log_loss"]["values"]["activity_lightgbm"]
    judged = bars(records, "served - activity_lightgbm")
    assert judged["above_zero"] >= 3
    assert bars(records, "encoder - activity_lightgbm")["compared"] == 0
    assert json.loads(json.dumps(records)) == records


def test_a_small_test_has_no_bar():
    from quality_bench.records import bars, records_of

    truth = np.random.default_rng(1).random(700) < 0.4  # fewer than 300 positives
    found = {"served": predictions_of(truth, 3.0), "activity_lightgbm": predictions_of(truth, 1.0)}
    records = records_of("shop", PURCHASE, truth, np.arange(700), found)
    assert not any(record["has_bar"] for record in records)
    assert bars(records, "served - activity_lightgbm")["compared"] == 0


def test_equal_methods_differ_by_nothing():
    from quality_bench.records import records_of

    truth = np.random.default_rng(1).random(900) < 0.5
    same = predictions_of(truth, 1.0)
    records = records_of("shop", PURCHASE, truth, np.arange(900), {"served": same, "activity_lightgbm": same})
    for record in records:
        assert record["gain"]["gain"] == 0.0


def test_the_page_names_bars_tasks_and_what_is_missing():
    from quality_bench.page import page
    from quality_bench.records import bars, records_of

    truth = np.random.default_rng(1).random(2000) < 0.4
    found = {"served": predictions_of(truth, 3.0), "activity_lightgbm": predictions_of(truth, 1.0)}
    records = records_of("shop", PURCHASE, truth, np.arange(2000), found)
    studies = {"few_labels": [{"start": "drawn", "auroc": 0.6}]}
    text = page(records, [bars(records, "served - activity_lightgbm")], ["missing: shop/gru-7"], studies)
    for wanted in ("## shop: purchase_7d", "| served - activity_lightgbm |", "missing: shop", "log_loss ↓", "lift_5 ↑"):
        assert wanted in text
    assert "## Study: few labels" in text
    assert "| drawn | 0.6 |" in text


def test_labels_from_after_the_scoring_cutoff_are_refused():
    import tomllib

    from quality_bench.rows import refuse_leaks
    from shop_tables import TOML

    from segmenter_plugin.config import parse_config

    tree = tomllib.loads(TOML) | {"training": {"cutoffs": ["2017-09-01"]}}
    config = parse_config(tree)
    refuse_leaks(config, [datetime(2017, 9, 22, tzinfo=UTC)])  # spend: 7 days of gap, 14 of window
    with pytest.raises(LeakageError, match="2017-09-22"):
        refuse_leaks(config, [datetime(2017, 9, 21, tzinfo=UTC)])
    with pytest.raises(LeakageError, match="2017-10-05"):
        refuse_leaks(config, [datetime(2017, 10, 1, tzinfo=UTC)], datetime(2017, 10, 5, tzinfo=UTC))

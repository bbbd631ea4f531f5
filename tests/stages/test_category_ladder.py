"""A ladder of each category, from labels to an evaluation: one head, one list of scores, judged beside baselines."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import signal_tables

from segmenter_plugin.data.partition import current, read_batches
from segmenter_plugin.stages.evaluate import _settings, evaluate
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.score import score
from segmenter_plugin.stages.train import finetune, pretrain

VALUES, CLASSES = ["category-0", "category-3"], ["none", "view", "purchase"]
TASK = {
    "name": "interest",
    "kind": "multiclass",
    "prediction_days": 14,
    "ladder": ["view", "purchase"],
    "target": "category",
    "top_count": 2,
}
METHODS = ["rfm_logistic", "rfm_tiers", "activity_lightgbm", "encoder"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    quick = {"pretrain": {"epochs": 0}, "finetune": {"probe_epochs": 8, "epochs": 0, "probe_learning_rate": 0.01}}
    config = signal_tables.signal_config(tmp_path_factory.mktemp("shop"), tasks=[TASK], **quick)
    for cutoff in (*config.training_cutoffs, signal_tables.LATER):
        signal_tables.write_cutoff(config, cutoff, signal_tables.users_of(160))
    pretrain(config)
    trained = finetune(config)
    score(config, [signal_tables.LATER])
    return SimpleNamespace(config=config, trained=trained, result=evaluate(config, signal_tables.LATER))


def test_scores_are_one_distribution_over_the_classes_for_each_value(judged: SimpleNamespace) -> None:
    folder = Layout.of(judged.config).scores(signal_tables.LATER)
    lists = pa.Table.from_batches(list(read_batches(folder))).column("interest_14d_probabilities")
    scores = np.stack(lists.to_numpy()).reshape(-1, len(VALUES), len(CLASSES))
    np.testing.assert_allclose(scores.sum(axis=2), 1.0, atol=1e-5)
    looked, bought = scores[:, 0].mean(axis=0), scores[:, 1].mean(axis=0)
    # Nobody buys of the first, and nobody just looks at the second.
    assert looked[1] > 2 * looked[2]
    assert bought[2] > 2 * bought[1]


def test_the_artifact_names_values_and_classes(judged: SimpleNamespace) -> None:
    folder = current(Layout.of(judged.config).encoder)
    (target,) = json.loads((folder / "config.json").read_text())["tasks"]
    assert (target["values"], target["classes"]) == (VALUES, CLASSES)
    card = (folder / "README.md").read_text()
    assert "classes none, view, purchase, of each category of category-0, category-3" in card


def test_every_method_is_judged_as_a_mean_over_the_values(judged: SimpleNamespace) -> None:
    (entry,) = judged.result["tasks"]
    assert (entry["task"], entry["kind"]) == ("interest_14d", "category")
    found = {(each["method"], each["metric"]): each["estimate"] for each in entry["scores"]}
    assert set(found) == {(method, metric) for method in METHODS for metric in ("macro_auroc", "log_loss")}
    assert found["encoder", "macro_auroc"] > 0.55
    assert found["encoder", "log_loss"] < np.log(3)
    assert [report["name"] for report in entry["classes"]["encoder"]] == CLASSES
    assert sum(report["rows"] for report in entry["classes"]["encoder"]) == 160 * len(VALUES)
    text = (Path(judged.result["path"]) / "table.md").read_text()
    assert "macro AUROC" in text


def test_nothing_is_made_again(judged: SimpleNamespace) -> None:
    assert finetune(judged.config)["skipped"]
    assert evaluate(judged.config, signal_tables.LATER)["skipped"]


def test_other_tasks_are_evaluated_from_what_they_were(tmp_path: Path) -> None:
    """The metrics of this form are part of an evaluation's fingerprint only where there is such a task."""
    kinds = {"binary", "value", "multiclass", "multilabel"}
    assert set(_settings(signal_tables.signal_config(tmp_path))["metrics"]) == kinds
    assert set(_settings(signal_tables.signal_config(tmp_path, tasks=[TASK]))["metrics"]) == kinds | {"category"}

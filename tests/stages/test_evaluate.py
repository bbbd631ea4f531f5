"""Evaluation end to end on small partitions: it learns the truth, refuses leaks, and skips what is unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scored_world

from segmenter_plugin.data.partition import MANIFEST, new_partition, read_manifest
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import ArtifactError, ConfigError, CutoffError, LeakageError, MissingStageError
from segmenter_plugin.quality import baselines
from segmenter_plugin.quality.metrics import METRICS
from segmenter_plugin.stages.evaluate import evaluate
from segmenter_plugin.stages.layout import Layout


@pytest.fixture(scope="module")
def world():
    return scored_world


@pytest.fixture(scope="module")
def evaluated(world, tmp_path_factory):
    config = world.world_config(tmp_path_factory.mktemp("evaluated"))
    tables = world.build_world(config)
    return config, tables, evaluate(config, world.LATER)


@pytest.fixture
def built(world, tmp_path):
    """One binary task only: quick to evaluate, when it gets that far."""
    tasks = [{"name": "purchase", "kind": "binary", "prediction_days": 14}]
    config = world.world_config(tmp_path, tasks=tasks)
    return config, world.build_world(config, users=200)


def estimates(result, task, metric):
    found = next(entry for entry in result["tasks"] if entry["task"] == task)
    return {score["method"]: score["estimate"] for score in found["scores"] if score["metric"] == metric}


def test_every_method_is_judged_on_every_task(evaluated):
    config, _, result = evaluated
    assert [entry["task"] for entry in result["tasks"]] == [task.window_name for task in config.tasks]
    for entry in result["tasks"]:
        metric = METRICS[entry["kind"]][0].name
        methods = ["rfm_logistic", "rfm_tiers", "activity_lightgbm", "encoder"]
        methods += ["encoder + activity_lightgbm"] if entry["kind"] in ("binary", "value") else []
        assert list(estimates(result, entry["task"], metric)) == methods
        assert entry["resamples"] == 1000


def test_the_encoder_is_matched_with_its_users_whatever_the_order(evaluated):
    """Its scores here are the true probabilities, in shuffled rows: misaligned, they would be worth nothing."""
    _, tables, result = evaluated
    truth = np.asarray(tables["labels"].column("purchase_14d_label").to_pylist())
    probability = tables["people"]["probability"]
    above = probability[truth][:, None] > probability[~truth]
    assert estimates(result, "purchase_14d", "auroc")["encoder"] == pytest.approx(above.mean(), abs=1e-3)
    assert estimates(result, "purchase_14d", "calibration_error")["encoder"] < 0.08
    assert estimates(result, "taste_14d", "macro_average_precision")["encoder"] > 0.7
    assert estimates(result, "funnel_14d", "accuracy")["encoder"] > 0.6


def test_the_baselines_learn(evaluated):
    _, _, result = evaluated
    for name in ("rfm_logistic", "activity_lightgbm"):
        assert estimates(result, "purchase_14d", "auroc")[name] > 0.7
        assert estimates(result, "spend_14d", "normalised_gini")[name] > 0.4


def test_files_hold_what_is_returned(evaluated, world):
    config, _, result = evaluated
    folder = Layout.of(config).evaluation(world.LATER)
    assert sorted(path.name for path in folder.iterdir()) == ["curves.png", "manifest.json", "metrics.json", "table.md"]
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored == {name: value for name, value in result.items() if name not in ("path", "skipped")}
    assert (folder / "table.md").read_text().count("\n## ") == 3
    manifest = read_manifest(folder)
    assert manifest["model_version"] == result["model_version"] == "version-1"
    assert result["trained_through"] == "2017-09-15T00:00:00+00:00"
    json.dumps(result, allow_nan=False)


def test_unchanged_inputs_are_skipped_and_changed_ones_are_not(built, world):
    config, tables = built
    first = evaluate(config, world.LATER)
    again = evaluate(config, world.LATER)
    assert (first["skipped"], again["skipped"]) == (False, True)
    assert again | {"skipped": False} == first
    world.put(config, Layout.of(config).scores(world.LATER), tables["scores"], "other scores")
    assert not evaluate(config, world.LATER)["skipped"]


def test_two_runs_give_the_same_bytes(built, world):
    config, tables = built
    layout = Layout.of(config)
    contents = []
    for made_from in ("scores", "scores"):
        world.put(config, layout.scores(world.LATER), tables["scores"], made_from)
        evaluate(config, world.LATER)
        folder = layout.evaluation(world.LATER)
        (folder / MANIFEST).unlink()  # it says when it was written
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("missing", ["behaviour", "labels", "scores"])
def test_a_missing_stage_names_its_command(missing, built, world):
    config, _ = built
    (getattr(Layout.of(config), missing)(world.LATER) / "manifest.json").unlink()
    with pytest.raises(MissingStageError) as caught:
        evaluate(config, world.LATER)
    command = "score" if missing == "scores" else "build"
    assert f"segmenter {command} --cutoff 2017-10-01" in caught.value.hint


def test_a_missing_training_cutoff_names_its_command(built, world):
    config, _ = built
    (Layout.of(config).labels(config.training_cutoffs[0]) / "manifest.json").unlink()
    with pytest.raises(MissingStageError) as caught:
        evaluate(config, world.LATER)
    assert "segmenter build --cutoff 2017-08-01" in caught.value.hint


def test_weights_that_saw_the_future_are_refused(built, world):
    config, tables = built
    seen = datetime(2017, 10, 1, 0, 0, 1, tzinfo=UTC)
    leaky = world.scores_table(config, world.LATER, tables["people"], tables["ids"], trained_through=seen)
    world.put(config, Layout.of(config).scores(world.LATER), leaky, "leaky")
    with pytest.raises(LeakageError, match="trained through 2017-10-01T00:00:01") as caught:
        evaluate(config, world.LATER)
    assert "2017-10-01T00:00:01" in caught.value.hint
    fine = world.scores_table(config, world.LATER, tables["people"], tables["ids"], trained_through=world.LATER)
    world.put(config, Layout.of(config).scores(world.LATER), fine, "fine")
    evaluate(config, world.LATER)


def test_training_labels_that_reach_past_the_cutoff_are_refused(built, world, tmp_path):
    _, tables = built
    late = world.world_config(
        tmp_path,
        tasks=[{"name": "purchase", "kind": "binary", "prediction_days": 14}],
        training={"cutoffs": [*world.TRAINING, "2017-09-18"], "validation_share": 0.2},
    )
    cutoff = late.training_cutoffs[-1]
    world.put(late, Layout.of(late).behaviour(cutoff), tables["behaviour"], "late behaviour")
    world.put(late, Layout.of(late).labels(cutoff), tables["labels"], "late labels")
    with pytest.raises(LeakageError, match="2017-09-18") as caught:
        evaluate(late, world.LATER)
    assert "2017-10-02" in caught.value.hint


def test_censored_labels_say_when_the_window_is_over(built, world):
    config, tables = built
    place = tables["labels"].schema.get_field_index("purchase_14d_label")
    censored = tables["labels"].set_column(place, "purchase_14d_label", pa.nulls(200, pa.bool_()))
    world.put(config, Layout.of(config).labels(world.LATER), censored, "censored")
    with pytest.raises(CutoffError, match="censored for 200 of 200") as caught:
        evaluate(config, world.LATER)
    assert "2017-10-15T00:00:00" in caught.value.hint


def test_censored_training_rows_are_left_out(built, world):
    config, tables = built
    cutoff = config.training_cutoffs[0]
    place = tables["labels"].schema.get_field_index("purchase_14d_label")
    censored = tables["labels"].set_column(place, "purchase_14d_label", pa.nulls(200, pa.bool_()))
    world.put(config, Layout.of(config).labels(cutoff), censored, "censored")
    assert estimates(evaluate(config, world.LATER), "purchase_14d", "auroc")["rfm_logistic"] > 0.6


def test_baselines_get_the_encoders_rows_and_validation_users(built, world, monkeypatch):
    config, tables = built
    seen = []

    def spy(name, rows, task, seed):
        seen.append((name, rows, seed))
        return fit_baseline(name, rows, task, seed)

    fit_baseline = baselines.fit_baseline
    monkeypatch.setattr(baselines, "fit_baseline", spy)
    evaluate(config, world.LATER)
    held_out = validation_users(tables["ids"], 0.2, config.training.seed)
    assert 0.1 < held_out.mean() < 0.3
    assert [name for name, *_ in seen] == ["rfm_logistic", "rfm_tiers", "activity_lightgbm"]
    for _, rows, seed in seen:
        assert seed == config.training.seed
        assert rows.activity.shape[0] == 400
        np.testing.assert_array_equal(rows.validation, np.tile(held_out, 2))


def test_unscored_users_are_told(built, world):
    config, tables = built
    world.put(config, Layout.of(config).scores(world.LATER), tables["scores"][:150], "short")
    with pytest.raises(MissingStageError, match="50 of 200 users"):
        evaluate(config, world.LATER)


def test_scores_of_two_models_are_refused(built, world):
    config, tables = built
    place = tables["scores"].schema.get_field_index("model_version")
    mixed = tables["scores"].set_column(place, "model_version", pa.array(["a"] * 100 + ["b"] * 100))
    world.put(config, Layout.of(config).scores(world.LATER), mixed, "mixed")
    with pytest.raises(ArtifactError, match="2 models"):
        evaluate(config, world.LATER)


def test_few_positives_are_reported_without_intervals(built, world):
    config, tables = built
    place = tables["labels"].schema.get_field_index("purchase_14d_label")
    rare = tables["labels"].set_column(place, "purchase_14d_label", pa.array(np.arange(200) < 3))
    world.put(config, Layout.of(config).labels(world.LATER), rare, "rare")
    result = evaluate(config, world.LATER)
    assert "only 3 positives" in result["tasks"][0]["note"]
    assert result["tasks"][0]["resamples"] == 0
    assert "only 3 positives" in (Path(result["path"]) / "table.md").read_text()


def test_labels_are_matched_in_the_artifacts_order(evaluated, world, tmp_path):
    """The artifact says which column of a multilabel score is which label; another order must change nothing."""
    _, _, result = evaluated
    tasks = [task for task in world.world_config(tmp_path).model_dump(mode="json")["tasks"] if task["name"] == "taste"]
    config = world.world_config(tmp_path, tasks=tasks)
    tables = world.build_world(config)
    place = tables["scores"].schema.get_field_index("taste_14d_probabilities")
    reversed_lists = [row[::-1] for row in tables["scores"].column(place).to_pylist()]
    column = pa.array(reversed_lists, pa.list_(pa.float32()))
    turned = tables["scores"].set_column(place, tables["scores"].schema.field(place), column)
    world.put(config, Layout.of(config).scores(world.LATER), turned, "reversed")
    tree = Target(config.tasks[0], tuple(reversed(world.CATEGORIES))).to_json()
    manifest = {"stage": "finetune", "fingerprint": "encoder", "model_version": "version-1"}
    with new_partition(Layout.of(config).encoder, config.root_path, manifest) as staging:
        (staging / "config.json").write_text(json.dumps({"tasks": [tree]}))
    turned_result = evaluate(config, world.LATER)
    metric = "macro_average_precision"
    expected = estimates(result, "taste_14d", metric)["encoder"]
    assert estimates(turned_result, "taste_14d", metric)["encoder"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sections", "message"),
    [({"tasks": []}, r"no \[\[tasks\]\] entry"), ({"training": {"cutoffs": []}}, r"\[training\] cutoffs is empty")],
)
def test_nothing_to_train_on_is_a_configuration_error(sections, message, world, tmp_path):
    with pytest.raises(ConfigError, match=message):
        evaluate(world.world_config(tmp_path, **sections), world.LATER)


def test_integer_users_work(world, tmp_path):
    tasks = [{"name": "purchase", "kind": "binary", "prediction_days": 14}]
    config = world.world_config(tmp_path, tasks=tasks)
    world.build_world(config, users=200, user_type=pa.int64())
    assert evaluate(config, world.LATER)["tasks"][0]["users"] == 200

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import signal_tables

from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import current
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.errors import ArtifactError, ConfigError, MissingStageError, TrainingError
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.train import finetune, pretrain


@dataclass(frozen=True)
class Trained:
    """A small shop with both artifacts made."""

    config: Config
    signal: ModuleType
    pretrained: dict[str, Any]
    finetuned: dict[str, Any]


def build(signal: ModuleType, root: Path, change: Any = None, **sections: Any) -> Config:
    quick = {"pretrain": {"epochs": 1}, "finetune": {"probe_epochs": 1, "epochs": 1}}
    config = signal.signal_config(root, **(quick | sections))
    for cutoff in config.training_cutoffs:
        signal.write_cutoff(config, cutoff, signal.users_of(120), change=change)
    return config


@pytest.fixture(scope="module")
def signal() -> ModuleType:
    return signal_tables


@pytest.fixture(scope="module")
def trained(signal: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = build(signal, tmp_path_factory.mktemp("trained"))
    return Trained(config, signal, pretrain(config), finetune(config))


def test_both_artifacts_are_read(trained: Trained) -> None:
    layout = Layout.of(trained.config)
    for result, place in ((trained.pretrained, layout.pretrained), (trained.finetuned, layout.encoder)):
        assert result["artifact"] == str(place)
        assert not result["skipped"]
        assert UserEncoder.from_pretrained(place).model_version == result["model_version"]
        json.dumps(result)


def test_trained_through_is_the_end_of_the_last_label_window(trained: Trained) -> None:
    layout = Layout.of(trained.config)
    assert UserEncoder.from_pretrained(layout.pretrained).trained_through == datetime(2024, 4, 1, tzinfo=UTC)
    assert UserEncoder.from_pretrained(layout.encoder).trained_through == datetime(2024, 4, 15, tzinfo=UTC)
    assert trained.finetuned["trained_through"] == "2024-04-15T00:00:00+00:00"


def test_a_second_run_is_skipped(trained: Trained) -> None:
    for stage, first in ((pretrain, trained.pretrained), (finetune, trained.finetuned)):
        assert stage(trained.config) == first | {"skipped": True}


def test_logs_stay_and_checkpoints_go(trained: Trained) -> None:
    training = Layout.of(trained.config).training
    assert list(training.rglob("events.out.tfevents.*"))
    assert not list(training.rglob("checkpoint-*"))
    assert not list(training.rglob("*.safetensors"))


def test_another_seed_and_place_leave_the_stores_artifact(trained: Trained, tmp_path: Path) -> None:
    result = finetune(trained.config, seed=11, output=tmp_path / "other")
    assert result["model_version"] != trained.finetuned["model_version"]
    assert UserEncoder.from_pretrained(tmp_path / "other").model_version == result["model_version"]
    assert finetune(trained.config)["skipped"]


def test_the_same_inputs_give_the_same_model(trained: Trained, tmp_path: Path) -> None:
    config = build(trained.signal, tmp_path)
    assert pretrain(config)["model_version"] == trained.pretrained["model_version"]
    assert finetune(config)["model_version"] == trained.finetuned["model_version"]


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    update = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    return config.model_copy(update=update)


def test_only_what_matters_makes_a_stage_run_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from segmenter_plugin.model import finetuning, pretraining

    class Ran(Exception):  # noqa: N818 - no error, a sign
        pass

    def ran(*_: Any, **__: Any) -> None:
        raise Ran

    monkeypatch.setattr(pretraining, "pretrain_encoder", ran)
    monkeypatch.setattr(finetuning, "finetune_encoder", ran)
    config = trained.config
    assert pretrain(changed(config, segments={"count": 9}, finetune={"epochs": 9}))["skipped"]
    assert finetune(changed(config, segments={"count": 9}))["skipped"]
    for stage, sections in (
        (pretrain, {"encoder": {"embedding_size": 16}}),
        (pretrain, {"pretrain": {"mask_probability": 0.5}}),
        (pretrain, {"training": {"seed": 6}}),
        (finetune, {"finetune": {"epochs": 9}}),
    ):
        with pytest.raises(Ran):
            stage(changed(config, **sections))


def test_a_pretrained_encoder_of_another_configuration_is_told(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(changed(trained.config, pretrain={"mask_probability": 0.5}))
    assert "made from other tables or another configuration" in caplog.text


def test_what_is_missing_is_named_with_its_command(signal: ModuleType, tmp_path: Path) -> None:
    config = signal.signal_config(tmp_path)
    with pytest.raises(MissingStageError) as caught:
        pretrain(config)
    assert caught.value.hint == "run `segmenter build --cutoff 2024-03-01T00:00:00+00:00` first."
    build(signal, tmp_path)
    with pytest.raises(MissingStageError) as caught:
        finetune(config)
    assert caught.value.hint == "run `segmenter pretrain` first."


def test_a_configuration_that_trains_nothing_is_refused(signal: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[training\] cutoffs is empty"):
        pretrain(signal.signal_config(tmp_path, training={"cutoffs": []}))
    with pytest.raises(ConfigError, match=r"no \[\[tasks\]\]"):
        finetune(signal.signal_config(tmp_path, tasks=[]))


def test_an_unknown_objective_is_refused(signal: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pretrain.objectives names \['cloze'\]; it may name \["):
        pretrain(build(signal, tmp_path, pretrain={"objectives": {"cloze": 1.0}}))


@pytest.mark.parametrize(("value", "message"), [(True, "are the same: "), (None, "are censored")])
def test_labels_that_teach_nothing_are_refused(
    signal: ModuleType, tmp_path: Path, value: bool | None, message: str
) -> None:
    def change(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index("purchase_14d_label")
        return rows.set_column(place, rows.schema.field(place), pa.array([value] * rows.num_rows, pa.bool_()))

    config = build(signal, tmp_path, change=change, pretrain={"epochs": 0})
    pretrain(config)
    with pytest.raises(TrainingError, match=f"training labels of purchase_14d {message}"):
        finetune(config)
    assert not Layout.of(config).encoder.exists()


def test_no_validation_users_are_refused(signal: ModuleType, tmp_path: Path) -> None:
    config = build(signal, tmp_path, training={"validation_share": 0.0})
    with pytest.raises(TrainingError, match="no validation users"):
        pretrain(config)


def test_a_task_whose_last_window_is_censored_trains_on_the_others(signal: ModuleType, tmp_path: Path) -> None:
    tasks = [
        {"name": "purchase", "kind": "binary", "prediction_days": 14},
        {"name": "spend", "kind": "value", "prediction_days": 28},
    ]
    config = build(signal, tmp_path, tasks=tasks, pretrain={"epochs": 0})
    last = config.training_cutoffs[-1]

    def censor(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index("spend_28d_label")
        return rows.set_column(place, rows.schema.field(place), pa.nulls(rows.num_rows, pa.float64()))

    signal.write_cutoff(config, last, signal.users_of(120), change=censor)
    pretrain(config)
    # 1 April and 14 days, not 28; 1 March and 28 days is earlier.
    assert finetune(config)["trained_through"] == "2024-04-15T00:00:00+00:00"


def test_labels_that_only_validation_users_have_count_for_trained_through(signal: ModuleType, tmp_path: Path) -> None:
    tasks = [
        {"name": "purchase", "kind": "binary", "prediction_days": 14},
        {"name": "spend", "kind": "value", "prediction_days": 28},
    ]
    config = build(signal, tmp_path, tasks=tasks, pretrain={"epochs": 0})

    def censor(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index("spend_28d_label")
        judged = pa.array(validation_users(rows.column("user_id").combine_chunks(), 0.25, config.training.seed))
        kept = pc.if_else(judged, rows.column(place).combine_chunks(), pa.scalar(None, pa.float64()))
        return rows.set_column(place, rows.schema.field(place), kept)

    signal.write_cutoff(config, config.training_cutoffs[-1], signal.users_of(120), change=censor)
    pretrain(config)
    # Early stopping chooses by them, so the weights have seen them: 1 April and 28 days.
    assert finetune(config)["trained_through"] == "2024-04-29T00:00:00+00:00"


def test_the_artifact_tells_what_it_was_trained_on(trained: Trained) -> None:
    data = UserEncoder.from_pretrained(Layout.of(trained.config).encoder).data
    assert data["cutoffs"] == ["2024-03-01T00:00:00+00:00", "2024-04-01T00:00:00+00:00"]
    assert data["users"] == 120
    assert data["examples"] + data["validation_examples"] == 240
    assert 0 < data["validation_examples"] < 120
    assert 0 < data["events"] <= 240 * 16
    assert data["observation_days"] == 60


def test_a_loss_that_is_no_number_names_its_section(signal: ModuleType, tmp_path: Path) -> None:
    config = build(signal, tmp_path, pretrain={"learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"pretrain: the loss is (nan|inf)") as caught:
        pretrain(config)
    assert "lower the learning rate of [pretrain]" in str(caught.value.hint)
    assert not Layout.of(config).pretrained.exists()


def test_a_vocabulary_of_another_training_is_refused(trained: Trained, tmp_path: Path) -> None:
    config = build(trained.signal, tmp_path)
    pretrain(config)
    path = current(Layout.of(config).pretrained) / "vocabulary.json"
    tree = json.loads(path.read_text())
    tree["item_id"] = tree["item_id"][::-1]
    path.write_text(json.dumps(tree))
    with pytest.raises(ArtifactError, match="does not fit it"):
        finetune(config)


def test_checkpoints_of_a_run_that_ended_in_an_error_are_gone_on_from(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build(trained.signal, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(UserEncoder, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("broken pipe")))
        with pytest.raises(OSError, match="broken pipe"):
            pretrain(config)
    with caplog.at_level("INFO", logger="segmenter_plugin"):
        assert pretrain(config)["model_version"] == trained.pretrained["model_version"]
    assert "pretrain: finished before" in caplog.text

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import signal_tables

from segmenter_plugin import schemas
from segmenter_plugin.data.partition import data_files, read_batches
from segmenter_plugin.errors import ArtifactError, MissingStageError, SchemaError
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.score import score
from segmenter_plugin.stages.train import finetune, pretrain

QUICK = {"pretrain": {"epochs": 0}, "finetune": {"probe_epochs": 1, "epochs": 0}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    signal = signal_tables
    config = signal.signal_config(tmp_path_factory.mktemp("shop"), **QUICK)
    users = signal.users_of(120)
    for cutoff in (*config.training_cutoffs, signal.LATER):
        signal.write_cutoff(config, cutoff, users)
    pretrain(config)
    finetune(config)
    result = score(config, [signal.LATER])
    return SimpleNamespace(config=config, signal=signal, users=users, later=signal.LATER, result=result)


def test_every_user_is_scored_in_order(shop: SimpleNamespace) -> None:
    folder = Layout.of(shop.config).scores(shop.later)
    assert [path.name for path in data_files(folder)] == ["part-0.parquet", "part-1.parquet"]
    table = pa.Table.from_batches(list(read_batches(folder)))
    assert table.schema.equals(schemas.scores_schema(shop.config, pa.string()))
    assert table.column("user_id").to_pylist() == shop.users
    one = shop.result["cutoffs"]["cutoff=20240601T000000Z"]
    assert one == {"path": str(folder), "rows": 120, "skipped": False}
    json.dumps(shop.result)


def test_scores_are_what_the_artifact_gives(shop: SimpleNamespace) -> None:
    layout = Layout.of(shop.config)
    table = pa.Table.from_batches(list(read_batches(layout.scores(shop.later))))
    model = UserEncoder.from_pretrained(layout.encoder)
    behaviour = pa.Table.from_batches(list(read_batches(layout.behaviour(shop.later))))
    np.testing.assert_allclose(np.stack(table.column("embedding").to_numpy()), model.encode(behaviour), atol=1e-5)
    assert set(table.column("model_version").to_pylist()) == {model.model_version} == {shop.result["model_version"]}


def test_a_second_run_is_skipped_without_reading_the_weights(
    shop: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserEncoder, "from_pretrained", None)
    assert score(shop.config, [shop.later])["cutoffs"]["cutoff=20240601T000000Z"]["skipped"]


def test_scoring_before_trained_through_warns(shop: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    score(shop.config, [shop.config.training_cutoffs[0]])
    assert "the weights have seen events through 2024-04-15T00:00:00+00:00, after this cutoff" in caplog.text
    caplog.clear()
    shutil.rmtree(Layout.of(shop.config).scores(shop.later))
    score(shop.config, [shop.later])
    assert "after this cutoff" not in caplog.text


def test_an_artifact_from_elsewhere_scores(shop: SimpleNamespace, tmp_path: Path) -> None:
    layout = Layout.of(shop.config)
    UserEncoder.from_pretrained(layout.encoder).save_pretrained(tmp_path)
    result = score(shop.config, [shop.later], artifact=tmp_path)
    assert result["model_version"] == shop.result["model_version"]


def test_an_artifact_of_other_tasks_is_refused(shop: SimpleNamespace) -> None:
    other = shop.config.model_copy(update={"tasks": shop.config.tasks[:1]})
    with pytest.raises(ArtifactError, match=r"the configuration asks for \['purchase_14d'\]"):
        score(other, [shop.later])


def test_behaviour_of_another_configuration_is_refused(shop: SimpleNamespace, tmp_path: Path) -> None:
    config = shop.signal.signal_config(tmp_path, **QUICK)
    layout = Layout.of(config)
    rows = shop.signal.behaviour(config, shop.later, shop.users).drop_columns(["channel_sequence"])
    shop.signal.write_partition(layout.behaviour(shop.later), tmp_path, rows, "other")
    with pytest.raises(SchemaError, match="channel_sequence"):
        score(config, [shop.later], artifact=Layout.of(shop.config).encoder)
    assert not layout.scores(shop.later).exists()


def test_what_is_missing_is_named_with_its_command(shop: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(MissingStageError) as caught:
        score(shop.signal.signal_config(tmp_path, **QUICK), [shop.later])
    assert caught.value.hint == "run `segmenter finetune` first."
    with pytest.raises(MissingStageError) as caught:
        score(shop.config, [shop.later.replace(month=7)])
    assert caught.value.hint == "run `segmenter build --cutoff 2024-07-01T00:00:00+00:00` first."

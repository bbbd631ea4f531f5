from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import signal_tables

from segmenter_plugin import schemas
from segmenter_plugin.data.partition import data_files, read_batches
from segmenter_plugin.errors import ArtifactError, MissingStageError, SchemaError
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.scoring import score_batches
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.score import score
from segmenter_plugin.stages.score_files import ScoreFile, Scorer, score_on_spark
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


@pytest.mark.slow
def test_spark_scores_the_same(shop: SimpleNamespace, spark: Any, tmp_path: Path) -> None:
    layout = Layout.of(shop.config)
    expected = pa.Table.from_batches(list(read_batches(layout.scores(shop.later))))
    shutil.rmtree(layout.scores(shop.later))
    result = score(shop.config, [shop.later], score_files=score_on_spark(spark))
    assert result == shop.result
    assert [path.name for path in data_files(layout.scores(shop.later))] == ["part-0.parquet", "part-1.parquet"]
    found = pa.Table.from_batches(list(read_batches(layout.scores(shop.later))))
    assert found.schema.equals(expected.schema)
    assert_scores_equal(found, expected)


def assert_scores_equal(found: pa.Table, expected: pa.Table) -> None:
    for name in expected.column_names:
        ours, theirs = found.column(name), expected.column(name)
        if pa.types.is_list(theirs.type):
            assert pc.list_value_length(ours).equals(pc.list_value_length(theirs))
            ours, theirs = pc.list_flatten(ours), pc.list_flatten(theirs)
        if pa.types.is_floating(theirs.type):
            np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=1e-5, atol=1e-5)
        else:
            assert ours.equals(theirs)


@pytest.mark.slow
def test_a_worker_reads_the_model_once_and_has_its_share_of_cores(
    shop: SimpleNamespace, spark: Any, tmp_path: Path
) -> None:
    """Spark tells each Python worker to use as many threads as its task has cores."""
    from segmenter_plugin.spark.worker_tasks import run_on_workers

    layout = Layout.of(shop.config)
    scorer = Scorer(shop.config, layout.encoder, shop.result["model_version"])
    [behaviour, _] = data_files(layout.behaviour(shop.later))
    files = [ScoreFile(behaviour, tmp_path / f"{number}.parquet") for number in range(6)]

    def told(file: ScoreFile) -> tuple[int, int, int]:
        import os

        import torch

        from segmenter_plugin.stages import score_files

        scorer(file)
        return os.getpid(), score_files._loaded.cache_info().misses, torch.get_num_threads()

    workers = run_on_workers(spark, told, files)
    assert len({pid for pid, _, _ in workers}) <= 2
    assert {misses for _, misses, _ in workers} == {1}
    assert {threads for _, _, threads in workers} == {1}


def test_an_artifact_that_was_trained_anew_meanwhile_is_refused(shop: SimpleNamespace, tmp_path: Path) -> None:
    layout = Layout.of(shop.config)
    [behaviour, _] = data_files(layout.behaviour(shop.later))
    with pytest.raises(ArtifactError, match="scoring began with 0123") as caught:
        Scorer(shop.config, layout.encoder, "0123")(ScoreFile(behaviour, tmp_path / "scores.parquet"))
    assert "again" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_appears_whole_or_not_at_all(
    shop: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout.of(shop.config)
    [behaviour, _] = data_files(layout.behaviour(shop.later))
    seen = []

    def stopped(model: Any, batches: Any) -> Any:
        for batch in score_batches(model, batches):
            seen.append([path.name for path in tmp_path.iterdir()])
            yield batch
            raise KeyboardInterrupt

    monkeypatch.setattr("segmenter_plugin.model.scoring.score_batches", stopped)
    with pytest.raises(KeyboardInterrupt):
        Scorer(shop.config, layout.encoder, shop.result["model_version"])(ScoreFile(behaviour, tmp_path / "s.parquet"))
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(".s.parquet")
    assert not list(tmp_path.iterdir())

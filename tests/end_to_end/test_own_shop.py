"""A team's own shop, from `segmenter init` to lookups, by the commands of the README; the shop is a simulated one."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key, publication_time
from segmenter_plugin.config import load_config

pytestmark = pytest.mark.slow

DAYS = 240
SMALL = [
    "--set", "pretrain.epochs=1", "--set", "finetune.epochs=1", "--set", "finetune.probe_epochs=2",
    "--set", "sequences.length=32",
]  # fmt: skip


def _segmenter(folder: Path, *arguments: str, code: int = 0) -> dict:
    command = [sys.executable, "-c", "from segmenter_plugin.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def _feast(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "feast.cli.cli", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def yesterday():
    """Midnight, UTC, at the end of the shop's last day."""
    return publication_time().replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, yesterday):
    folder = tmp_path_factory.mktemp("shop")
    start = yesterday - timedelta(days=DAYS)
    _segmenter(folder, "simulate", "--users", "300", "--days", str(DAYS), "--start", f"{start:%Y-%m-%d}", "--out", ".")
    _segmenter(folder, "train", *SMALL)
    return folder


@pytest.fixture(scope="module")
def config(shop):
    return load_config(shop / "segmenter.toml")


@pytest.fixture(scope="module")
def served(shop, config):
    """Published, declared, materialised."""
    cutoff = f"{config.evaluation_cutoff:%Y-%m-%d}T00:00:00Z"
    for stage in ("segment", "publish"):
        _segmenter(shop, stage, *SMALL, "--cutoff", cutoff)
    refused = _segmenter(shop, "materialize", *SMALL, "--cutoff", cutoff, code=2)
    assert "feast apply" in refused["message"]
    _feast(shop / "feature_repo", "apply")
    _segmenter(shop, "run", *SMALL, "--cutoff", cutoff)
    return cutoff


def _published(config, view):
    return ds.dataset(
        str(config.root_path / "features" / view), format="parquet", exclude_invalid_files=True
    ).to_table()


def test_training_ends_with_a_judgement_on_later_time(shop, config):
    report = json.loads(next((config.root_path / "evaluation").rglob("metrics.json")).read_text())
    assert config.time(report["trained_through"]) <= config.evaluation_cutoff
    assert {score["method"] for task in report["tasks"] for score in task["scores"]} >= {"encoder", "activity_lightgbm"}


def test_a_lookup_shows_what_was_published(shop, config, served):
    rows = _published(config, "user_scores_g1").to_pylist()
    known = rows[0]["user_id"]
    answer = _segmenter(shop, "lookup", *SMALL, known, "nobody")
    assert answer["missing_users"] == ["nobody"]
    found = answer["rows"][0]
    assert found["purchase_14d_probability"] == rows[0]["purchase_14d_probability"]
    assert found["model_version"] == rows[0]["model_version"]


def test_an_export_is_aligned_with_its_ids(shop, config, served):
    answer = _segmenter(shop, "export", *SMALL, "--cutoff", served)
    embeddings = np.load(shop / answer["folder"] / "embeddings.npy")
    table = _published(config, "user_embedding_g1")
    assert embeddings.shape == (table.num_rows, 64)
    assert embeddings.dtype == np.float16


def test_materialize_incremental_takes_yesterdays_rows(shop, config, served, yesterday):
    cutoff = f"{yesterday:%Y-%m-%d}T00:00:00Z"
    for stage in ("build", "score", "segment", "publish"):
        _segmenter(shop, stage, *SMALL, "--cutoff", cutoff)
    _segmenter(shop, "gate", *SMALL, "--cutoff", cutoff, "--accept", "weeks after the cutoff before")
    _feast(shop / "feature_repo", "materialize-incremental", publication_time().isoformat())
    folder = config.root_path / "features" / "user_scores_g1" / cutoff_key(yesterday)
    rows = ds.dataset(sorted(folder.glob("*.parquet"))).to_table().to_pylist()[:50]
    answer = _segmenter(shop, "lookup", *SMALL, *(row["user_id"] for row in rows))
    name = "spend_28d_expected"
    assert [found[name] for found in answer["rows"]] == [row[name] for row in rows]
    earlier = _published(config, "user_scores_g1")
    assert len(set(earlier["event_timestamp"].to_pylist())) == 2


def test_history_knows_no_label_of_its_future(shop, config, served):
    first, last = config.training_cutoffs[1], config.evaluation_cutoff
    days = (last - first) // timedelta(days=1) // 2
    times = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (first, last)]
    answer = _segmenter(shop, "backfill", *SMALL, "--from", times[0], "--to", times[1], "--every", f"{days}d")
    assert len(answer["models"]) >= 2
    folders = sorted((config.root_path / "features" / "user_scores_g1").iterdir())
    assert len(folders) >= 3
    versions = set()
    for folder in folders:
        table = pa.concat_tables([ds.dataset(str(path)).to_table() for path in folder.glob("*.parquet")])
        cutoff = parse_cutoff_key(folder.name)
        assert max(table["trained_through"].to_pylist()) <= cutoff
        versions |= set(table["model_version"].to_pylist())
    assert len(versions) >= 2

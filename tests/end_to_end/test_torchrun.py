"""Two processes that train one model on the CPU, through torchrun and gloo."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_world import ONE_THREAD, SEGMENTER, layout_of, weights_of, write_world

from segmenter_plugin.data.partition import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Without anything random in a step, two processes must learn what one learns: dropout is drawn by each on its own.
CERTAIN = {
    "encoder": {"min_count": 2, "embedding_size": 8, "dropout": 0.0},
    "pretrain": {"epochs": 1, "batch_size": 32},
    "finetune": {"probe_epochs": 2, "epochs": 2, "batch_size": 32, "event_dropout": 0.0, "warmup_share": 0.0},
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]


def _run(folder: Path, stage: str, *launcher: str) -> list[dict]:
    """What each process told."""
    done = subprocess.run(
        [*launcher, *SEGMENTER, stage], cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_two_processes_learn_what_one_learns_and_the_first_writes_it(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        write_world(folder, **CERTAIN)
    told = _run(two, "pretrain", *TORCHRUN)
    shutil.copytree(layout_of(two).pretrained, layout_of(one).pretrained)
    told += _run(two, "finetune", *TORCHRUN)
    _run(one, "finetune")

    layout = layout_of(two)
    for place, stage in ((layout.pretrained, "pretrain"), (layout.encoder, "finetune")):
        results = [result for result in told if result["stage"] == stage]
        assert len(results) == 2
        # Both processes hold the weights that the first has written, once.
        assert {result["model_version"] for result in results} == {read_manifest(place)["model_version"]}
        assert len(list(place.glob("v-*"))) == 1
    assert not list((layout.root / ".staging").iterdir())
    logs = [path for path in layout.training.rglob("tensorboard") if path.is_dir()]
    assert len(logs) == 3
    assert all(len(list(folder.iterdir())) == 1 for folder in logs)

    expected, got = weights_of(one), weights_of(two)
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=2e-4, rtol=0, msg=name)
    trained = [name for name in got if name.startswith("encoder.encoder.backbone.layers")]
    assert any(not torch.equal(got[name], got[name.replace("encoder.", "pretrained.", 1)]) for name in trained)

    assert all(result["skipped"] for result in _run(two, "finetune", *TORCHRUN))

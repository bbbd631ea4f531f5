"""The instruments of benchmarks/encoder_speed.py: its users, its counts, and that it needs no Spark, Feast or Java."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoConfig

PROJECT = Path(__file__).parents[2]
WITHOUT = "pyspark", "feast", "py4j", "sklearn", "lightgbm"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))


def test_histories_have_a_heavy_tail():
    from model_speed import scoring, world

    lengths = world.lengths_of(20_000)
    assert np.median(lengths) == 20
    assert lengths.max() == 512
    assert 0.002 < (lengths == 512).mean() < 0.006
    positions = scoring.padded_positions(lengths)
    assert positions["ours"] < 1.06
    assert positions["plain"] > 5


def test_operations_are_those_of_the_network():
    """Against torch's own counter, which counts matrix products alone, as we do."""
    import torch
    from model_speed.roofline import forward_flops
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModel

    config = AutoConfig.for_model(
        "modernbert", vocab_size=1, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    length = 40  # local attention of 128 sees all of it
    model = AutoModel.from_config(config, attn_implementation="sdpa").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        model(inputs_embeds=torch.randn(1, length, 32))
    assert forward_flops(config, length) * length == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert forward_flops(config, 512) < 512 / 40 * forward_flops(config, 40)


@pytest.mark.slow
def test_it_runs_with_the_models_packages_alone(tmp_path):
    """Other packages cannot be imported, nor Java be found."""
    hidden = ";".join(f"sys.modules[{name!r}] = None" for name in WITHOUT)
    path = str(PROJECT / "benchmarks" / "encoder_speed.py")
    script = f"runpy.run_path({path!r}, run_name='__main__')"
    run = f"import sys, runpy; sys.argv[1:] = ['--quick']; {hidden}; {script}"
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=PROJECT / "benchmarks", env={"PATH": "/nonexistent", "PYTHONPATH": ".."},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["ours_vs_plain"] > 1
    assert "skipped" in told["gpu"] or told["gpu"]["small"]["ours_vs_plain"] > 1

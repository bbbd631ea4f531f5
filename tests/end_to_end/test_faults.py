"""SIGKILL at random moments: what becomes visible is whole, and what is started again ends as an undisturbed run."""

import json
import random
import time
from pathlib import Path

import killed_world as world
import pytest

from segmenter_plugin.config import load_config
from segmenter_plugin.data.partition import MANIFEST

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

ROUNDS = 5
SMALL = [
    "--set", "pretrain.epochs=1", "--set", "finetune.epochs=1", "--set", "finetune.probe_epochs=2",
    "--set", "sequences.length=32",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    world.run(folder, "simulate", "--users", "200", "--days", "200", "--out", ".")
    started = time.monotonic()
    world.run(folder, "train", *SMALL)
    return folder, time.monotonic() - started


def _kill_until_it_ends(folder: Path, root: Path, longest: float, generator: random.Random) -> list[float]:
    """Moments, in seconds after the start, at which training was killed before it came to its end."""
    moments = []
    while world.killed(folder, moment := generator.uniform(1.0, longest), "train", *SMALL):
        moments.append(round(moment, 1))
        world.check_whole(root)
    return moments


def test_training_that_is_killed_again_and_again_ends_as_an_undisturbed_one(undisturbed, tmp_path):
    whole, seconds = undisturbed
    root = load_config(whole / "segmenter.toml").root_path
    expected, version, rounds = world.tables(root), _version(root), []
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        world.run(tmp_path, "simulate", "--users", "200", "--days", "200", "--out", str(seed))
        root = load_config(folder / "segmenter.toml").root_path
        rounds.append(_kill_until_it_ends(folder, root, seconds, random.Random(seed)))
        got = world.tables(root)
        assert got.keys() == expected.keys()
        for name, table in expected.items():
            assert got[name].equals(table), name
        assert _version(root) == version
    kills = sum(map(len, rounds))
    when = "; ".join(", ".join(f"{moment} s" for moment in moments) or "never" for moments in rounds)
    assert kills >= ROUNDS
    lines = [
        f"`segmenter train` on a simulated shop of 200 users takes {seconds:.0f} s undisturbed. In {ROUNDS} rounds it",
        f"was killed with SIGKILL, Spark and all, {kills} times, after {when}.",
        "After each kill every visible folder was whole, and it was started again; at the end of each round",
        f"all {len(expected)} tables and the weights (`model_version` {version}) equalled the undisturbed run's.",
    ]
    world.write_section("Training", lines)


def _version(root: Path) -> str:
    return json.loads((root / "artifacts" / "encoder" / MANIFEST).read_text())["model_version"]

"""`segmenter build`, whole and incremental, killed at twenty moments from its start to its end."""

import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import killed_world as world
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

#: Of each of the two commands.
KILLS = 10
EARLIER, LATER = "2024-06-01T00:00:00Z", "2024-07-01T00:00:00Z"
COMMANDS = {
    "build": ("build", "--cutoff", EARLIER, "--cutoff", LATER),
    "increment": ("build", "--cutoff", LATER, "--from", EARLIER),
}


def _at(folder: Path, root: str) -> tuple[str, str]:
    return "--set", f"store.root={folder / root}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop's folder: its events in two files, and under `history` what was built when there was but the first."""
    folder = tmp_path_factory.mktemp("shop")
    world.run(folder, "simulate", "--users", "300", "--days", "200", "--start", "2024-01-01", "--out", ".")
    lake = folder / "shop" / "events"
    events = ds.dataset(lake).to_table()
    shutil.rmtree(lake)
    lake.mkdir()
    is_old = pc.less(events["ingested_at"], pa.scalar(datetime(2024, 6, 1, tzinfo=UTC)))
    pq.write_table(events.filter(is_old), lake / "history.parquet")
    world.run(folder, "build", "--cutoff", EARLIER, *_at(folder, "history"))
    pq.write_table(events.filter(pc.invert(is_old)), lake / "june.parquet")
    return folder


def _started_from(shop: Path, kind: str, root: str) -> tuple[str, ...]:
    """The command, and its root as it finds it."""
    if kind == "increment":
        shutil.copytree(shop / "history", shop / root, copy_function=shutil.copy2)
    return (*COMMANDS[kind], *_at(shop, root))


@pytest.mark.parametrize("kind", list(COMMANDS))
def test_a_killed_build_is_made_good_by_the_next(shop, kind):
    command = _started_from(shop, kind, f"{kind}-whole")
    started = time.monotonic()
    world.run(shop, *command)
    seconds = time.monotonic() - started
    expected, files = world.tables(shop / f"{kind}-whole"), world.files_of(shop / f"{kind}-whole")
    before = world.tables(shop / "history") if kind == "increment" else {}
    moments, left = [], 0
    for number in range(KILLS):
        root = shop / f"{kind}-{number}"
        command = _started_from(shop, kind, root.name)
        # One in each tenth of the time that it takes.
        moment = random.Random(number).uniform(number, number + 1) / KILLS * seconds
        if world.killed(shop, moment, *command):
            moments.append(moment)
        world.check_whole(root)
        for name, table in world.tables(root).items():
            assert table.equals(expected[name]) or (name in before and table.equals(before[name])), (name, moment)
        left += bool(world.staged(root))
        world.run(shop, *command)
        got = world.tables(root)
        assert got.keys() == expected.keys()
        for name, table in expected.items():
            assert got[name].equals(table), (name, moment)
        assert not world.staged(root), moment
        assert world.files_of(root) == files, moment
        shutil.rmtree(root)
    assert len(moments) >= KILLS // 2
    what = {"build": "Two cutoffs from nothing", "increment": "One cutoff with `--from`"}[kind]
    lines = [
        f"{what}, on a simulated shop of 300 users, {len(expected['events'])} events: {seconds:.0f} s undisturbed.",
        f"It was killed with SIGKILL, Spark and all, {len(moments)} times, after",
        f"{', '.join(f'{moment:.1f} s' for moment in moments)}. {left} kills left something in `.staging/`.",
        "Whatever was visible after a kill was whole: each table as before the run, or as after it. After one more run",
        f"all {len(expected)} tables equalled the undisturbed run's, and no other files were there than after that.",
    ]
    world.write_section(f"`segmenter build`: {kind}", lines)

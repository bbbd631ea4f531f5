"""The instruments of benchmarks/spark_build.py: its meter, its events, its verdict."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BURN = "import time\nwhile time.process_time() < 0.6: pass"
HOLD = "import time\nheld = b'x' * (100 << 20)\ntime.sleep(0.8)"
SPAWN = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}]){}"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _cost(code: str) -> dict:
    command = [sys.executable, "-m", "build_speed.meter", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=BENCHMARKS, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_meter_counts_grandchildren_waited_for_or_orphaned():
    """The second one outlives its parent, as a JVM outlives the Python that started it."""
    waited = SPAWN.format(SPAWN.format(BURN, ".wait()"), ".wait()")
    orphaned = SPAWN.format(SPAWN.format(BURN, ""), ".wait()")
    cost = _cost(f"{waited}\n{orphaned}")
    assert 1.1 <= cost["cpu_s"] < 2.5
    assert cost["code"] == 0


def test_meter_counts_those_whose_end_is_ignored():
    """As that of Spark's Python workers is by their daemon: the kernel adds their time to nobody's."""
    ignored = (
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        + SPAWN.format(BURN, "")
        + "\nimport time\ntime.sleep(2)"
    )
    assert 0.5 <= _cost(ignored)["cpu_s"] < 1.2


def test_meter_sees_memory_of_grandchildren_at_one_time():
    twice = "; ".join([SPAWN.format(HOLD, "")] * 2)
    assert 200 < _cost(SPAWN.format(twice, ".wait()"))["peak_mb"] < 300


def test_meter_tells_the_exit_code():
    assert _cost("raise SystemExit(3)")["code"] == 3


def test_events_are_as_described(tmp_path):
    from build_speed import world

    events = 50_000
    rows = ds.dataset(world.write(tmp_path / "year", events)).to_table()
    assert abs(len(rows) / events - 1) < 0.01
    again = len(rows) - pc.count_distinct(rows["event"]).as_py()
    assert abs(again / events - 0.01) < 0.001
    counts = sorted(pc.value_counts(rows["visitor"].drop_null()).field("counts").to_pylist(), reverse=True)
    assert abs(len(counts) / (events / 50) - 1) < 0.05
    assert all(abs(count / (events / 50) - 1) < 0.1 for count in counts[:3])
    refused = pc.sum(pc.or_kleene(pc.is_null(rows["visitor"]), pc.equal(rows["kind"], "debug"))).as_py()
    assert 0 < refused < 0.002 * events
    newest = pq.read_table(tmp_path / "year" / f"part-{world.FILES - 1:03d}.parquet")
    assert (pc.max(newest["at"]).as_py() - pc.min(newest["at"]).as_py()).days > 30  # a file spans 18 days
    other = ds.dataset(world.write(tmp_path / "again", events)).to_table()
    assert other.equals(rows)


def test_verdict_names_what_differs(tmp_path):
    from build_speed import agree

    rows = pa.table({"user_id": ["a", "b"], "items_sequence": [["x"], ["y", None]], "age_mean": [1.0, None]})
    changed = rows.set_column(1, "items_sequence", pa.array([["x"], ["y", "z"]]))
    for name, table in (("one", rows), ("same", rows.take([1, 0])), ("other", changed), ("short", rows.slice(1))):
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "part-0.parquet")
    one, same, other, short = (
        {"rows": [tmp_path / name / "part-0.parquet"]} for name in ("one", "same", "other", "short")
    )
    assert agree.verdict(same, one) == "equal: 2 rows, 2 compared in all values"
    assert "items_sequence differs for 1 users" in agree.verdict(other, one)
    assert agree.verdict(short, one) == "differs: [1, 2] rows"

"""The build on a Spark standalone cluster of two worker processes: what one machine makes, also when executors die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from redis_world import free_port

from segmenter_plugin.data.partition import MANIFEST, data_files
from segmenter_plugin.spark.java import find_java
from segmenter_plugin.stages.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]
CUTOFFS = ("2024-03-15T00:00:00Z", "2024-04-15T00:00:00Z")
TABLES = ("behaviour", "labels")
#: A task has no second copy on one host, so the workers have two.
HOSTS = ("127.0.0.1", "127.0.0.2")


@dataclass(frozen=True)
class Cluster:
    """A master, by its address, and the processes of its workers."""

    master: str
    workers: tuple[subprocess.Popen, ...]

    def executors(self) -> list[int]:
        """Processes that run tasks now: children of the workers with Python beneath them."""
        found = [pid for worker in self.workers for pid in _children(worker.pid)]
        return [pid for pid in found if _children(pid)]


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:  # it has ended
            continue
    return found


@contextmanager
def _spark_process(folder: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A daemon of Spark's own in the foreground; all of its process group ends with the block."""
    home = Path(pyspark.__file__).parent
    environment = os.environ | {
        "JAVA_HOME": str(find_java()),
        "SPARK_HOME": str(home),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_WORKER_DIR": str(folder / "work"),
    }
    with (folder / f"{arguments[1]}-{name.rpartition('.')[2]}.log").open("w") as log:
        process = subprocess.Popen(
            [home / "bin" / "spark-class", name, *arguments],
            env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    port, page = free_port(), free_port()
    address = f"spark://{HOSTS[0]}:{port}"
    deploy = "org.apache.spark.deploy"
    with ExitStack() as stack:
        options = ["--host", HOSTS[0], "--port", str(port), "--webui-port", str(page)]
        stack.enter_context(_spark_process(folder, f"{deploy}.master.Master", *options))
        limits = ["--cores", "1", "--memory", "1g", "--webui-port", "0"]
        workers = tuple(
            stack.enter_context(_spark_process(folder, f"{deploy}.worker.Worker", "--host", host, *limits, address))
            for host in HOSTS
        )
        _wait_for_workers(f"http://{HOSTS[0]}:{page}/json/", len(workers))
        yield Cluster(address, workers)


def _wait_for_workers(page: str, count: int) -> None:
    deadline = time.monotonic() + 120
    alive = 0
    while time.monotonic() < deadline and alive < count:
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(page) as answer:  # noqa: S310 - our own master
                alive = json.load(answer)["aliveworkers"]
        except OSError:
            continue
    assert alive == count


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with events, their configuration, the job and the zipped package."""
    folder = tmp_path_factory.mktemp("shop")
    simulate(1500, 120, folder, start="2024-01-01", seed=5)
    with zipfile.ZipFile(folder / "segmenter_plugin.zip", "w") as archive:
        for path in (PROJECT / "segmenter_plugin").rglob("*.py"):
            archive.write(path, path.relative_to(PROJECT))
    shutil.copy(PROJECT / "spark_jobs" / "build.py", folder)
    return folder


def _submit(shop: Path, root: Path, master: str, **settings: Any) -> subprocess.Popen:
    environment = os.environ | {
        "JAVA_HOME": str(find_java()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    chosen = {"spark.executor.memory": "512m", "spark.driver.host": HOSTS[0], "spark.driver.memory": "1g"} | settings
    options = [word for key, value in chosen.items() for word in ("--conf", f"{key}={value}")]
    cutoffs = [word for cutoff in CUTOFFS for word in ("--cutoff", cutoff)]
    return subprocess.Popen(
        [Path(sys.executable).with_name("spark-submit"), "--master", master, *options,
         "--py-files", "segmenter_plugin.zip", "build.py", "--config", "segmenter.toml",
         "--set", f"store.root={root}", *cutoffs],
        cwd=shop, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _finished(process: subprocess.Popen) -> tuple[dict[str, Any], str]:
    """The job's result and what it said on the way."""
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, f"{out[-3000:]}\n{errors[-3000:]}"
    return json.loads(out.splitlines()[-1]), errors


def _tables(root: Path) -> dict[str, pa.Table]:
    """Behaviour and labels, file by file in order of their names."""
    return {
        str(path.parent.relative_to(root)): pa.concat_tables(
            pq.ParquetFile(file).read() for file in data_files(path.parent)
        )
        for name in TABLES
        for path in sorted((root / name).glob(f"*/{MANIFEST}"))
    }


def _assert_equal(root: Path, expected: dict[str, pa.Table]) -> None:
    found = _tables(root)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name
    assert [path.name for path in (root / ".staging").glob("*")] == []


@pytest.fixture(scope="module")
def expected(shop, tmp_path_factory) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """What one machine makes, and its report."""
    root = tmp_path_factory.mktemp("local")
    result, _ = _finished(_submit(shop, root, "local[*]"))
    tables = _tables(root)
    assert len(tables) == len(TABLES) * len(CUTOFFS)
    assert all(table.num_rows for table in tables.values())
    return tables, result


def _counts(result: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the events, without times."""
    events = result["events"]
    return {name: events[name] for name in ("rows", "kept", "duplicates", "quarantined", "users") if name in events}


def test_a_cluster_makes_what_one_machine_makes(cluster, shop, expected, tmp_path):
    result, _ = _finished(_submit(shop, tmp_path, cluster.master))
    _assert_equal(tmp_path, expected[0])
    assert _counts(result) == _counts(expected[1])


@pytest.mark.parametrize("stage", ["clean", "derive"])
def test_a_killed_executor_costs_time_and_nothing_else(cluster, shop, expected, tmp_path, stage):
    job = _submit(shop, tmp_path, cluster.master)
    killed = _kill_one(cluster, job, tmp_path, "events*" if stage == "clean" else "behaviour*")
    result, errors = _finished(job)
    assert killed
    assert "Lost executor" in errors
    _assert_equal(tmp_path, expected[0])
    assert _counts(result) == _counts(expected[1])


def _kill_one(cluster: Cluster, job: subprocess.Popen, root: Path, staged: str) -> int | None:
    """Kill an executor as soon as the first file of an output is there; its process, or None if the job was faster."""
    while job.poll() is None:
        if any((root / ".staging").glob(f"{staged}/**/part-*.parquet")):
            running = cluster.executors()
            if running:
                os.kill(running[0], signal.SIGKILL)
                return running[0]
        time.sleep(0.005)
    return None


def test_second_copies_of_tasks_change_nothing(cluster, shop, expected, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    eager = {"interval": "10ms", "multiplier": "1.0", "quantile": "0.1", "minTaskRuntime": "1ms"}
    settings = {f"spark.speculation.{key}": value for key, value in eager.items()}
    settings |= {"spark.speculation": "true", "spark.eventLog.enabled": "true", "spark.eventLog.compress": "false"}
    root = tmp_path / "root"
    result, _ = _finished(_submit(shop, root, cluster.master, **settings, **{"spark.eventLog.dir": f"file://{log}"}))
    copies = [
        line
        for path in log.rglob("*")
        if path.is_file()
        for line in path.read_text().splitlines()
        if '"Speculative":true' in line
    ]
    assert copies
    _assert_equal(root, expected[0])
    assert _counts(result) == _counts(expected[1])

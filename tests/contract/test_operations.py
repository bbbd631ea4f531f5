"""The example DAG of docs/operations.md: it compiles, and each of its tasks is a command that there is."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

from segmenter_plugin.cli import segmenter

PROJECT = Path(__file__).parents[2]
AIRFLOW = {
    "airflow.providers.apache.spark.operators.spark_submit": ["SparkSubmitOperator"],
    "airflow.providers.standard.operators.bash": ["BashOperator"],
    "airflow.sdk": ["DAG"],
    "airflow.timetables.interval": ["CronDataIntervalTimetable"],
    "pendulum": ["datetime"],
}


class Recorded:
    """Stands for anything of Airflow's, which is not installed here: keeps what it was given, in order of `>>`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given, self.named, self.next = given, named, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __rshift__(self, other: Recorded) -> Recorded:
        self.next = other
        return other


@pytest.fixture
def dag(monkeypatch):
    (text,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "operations.md").read_text(), re.DOTALL)
    ast.parse(text)
    for name, members in AIRFLOW.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member, Recorded)
        monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102 - of our own page
    return names


def arguments(task: Recorded) -> tuple[str, list[str]]:
    """A task's command and its options, the templates filled in."""
    if "bash_command" in task.named:
        words = _rendered(task.named["bash_command"])
        program, name, *options = shlex.split(words)
        assert program == "segmenter"
        return name, options
    job = Path(task.named["application"])
    assert (PROJECT / "spark_jobs" / job.name).is_file()
    return job.stem, [_rendered(word) for word in task.named["application_args"]]


def _rendered(text: str) -> str:
    return re.sub(r"\{\{ data_interval_(start|end)\..*?\}\}", lambda found: f"{found[1]}-time", text)


def test_each_task_is_a_command_with_options_that_there_are(dag):
    task, seen = dag["build"], {}
    while task is not None:
        name, options = arguments(task)
        seen[name] = segmenter.commands[name].make_context(name, list(options)).params
        task = task.next
    assert list(seen) == ["build", "score", "segment", "publish", "gate", "materialize"]
    assert all(params["cutoffs"] == ("end-time",) for params in seen.values())
    assert seen["build"]["previous"] == seen["score"]["changed_since"] == "start-time"


def test_days_follow_one_another(dag):
    named = dag["dag"].named
    assert named["max_active_runs"] == 1
    assert named["catchup"]
    assert named["default_args"]["depends_on_past"]
    assert named["schedule"].given == ("30 2 * * *",)

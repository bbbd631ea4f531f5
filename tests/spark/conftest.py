"""One real Spark session on two cores, and the random worlds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def spark():
    from segmenter_plugin.spark.session import open_session

    settings = {"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "2g"}
    return open_session("tests", master="local[2]", settings=settings)


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """`tests/spark_world.py`; tests are no package, so it is read by path."""
    path = Path(__file__).parents[1] / "spark_world.py"
    spec = importlib.util.spec_from_file_location("spark_world", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

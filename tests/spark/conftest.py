"""The random worlds."""

from __future__ import annotations

from types import ModuleType

import pytest
import spark_world


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """`tests/spark_world.py`."""
    return spark_world

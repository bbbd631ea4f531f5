"""Fixtures of the data room."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def signal() -> ModuleType:
    """`tests/signal_tables.py`; tests are no package, so it is read by path."""
    path = Path(__file__).parents[1] / "signal_tables.py"
    spec = importlib.util.spec_from_file_location("signal_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

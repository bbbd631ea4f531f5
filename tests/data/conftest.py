"""Fixtures of the data room."""

from __future__ import annotations

from types import ModuleType

import pytest
import signal_tables


@pytest.fixture(scope="session")
def signal() -> ModuleType:
    """`tests/signal_tables.py`."""
    return signal_tables

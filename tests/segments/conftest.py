from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import scored_world


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """`tests/scored_world.py`."""
    return scored_world


@pytest.fixture
def scored(world: ModuleType, tmp_path: Path) -> tuple[Any, Any, Any]:
    """Configuration, scores and behaviour of 300 users."""
    import pyarrow as pa

    config = world.world_config(tmp_path)
    ids = pa.array([f"user-{number:03d}" for number in range(300)])
    people = world.latent(300, 1)
    scores = world.scores_table(config, world.LATER, people, ids, trained_through=world.LATER)
    return config, scores, world.behaviour_table(config, world.LATER, people, 2, ids)

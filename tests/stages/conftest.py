"""Fixtures of the stages: small tables, and one shop that real Feast serves."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pytest
import shop_tables

FEATURE_REPO = Path(__file__).parents[2] / "feature_repo"
USERS = 600


@pytest.fixture(scope="session")
def shop() -> ModuleType:
    """`tests/shop_tables.py`."""
    return shop_tables


def _serve(shop: ModuleType, root: Path) -> SimpleNamespace:
    from segmenter_plugin.stages.gate import gate
    from segmenter_plugin.stages.materialize import materialize
    from segmenter_plugin.stages.publish import publish
    from segmenter_plugin.store.repository import run_feast

    config = shop.shop_config(root)
    shutil.copytree(FEATURE_REPO, root / "feature_repo", ignore=shutil.ignore_patterns("data", "__pycache__"))
    first, second = shop.day(10, 1), shop.day(11, 1)
    users = shop.users_of(USERS + 1, pa.int64())
    shop.write_shop(config, first, users=users[:-1], user_type=pa.int64(), seed=1)
    shop.write_shop(config, second, users=users[1:], user_type=pa.int64(), seed=2)
    publish(config, [first, second], created_at="2017-11-02T10:00:00Z")
    run_feast(root / "feature_repo", ["apply", "--skip-source-validation"])
    gate(config, [first, second], accept="random rows of two models")
    result = materialize(config, [first, second])
    return SimpleNamespace(config=config, first=first, second=second, users=users, result=result)


@pytest.fixture(scope="session")
def served(shop: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A shop with int64 ids, two cutoffs published, declared and materialised through Feast's command line.

    The feature repo is a copy of the project's own. The second cutoff lacks the first user and has a new one.
    """
    return _serve(shop, tmp_path_factory.mktemp("served"))


@pytest.fixture
def served_anew(shop: ModuleType, tmp_path: Path) -> SimpleNamespace:
    """The same, to be changed: not a copy, for a registry remembers where its online tables lie."""
    return _serve(shop, tmp_path)

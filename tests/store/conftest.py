"""Fixtures of the store: small published tables, and a Feast project of a team that has one already."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pytest
import shop_tables


@pytest.fixture(scope="session")
def shop() -> ModuleType:
    """`tests/shop_tables.py`."""
    return shop_tables


PROJECT = """
project: team
provider: local
registry: {path: data/registry.db, serve_features_while_materializing: true}
offline_store: {type: duckdb}
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""


@pytest.fixture
def team_repo(tmp_path: Path) -> Path:
    """A Feast repository that declares nothing in files."""
    repo = tmp_path / "team_repo"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text(PROJECT)
    return repo


@pytest.fixture(scope="module")
def team(shop: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A team's own project: entity `customer`, string ids, a name prefix; two cutoffs published and online.

    Weights of the first cutoff had seen nothing after it. Weights of the second have seen ten days more.
    """
    from feast import Entity, FileSource, ValueType

    from segmenter_plugin.stages.layout import Layout
    from segmenter_plugin.stages.publish import publish
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.views import views_from_config

    root = tmp_path_factory.mktemp("team")
    (root / "feature_repo").mkdir()
    (root / "feature_repo" / "feature_store.yaml").write_text(PROJECT)
    config = shop.shop_config(root, entity="customer", join_key="customer_id", name_prefix="value_")
    first, second = shop.day(10, 1), shop.day(11, 1)
    users = shop.users_of(40, pa.string())
    text = pa.string()
    shop.write_shop(config, first, users=users, user_type=text, trained_through=shop.day(9, 20), seed=1)
    shop.write_shop(config, second, users=users[:-1], user_type=text, trained_through=shop.day(11, 10), seed=2)
    publish(config, [first, second])

    def source(view: str) -> FileSource:
        path = Layout.of(config).features(view) / "*" / "*.parquet"
        return FileSource(
            name=f"{view}_files",
            path=str(path),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )

    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    store = open_store(root / "feature_repo")
    store.apply(views_from_config(config, source=source, entity=customer, user_type=text).objects(), partial=True)
    store.materialize(first, second)
    return SimpleNamespace(config=config, store=store, users=users, first=first, second=second, customer=customer)

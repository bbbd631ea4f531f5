"""Fixtures that every room shares."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

from segmenter_plugin.config import Config, parse_config

# A busy machine is no failure: time is measured in benchmarks/, never in a test.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def config_tree(**sections: Any) -> dict[str, Any]:
    """A small valid configuration; keyword arguments replace whole sections."""
    return {
        "events": {
            "path": "events.parquet",
            "timezone": "UTC",
            "columns": {
                "user_id": "customer",
                "item_id": "sku",
                "event_type": "kind",
                "event_timestamp": "at",
                "category": "department",
                "price": "paid",
                "quantity": "units",
            },
            "types": {"view": ["seen"], "purchase": ["bought"], "return": ["sent_back"]},
        },
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 14},
            {"name": "spend", "kind": "value", "prediction_days": 14},
        ],
    } | sections


@pytest.fixture
def tree() -> dict[str, Any]:
    return config_tree()


@pytest.fixture
def config(tree: dict[str, Any]) -> Config:
    return parse_config(tree)


@pytest.fixture(scope="session")
def spark() -> Any:
    """One real Spark session on two cores."""
    from segmenter_plugin.spark.session import open_session

    settings = {"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "2g"}
    return open_session("tests", master="local[2]", settings=settings)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--demo-root", help="Folder of a finished demo run to test; without it a small one is run.")

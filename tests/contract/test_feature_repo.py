"""The project's own Feast repository: what it tells a newcomer who comes too early, and that it keeps its promises."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
from pathlib import Path

import pytest
import yaml
from feast.infra.offline_stores.contrib.spark_offline_store.spark import SparkOfflineStore
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.infra.offline_stores.offline_utils import get_offline_store_from_config
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.repo_config import load_repo_config

from segmenter_plugin.errors import ConfigError, MissingStageError

REPO = Path(__file__).parents[2] / "feature_repo"
MINIMAL = '[events]\npath = "e"\nconstant_event_type = "purchase"\n[events.columns]\n'
COLUMNS = 'user_id = "u"\nitem_id = "i"\nevent_timestamp = "t"\n[store]\nroot = "."\n'


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(REPO, tmp_path / "feature_repo", ignore=shutil.ignore_patterns("data", "__pycache__"))
    return tmp_path / "feature_repo"


def test_without_a_configuration_it_names_what_is_missing(copy):
    with pytest.raises(ConfigError, match=r"no configuration file .*segmenter\.toml"):
        runpy.run_path(str(copy / "entities.py"))


def test_before_anything_is_published_it_says_so(copy):
    (copy.parent / "segmenter.toml").write_text(MINIMAL + COLUMNS)
    with pytest.raises(MissingStageError, match="strings or int64") as caught:
        runpy.run_path(str(copy / "entities.py"))
    assert "segmenter publish" in caught.value.hint


def test_the_embedded_default_needs_no_server(copy):
    config = load_repo_config(copy, copy / "feature_store.yaml")
    assert isinstance(get_online_store_from_config(config.online_store), SqliteOnlineStore)
    assert isinstance(get_offline_store_from_config(config.offline_store), DuckDBOfflineStore)
    assert config.batch_engine_config["type"].endswith("ArrowComputeEngine")
    assert config.batch_engine_config["require_verdict"] is True
    settings = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    assert settings["registry"]["serve_features_while_materializing"] is True
    assert settings["entity_key_serialization_version"] == 3


@pytest.mark.parametrize(("part", "stock"), [("online_store", RedisOnlineStore), ("offline_store", SparkOfflineStore)])
def test_the_variants_in_comments_are_what_feast_takes(copy, part, stock):
    path = copy / "feature_store.yaml"
    text = path.read_text()
    commented = re.search(rf"^# {part}:\n(?:#   .*\n)+", text, re.MULTILINE)[0]
    variant = yaml.safe_load(re.sub(r"^# ", "", commented, flags=re.MULTILINE))
    path.write_text(yaml.safe_dump(yaml.safe_load(text) | variant))
    config = load_repo_config(copy, path)
    opened = {"online_store": get_online_store_from_config, "offline_store": get_offline_store_from_config}
    assert isinstance(opened[part](getattr(config, part)), stock)


def test_declarations_hold_no_logic_and_each_object_says_why():
    for path in sorted(REPO.glob("*.py")):
        text = path.read_text()
        tree = ast.parse(text)
        assert ast.get_docstring(tree)
        lines = text.splitlines()
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.If | ast.ClassDef)]
        for node in tree.body:
            if isinstance(node, ast.Assign) and node.targets[0].id not in {"names", "layout"}:
                assert lines[node.lineno - 2].startswith("#"), f"{path.name}:{node.lineno}"
                assert lines[node.lineno - 3].startswith("#"), f"{path.name}:{node.lineno}"

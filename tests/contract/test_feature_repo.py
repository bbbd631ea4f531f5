"""The project's own Feast repository: what it tells a newcomer who comes too early, and that it keeps its promises."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
from pathlib import Path

import pytest
import yaml

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


def test_the_embedded_default_needs_no_server():
    settings = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    assert settings["offline_store"]["type"] == "duckdb"
    assert settings["online_store"]["type"] == "sqlite"
    assert settings["registry"]["serve_features_while_materializing"] is True
    assert settings["entity_key_serialization_version"] == 3


def test_the_redis_variant_in_the_comment_is_what_feast_takes():
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig

    text = (REPO / "feature_store.yaml").read_text()
    commented = re.search(r"^# online_store:\n(?:#   .*\n)+", text, re.MULTILINE)[0]
    settings = yaml.safe_load(re.sub(r"^# ", "", commented, flags=re.MULTILINE))
    assert RedisOnlineStoreConfig(**settings["online_store"]).type == "redis"


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

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from segmenter_plugin.errors import ArtifactError, FormatVersionError
from segmenter_plugin.model.artifact import UserEncoder


@pytest.fixture(scope="module")
def saved(model: UserEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "encoder"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture(scope="module")
def table(shop: Any, signal: Any) -> pa.Table:
    return signal.behaviour(shop.config, signal.LATER, signal.users_of(40))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads((folder / "config.json").read_text())
    change(tree)
    (folder / "config.json").write_text(json.dumps(tree))


def test_what_is_read_is_what_was_saved(model: UserEncoder, saved: Path, table: pa.Table) -> None:
    again = UserEncoder.from_pretrained(saved)
    assert again.model_version == model.model_version
    assert again.trained_through == model.trained_through
    assert again.targets == model.targets
    assert again.features == model.features
    np.testing.assert_array_equal(again.encode(table), model.encode(table))


def test_saving_twice_gives_the_same_bytes(model: UserEncoder, saved: Path, tmp_path: Path) -> None:
    UserEncoder.from_pretrained(saved).save_pretrained(tmp_path)
    for path in saved.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_only_safetensors_json_and_the_card(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "vocabulary.json",
    }
    tree = json.loads((saved / "config.json").read_text())
    assert set(tree) >= {"encoder", "features", "tasks", "trained_through", "metrics", "versions", "format_version"}


def test_the_card_tells_what_matters(model: UserEncoder, saved: Path) -> None:
    card = (saved / "README.md").read_text()
    for text in (model.model_version, "trained_through", "purchase: binary, 14 days", "modernbert, 64 wide", "Limits"):
        assert text in card


def test_encode_keeps_the_order_and_takes_batches(model: UserEncoder, table: pa.Table) -> None:
    embeddings = model.encode(table)
    assert embeddings.shape == (40, 8)
    assert embeddings.dtype == np.float32
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(model.encode(table.take(order)), embeddings[order], atol=1e-5)
    np.testing.assert_allclose(model.encode(table.combine_chunks().to_batches()[0]), embeddings, atol=1e-5)
    assert model.encode(table.slice(0, 0)).shape == (0, 8)


def test_a_model_without_heads_is_whole(model: UserEncoder, table: pa.Table, tmp_path: Path) -> None:
    pretrained = UserEncoder(model.encoder, model.features, model.trained_through)
    pretrained.save_pretrained(tmp_path)
    again = UserEncoder.from_pretrained(tmp_path)
    assert again.targets == ()
    assert again.model_version != model.model_version
    np.testing.assert_array_equal(again.encode(table), model.encode(table))


def test_an_absent_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a model artifact"):
        UserEncoder.from_pretrained(tmp_path / "absent")


def test_a_foreign_directory_is_refused(copied: Path) -> None:
    (copied / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ArtifactError, match="another kind, 'bert'"):
        UserEncoder.from_pretrained(copied)


def test_a_newer_format_is_refused(copied: Path) -> None:
    edit(copied, lambda tree: tree.update(format_version=99))
    with pytest.raises(FormatVersionError, match="format_version 99; this version reads to 1"):
        UserEncoder.from_pretrained(copied)


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["absent", "empty", "cut"])
def test_a_damaged_file_is_refused(copied: Path, name: str, damage: str) -> None:
    content = (copied / name).read_bytes()
    (copied / name).unlink()
    if damage != "absent":
        (copied / name).write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(ArtifactError):
        UserEncoder.from_pretrained(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.pop("features"),
        lambda tree: tree.pop("encoder"),
        lambda tree: tree.pop("trained_through"),
        lambda tree: tree["tasks"].pop(),
        lambda tree: tree["encoder"].update(embedding_size=9),
        lambda tree: tree["encoder"].update(width=9),
        lambda tree: tree["encoder"]["backbone"].pop("model_type"),
        lambda tree: tree["features"]["context"]["mean"].__setitem__(0, 99.0),
        lambda tree: tree.update(trained_through="2001-01-01T00:00:00+00:00"),
        lambda tree: tree.update(model_version="0" * 16),
        lambda tree: tree.update(format_version="one"),
    ],
    ids=[
        "no features", "no encoder", "no time", "a task lost", "another size", "an unknown key", "no backbone",
        "another scaler", "another time", "another version", "no version",
    ],
)  # fmt: skip
def test_a_changed_config_is_refused(copied: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(copied, change)
    with pytest.raises(ArtifactError):
        UserEncoder.from_pretrained(copied)


def test_a_changed_weight_is_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    weights["encoder.events.hours.weight"][0, 0] += 1.0
    save_file(weights, copied / "model.safetensors")
    with pytest.raises(ArtifactError, match="its content hashes to"):
        UserEncoder.from_pretrained(copied)


def test_a_changed_vocabulary_is_refused(copied: Path) -> None:
    tree = json.loads((copied / "vocabulary.json").read_text())
    tree["item_id"][0], tree["item_id"][1] = tree["item_id"][1], tree["item_id"][0]
    (copied / "vocabulary.json").write_text(json.dumps(tree))
    with pytest.raises(ArtifactError, match=r"vocabulary of the artifact .* does not fit it") as caught:
        UserEncoder.from_pretrained(copied)
    assert "vocabulary.json that was saved with these weights" in str(caught.value.hint)

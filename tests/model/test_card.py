from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.card import model_card

DATA = {
    "cutoffs": ["2024-03-01T00:00:00+00:00", "2024-04-01T00:00:00+00:00"],
    "observation_days": 60,
    "users": 12_345,
    "examples": 20_000,
    "validation_examples": 3_000,
    "events": 1_234_567,
    "validation_share": 0.25,
    "seed": 5,
}


@pytest.fixture(scope="module")
def card(model: UserEncoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("card")
    dataclasses.replace(model, data=DATA).save_pretrained(folder)
    return (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "fact",
    [
        "2024-03-01T00:00:00+00:00, 2024-04-01T00:00:00+00:00",
        "the 60 days before the cutoff",
        "12,345 users, 1,234,567 events",
        "20,000 examples to train on",
        "3,000 examples of other users for early stopping",
        "a share of 0.25, drawn with seed 5",
        "| trained_through | 2024-04-01T00:00:00+00:00",
        "- purchase: binary, 14 days",
        "- funnel: multiclass, 14 days; classes none, view, purchase",
        "validation_loss: ",
        "torch ",
        "## Intended use",
        "## Limits",
    ],
)
def test_the_card_tells(card: str, fact: str) -> None:
    assert fact in card


def test_the_card_of_an_artifact_without_a_record_says_so(model: UserEncoder, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "## Data\nNot recorded." in model_card(config)


def test_the_card_tells_how_value_score_is_made(model: UserEncoder, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config: dict[str, Any] = json.loads((tmp_path / "config.json").read_text())
    for target in config["tasks"]:
        weights = {"purchase": 3.0, "spend": 1.0}
        target["value_weight"] = weights.get(target["task"]["name"], 0.0)
        target["scale"] = 12.5 if target["task"]["kind"] == "value" else 1.0
    written = model_card(config)
    assert "is 0.75 x the probability of purchase + 0.25 x the part of spend (m = 12.5)" in written
    assert "value_score" not in model_card(config | {"tasks": []})

"""A folder in which `segmenter pretrain` and `segmenter finetune` can be run as a person would."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import signal_tables
from safetensors.torch import load_file

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.partition import current
from segmenter_plugin.stages.layout import Layout

SEGMENTER = [sys.executable, "-c", "from segmenter_plugin.cli import main; main()"]
#: More threads could add numbers up in another order.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def write_world(folder: Path, users: int = 200, **sections: Any) -> Path:
    """Tables of both training cutoffs, and a configuration; returns the configuration's path."""
    tree = signal_tables.signal_tree(folder / "run", **sections)
    config = parse_config(tree)
    for cutoff in config.training_cutoffs:
        signal_tables.write_cutoff(config, cutoff, signal_tables.users_of(users))
    path = folder / "segmenter.toml"
    path.write_text(_toml(tree), encoding="utf-8")
    return path


def layout_of(folder: Path) -> Layout:
    return Layout(folder / "run")


def weights_of(folder: Path) -> dict[str, Any]:
    """The weights of both artifacts."""
    places = {"pretrained": layout_of(folder).pretrained, "encoder": layout_of(folder).encoder}
    return {
        f"{which}.{name}": tensor
        for which, place in places.items()
        for name, tensor in load_file(current(place) / "model.safetensors").items()
    }


def _toml(tree: dict[str, Any]) -> str:
    lines = []
    for name, section in tree.items():
        for part in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {_value(value)}" for key, value in part.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(part)}" for key, part in value.items()) + "}"
    return json.dumps(value)

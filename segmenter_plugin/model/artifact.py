"""A trained model as a directory: safetensors and JSON, no code and no pickles.

Files:
    config.json         format_version, encoder settings, features, tasks, trained_through, model_version, metrics,
                        versions of the packages
    vocabulary.json     known values by categorical column
    model.safetensors   weights of the encoder (``encoder.``) and the heads (``heads.``)
    README.md           the model card
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights

from segmenter_plugin.clock import parse_time
from segmenter_plugin.data.features import Features
from segmenter_plugin.data.partition import BATCH_ROWS, current
from segmenter_plugin.data.targets import Target
from segmenter_plugin.data.vocabulary import Vocabulary
from segmenter_plugin.errors import ArtifactError, FormatVersionError, SegmenterError
from segmenter_plugin.model.card import model_card
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.heads import TaskHeads
from segmenter_plugin.model.scoring import infer

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
KIND = "segmenter_plugin.UserEncoder"
_CONFIG, _VOCABULARY, _WEIGHTS, _CARD = "config.json", "vocabulary.json", "model.safetensors", "README.md"
_PACKAGES = ("segmenter-plugin", "torch", "transformers", "safetensors", "numpy", "pyarrow")
_HINT = "train again (`segmenter pretrain`, `segmenter finetune`), or name another artifact."


@dataclass(frozen=True)
class UserEncoder:
    """A trained encoder with all that it needs to read a behaviour table.

    Attributes:
        encoder: The network.
        features: How behaviour becomes numbers.
        trained_through: The latest event time, label windows included, that any weight has seen; UTC.
        heads: Of the tasks; None after pretraining.
        metrics: What training measured; for readers only.
        data: What it was trained on; for readers only.

    Example:
        ``UserEncoder.from_pretrained("runs/demo/artifacts/encoder").encode(behaviour_table)``
    """

    encoder: SequenceEncoder
    features: Features
    trained_through: datetime
    heads: TaskHeads | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What the heads predict, in order; empty after pretraining."""
        return () if self.heads is None else self.heads.targets

    @cached_property
    def model_version(self) -> str:
        """16 hexadecimal digits, a hash of the weights and of all that they are applied with."""
        return _version(self._weights(), self._identity(), self.features.vocabulary)

    def encode(self, table: pa.Table | pa.RecordBatch) -> npt.NDArray[np.float32]:
        """Embed users.

        Args:
            table: Under the behaviour schema; further columns are ignored.

        Returns:
            (N, D), rows in the table's order.

        Raises:
            SchemaError: A column is missing, or has another type.
        """
        batches = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        parts = [
            infer(self.encoder, None, self.features.encode(batch)).embedding
            for batch in batches.to_batches(max_chunksize=BATCH_ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.encoder.settings.embedding_size), dtype=np.float32)

    def to(self, device: torch.device | str | None = None) -> Self:
        """Move the network to a device, in place; by default to the GPU, where there is one."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder.to(device)
        if self.heads is not None:
            self.heads.to(device)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the artifact's files into a folder, which is made where it is absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self._identity() | {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "model_version": self.model_version,
            "vocabulary_hash": self.features.vocabulary.content_hash,
            "metrics": dict(self.metrics),
            "data": dict(self.data),
            "versions": {package: version(package) for package in _PACKAGES},
        }
        (folder / _WEIGHTS).write_bytes(self._weights())
        _write_json(folder / _VOCABULARY, self.features.vocabulary.to_json())
        _write_json(folder / _CONFIG, config)
        (folder / _CARD).write_text(model_card(config), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read an artifact, on to the CPU.

        Raises:
            ArtifactError: The directory is absent, foreign, damaged, or its parts do not fit together.
            FormatVersionError: A newer version wrote it.
        """
        folder = current(Path(folder))
        config = _read_config(folder)
        vocabulary = _read_vocabulary(folder, config.get("vocabulary_hash"))
        try:
            weights = (folder / _WEIGHTS).read_bytes()
            features = Features.from_json(config["features"], vocabulary)
            targets = [Target.from_json(tree) for tree in config["tasks"]]
            encoder = SequenceEncoder(EncoderSettings.from_json(config["encoder"]))
            heads = TaskHeads(targets, encoder.settings.embedding_size, encoder.settings.dropout) if targets else None
            _load(weights, encoder, heads)
            through = parse_time(config["trained_through"])
            model = cls(encoder, features, through, heads, config.get("metrics", {}), config.get("data", {}))
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"the artifact {str(folder)!r} is damaged: {error}.", hint=_HINT) from error
        except SegmenterError as error:
            raise ArtifactError(f"the artifact {str(folder)!r} is damaged: {error.message}", hint=_HINT) from error
        actual = _version(weights, model._identity(), vocabulary)
        if actual != config.get("model_version"):
            raise ArtifactError(
                f"the artifact {str(folder)!r} is damaged: its content hashes to {actual}, its config.json says "
                f"{config.get('model_version')!r}.",
                hint=_HINT,
            )
        encoder.eval()
        return model

    def _identity(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.settings.to_json(),
            "features": self.features.to_json(),
            "tasks": [target.to_json() for target in self.targets],
            "trained_through": self.trained_through.isoformat(),
        }

    def _weights(self) -> bytes:
        modules = {"encoder": self.encoder} if self.heads is None else {"encoder": self.encoder, "heads": self.heads}
        state = {
            f"{prefix}.{name}": tensor.detach().cpu().contiguous()
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        return save_weights(state)


def _version(weights: bytes, identity: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    digest = hashlib.sha256(weights)
    digest.update(json.dumps(identity, sort_keys=True).encode())
    digest.update(vocabulary.content_hash.encode())
    return digest.hexdigest()[:16]


def _load(weights: bytes, encoder: SequenceEncoder, heads: TaskHeads | None) -> None:
    state = load_weights(weights)
    parts: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "heads": {}}
    for name, tensor in state.items():
        prefix, _, rest = name.partition(".")
        parts[prefix][rest] = tensor
    encoder.load_state_dict(parts["encoder"])
    if heads is not None:
        heads.load_state_dict(parts["heads"])


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / _CONFIG).is_file():
        raise ArtifactError(f"{str(folder)!r} is not a model artifact: it has no {_CONFIG}.", hint=_HINT)
    config = _read_json(folder / _CONFIG)
    if not isinstance(config, dict) or config.get("kind") != KIND:
        found = config.get("kind", config.get("model_type")) if isinstance(config, dict) else type(config).__name__
        raise ArtifactError(f"{str(folder)!r} is an artifact of another kind, {found!r}; {KIND!r} is read.", hint=_HINT)
    written = config.get("format_version")
    if not isinstance(written, int):
        raise ArtifactError(f"the artifact {str(folder)!r} has format_version = {written!r}.", hint=_HINT)
    if written > FORMAT_VERSION:
        raise FormatVersionError(
            f"the artifact {str(folder)!r} has format_version {written}; this version reads to {FORMAT_VERSION}.",
            hint="upgrade segmenter-plugin, or train the artifact again with this version.",
        )
    return config


def _read_vocabulary(folder: Path, expected: Any) -> Vocabulary:
    vocabulary = Vocabulary.from_json(_read_json(folder / _VOCABULARY))
    if vocabulary.content_hash != expected:
        raise ArtifactError(
            f"the vocabulary of the artifact {str(folder)!r} does not fit it: it hashes to {vocabulary.content_hash}, "
            f"config.json says {expected!r}, so its numbers would mean other values.",
            hint=f"put back the {_VOCABULARY} that was saved with these weights, or train again.",
        )
    return vocabulary


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"the artifact's file {str(path)!r} cannot be read: {error}.", hint=_HINT) from error


def _write_json(path: Path, tree: Any) -> None:
    path.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

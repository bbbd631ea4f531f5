"""Command `tables`: what lies under a root, how much of it, and what each output was made from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import fs

from segmenter_plugin.clock import parse_cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.object_rows import ObjectFolder, committed
from segmenter_plugin.data.partition import MANIFEST, data_files, read_manifest
from segmenter_plugin.data.staging import STAGING, being_written, leftovers
from segmenter_plugin.storage import published_folder, published_uri

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_MODEL_VERSION = "model_version"
#: Not outputs, though there may be files called like a manifest in them.
_SKIPPED = {STAGING, "training"}


@dataclass(frozen=True)
class Output:
    """A partition or another folder with a manifest.

    Attributes:
        name: Its path from the root, ``behaviour/cutoff=20240101T000000Z``.
        folder: Where it lies, or would if it did not lie in a bucket.
        manifest: What is written there.
        objects: Its files in a bucket.
    """

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    objects: tuple[fs.FileInfo, ...] = ()

    def row(self, known: Mapping[str, str]) -> dict[str, Any]:
        """What the table shows of it.

        Args:
            known: Name of the output by each fingerprint and model version that is there.
        """
        table, _, last = self.name.rpartition("/")
        cutoff = parse_cutoff_key(last)
        sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
        return {
            "table": self.name if cutoff is None else table,
            "cutoff": None if cutoff is None else cutoff.isoformat(),
            "rows": self._rows(),
            "versions": self._versions(),
            "bytes": sum(sizes) + sum(info.size or 0 for info in self.objects),
            "written": self._written(),
            "state": self._state(),
            "made_from": self._made_from(known),
        }

    def _rows(self) -> int | None:
        if "segments" in self.manifest:
            return sum(segment["kept"] for segment in self.manifest["segments"])
        files = data_files(self.folder)
        if files:
            return sum(pq.read_metadata(path).num_rows for path in files)
        return self.manifest.get("users", self.manifest.get("rows"))

    def _versions(self) -> int:
        """How many are there: of a partition one or two, of the event log its segments."""
        if "segments" in self.manifest:
            return len(self.manifest["segments"])
        return len(list(self.folder.glob(f"*/{MANIFEST}"))) if "version" in self.manifest else 1

    def _written(self) -> str | None:
        written = self.manifest.get("written_at")
        return None if written is None else str(written)[:19] + "Z"

    def _state(self) -> str:
        rates = self.manifest.get("base_rates")
        if rates is not None:
            censored = [column for column, rate in rates.items() if rate is None]
            return f"censored: {', '.join(censored)}" if censored else "complete"
        return "events end before the cutoff" if self.manifest.get("is_complete") is False else "complete"

    def _made_from(self, known: Mapping[str, str]) -> str:
        if "segments" in self.manifest:
            return f"{sum(len(segment['sources']) for segment in self.manifest['segments'])} files"
        found = [_named(key, value, known) for key, value in _leaves(self.manifest.get("inputs", {}))]
        return ", ".join(dict.fromkeys(name for name in found if name))


def tables(config: Config) -> dict[str, Any]:
    """List all outputs of a root, and what was published from it or another one to ``[store] published``.

    Args:
        config: Reads its section ``[store]`` alone.

    Returns:
        ``tables``: the outputs, by path; ``being_written``: outputs that a run is writing now; ``leftovers``: folders
        of runs that were killed, which the next run removes, and files in a bucket that do not count, which the next
        publish of their cutoff removes.
    """
    root = config.root_path
    in_bucket, not_counted = _in_bucket(config)
    outputs = [*_outputs(root, config.store.published_endpoint), *in_bucket]
    known = _known(outputs)
    return {
        "stage": "tables",
        "root": str(root),
        "tables": {f"Outputs in {root}": [output.row(known) for output in outputs]},
        "being_written": being_written(root),
        "leftovers": [*(str(path.relative_to(root)) for path in leftovers(root)), *not_counted],
    }


def _in_bucket(config: Config) -> tuple[list[Output], list[str]]:
    """Published partitions that lie in a bucket, manifests and all; and addresses of files there that do not count."""
    if config.store.published is None or config.store.table_format == "delta":
        return [], []
    outputs, others = [], []
    for view in FeatureNames.of(config).folders:
        uri = published_uri(config.store, view)
        for name, partition in sorted(committed(ObjectFolder.of(uri, config.store.published_endpoint)).items()):
            folder = published_folder(config.root_path, view) / name
            outputs.append(Output(f"{uri}/{name}", folder, partition.manifest, partition.files))
            others += [f"s3://{info.path}" for info in partition.others]
    return outputs, others


def _outputs(root: Path, endpoint: str | None) -> Iterator[Output]:
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        if MANIFEST not in files:
            continue
        folders.clear()
        folder = Path(place)
        manifest = read_manifest(folder)
        if manifest is not None and folder != root:
            yield Output(folder.relative_to(root).as_posix(), folder, manifest, _objects(manifest, endpoint))


def _objects(manifest: Mapping[str, Any], endpoint: str | None) -> tuple[fs.FileInfo, ...]:
    """Files of a partition whose manifest lies here and its rows do not."""
    found = [ObjectFolder.of(address, endpoint) for address in manifest.get("objects", ())]
    return tuple(one.filesystem.get_file_info(one.path) for one in found)


def _known(outputs: list[Output]) -> dict[str, str]:
    known: dict[str, str] = {}
    for output in outputs:
        known[output.manifest["fingerprint"]] = output.name
        # Scores tell which model made them, too; the artifact comes first, by name.
        if _MODEL_VERSION in output.manifest:
            known.setdefault(output.manifest[_MODEL_VERSION], output.name)
    return known


def _named(key: str, value: str, known: Mapping[str, str]) -> str:
    """The output that an input is; empty for an input that is none (a time, for example)."""
    if value in known:
        return known[value]
    is_output = _FINGERPRINT.fullmatch(value) or key == _MODEL_VERSION
    return f"{key} {value[:8]} (replaced since)" if is_output else ""


def _leaves(tree: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Each text in a tree of dicts and lists, with the key it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, name)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _leaves(value, key)

"""What artifacts and evaluations tell of what their weights have seen, beside the tables that they name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key, parse_time
from segmenter_plugin.config import Config
from segmenter_plugin.data.clock_findings import Place
from segmenter_plugin.data.partition import MANIFEST, current, read_manifest
from segmenter_plugin.data.staging import STAGING
from segmenter_plugin.errors import ArtifactError, SegmenterError
from segmenter_plugin.quality.clock_audit import ArtifactClock, EvaluationClock
from segmenter_plugin.stages.audit_tables import StoredTable, has_settings
from segmenter_plugin.stages.evaluate import ARTIFACT_FILE, METRICS_FILE
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.provenance import read_provenance
from segmenter_plugin.tasks import TaskConfig

_STAGES = ("pretrain", "finetune")
_SKIPPED = {STAGING, "training"}
_LABELS = "labels "


@dataclass(frozen=True)
class StoredWeights:
    """An artifact, and its clock.

    Attributes:
        model_version: By which rows name it.
        trained_through: What its file says.
        clock: What that is held against.
    """

    model_version: str
    trained_through: datetime
    clock: ArtifactClock


def stored_weights(config: Config) -> Iterator[StoredWeights]:
    """All artifacts under the root, those of a backfill too.

    Raises:
        ArtifactError: One cannot be read.
    """
    root = config.root_path
    for folder, manifest in _with_manifest(root):
        if manifest.get("stage") in _STAGES:
            yield _weights(folder, manifest, config)


def stored_evaluations(config: Config, weights: Mapping[str, datetime]) -> Iterator[EvaluationClock]:
    """All evaluations under the root.

    Args:
        config: Its root, and the windows of its tasks.
        weights: Model version -> ``trained_through`` of the artifacts that are there.
    """
    layout = Layout.of(config)
    for folder, manifest in _with_manifest(config.root_path / "evaluation"):
        cutoff = parse_cutoff_key(folder.name)
        if manifest.get("stage") != "evaluate" or cutoff is None:
            continue
        metrics = _read_json(folder / METRICS_FILE)
        version, inputs = manifest["model_version"], manifest.get("inputs", {})
        known = {weights[version]} if version in weights else set()
        known |= _of_scores(layout.scores(cutoff), inputs)
        said = tuple(parse_time(tree["trained_through"]) for tree in (manifest, metrics))
        ends = tuple(end for time in _fitted_on(inputs, cutoff) for end in _window_end(time, inputs, config))
        yield EvaluationClock(f"evaluation/{folder.name}", cutoff, said, tuple(sorted(known)), ends)


def _weights(folder: Path, manifest: Mapping[str, Any], config: Config) -> StoredWeights:
    tree = _read_json(current(folder) / ARTIFACT_FILE)
    try:
        through = parse_time(tree["trained_through"])
        cutoffs = tuple(parse_time(text) for text in tree["data"]["cutoffs"])
        tasks = [TaskConfig.model_validate(target["task"]) for target in tree["tasks"]]
        said = (parse_time(manifest["trained_through"]), through)
        version = str(manifest["model_version"])
    except (KeyError, TypeError, ValueError, SegmenterError) as error:
        raise ArtifactError(
            f"the artifact {str(folder)!r} does not tell what it was trained on: {error!r}.",
            hint="train again (`segmenter pretrain`, `segmenter finetune`).",
        ) from error
    name, inputs = folder.relative_to(config.root_path).as_posix(), manifest.get("inputs", {})
    ends, is_whole = _window_ends(cutoffs, tasks, inputs, Layout.of(config))
    start, is_same = _start(folder, inputs) if "pretrained" in inputs else (None, True)
    clock = ArtifactClock(name, said, cutoffs, ends, start, is_known=bool(inputs) and is_whole and is_same)
    return StoredWeights(version, through, clock)


def _window_ends(
    cutoffs: Sequence[datetime], tasks: Sequence[TaskConfig], inputs: Mapping[str, Any], layout: Layout
) -> tuple[tuple[datetime, ...], bool]:
    """Ends of the label windows that were over when the labels were made; and whether all these labels are there."""
    ends: list[datetime] = []
    is_whole = True
    for cutoff in cutoffs if tasks else ():
        labels = read_manifest(layout.labels(cutoff)) or {}
        if "complete_through" not in labels or labels["fingerprint"] != inputs.get(f"labels/{cutoff_key(cutoff)}"):
            is_whole = False
            continue
        through = parse_time(labels["complete_through"])
        ends += [end for end in (task.window(cutoff)[1] for task in tasks) if end <= through]
    return tuple(ends), is_whole


def _start(folder: Path, inputs: Mapping[str, Any]) -> tuple[datetime | None, bool]:
    """``trained_through`` of the weights that fine-tuning started from, if they are still there."""
    pretrained = read_manifest(folder.parent / "pretrained") or {}
    if pretrained.get("fingerprint") != inputs["pretrained"]:
        return None, False
    return parse_time(pretrained["trained_through"]), True


def _of_scores(folder: Path, inputs: Mapping[str, Any]) -> set[datetime]:
    """What the rows that were judged say of their weights, if they are still there."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["fingerprint"] != inputs.get("scores"):
        return set()
    try:
        return {read_provenance(folder).trained_through}
    except SegmenterError:
        # Rows of several weights are found where rows are checked.
        return set()


def _fitted_on(inputs: Mapping[str, Any], cutoff: datetime) -> list[datetime]:
    """The training cutoffs of the baselines: all whose labels were read, but the one that was judged."""
    times = [parse_time(key.removeprefix(_LABELS)) for key in inputs if key.startswith(_LABELS)]
    return [time for time in times if time != cutoff]


def _window_end(time: datetime, inputs: Mapping[str, Any], config: Config) -> list[datetime]:
    """When the last label window of a training cutoff ends; empty where its labels were made with other tasks."""
    folder = Layout.of(config).labels(time)
    manifest = read_manifest(folder) or {}
    labels = StoredTable("labels", Place(f"labels/{folder.name}", time), folder, (), manifest)
    is_same = manifest.get("fingerprint") == inputs[f"{_LABELS}{time.isoformat()}"] and has_settings(labels, config)
    return [config.labels_end(time)] if is_same else []


def _with_manifest(place: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Outputs below a folder; what lies in one of them is not looked at."""
    for name, folders, files in os.walk(place):
        folders[:] = sorted(folder for folder in folders if folder not in _SKIPPED)
        if MANIFEST in files:
            folders.clear()
            yield Path(name), read_manifest(Path(name)) or {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{str(path)!r} cannot be read: {error}.", hint="run the stage that makes it again."
        ) from error
    return tree

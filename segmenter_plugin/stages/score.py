"""Stage `score`: embeddings and head outputs of the users of a cutoff, all of them or those whose scores are stale."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    data_files,
    is_current,
    new_partition,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.errors import MissingStageError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.rescore import RESCORED, Picked, Since, score_fingerprint
from segmenter_plugin.stages.score_files import ScoreFile, ScoreFiles, Scorer, score_here

logger = logging.getLogger(__name__)


def score(
    config: Config,
    cutoffs: Sequence[datetime],
    *,
    artifact: Path | None = None,
    since: Since | None = None,
    score_files: ScoreFiles = score_here,
) -> dict[str, Any]:
    """Score cutoffs, each streamed into a partition of its own, a file for each of behaviour.

    Args:
        config: Reads `[[tasks]]` and `[store] root`.
        cutoffs: Of built behaviour tables.
        artifact: A fine-tuned artifact, instead of the store's.
        since: Score those users only whose scores as of an earlier cutoff no longer stand; where all users of a cutoff
            are scored already, they are left as they are.
        score_files: Who scores: this process, or `score_on_spark`.

    Returns:
        stage, artifact, model_version, and by cutoff key: path, rows, skipped; with `since` the counts of `Picked`.

    Raises:
        CutoffError: `since` is not before a cutoff.
        ConfigError: `since` lets rows grow older than they are served.
        MissingStageError: A cutoff has not been built, or the encoder not fine-tuned.
        ArtifactError: The artifact is damaged, or predicts other tasks than the configuration names.
        SchemaError: The behaviour was built with other columns than the model read.
    """
    layout = Layout.of(config)
    place = layout.encoder if artifact is None else Path(artifact)
    scorer = _scorer(config, place, from_store=artifact is None)
    results: dict[str, Any] = {}
    for cutoff in cutoffs:
        results[cutoff_key(cutoff)] = _score_one(scorer, cutoff, layout, since, score_files)
    return {"stage": "score", "artifact": str(place), "model_version": scorer.version, "cutoffs": results}


def _scorer(config: Config, place: Path, *, from_store: bool) -> Scorer:
    """The artifact's version is in its manifest, if it has one: where nothing is stale, weights are not read."""
    manifest = require_manifest(place, "segmenter finetune") if from_store else read_manifest(place)
    if manifest is not None:
        return Scorer(config, place, manifest["model_version"])
    from segmenter_plugin.model.artifact import UserEncoder

    return Scorer(config, place, UserEncoder.from_pretrained(place).model_version)


def _score_one(
    scorer: Scorer, cutoff: datetime, layout: Layout, since: Since | None, score_files: ScoreFiles
) -> dict[str, Any]:
    config, version = scorer.config, scorer.version
    command = f"segmenter build --cutoff {cutoff:%Y-%m-%dT%H:%M:%S+00:00}"
    behaviour, place = layout.behaviour(cutoff), layout.scores(cutoff)
    built = require_manifest(behaviour, command)["fingerprint"]
    made_from = score_fingerprint(config, built, version)
    picked: Picked | None = None
    if since is not None and not is_current(place, made_from):
        picked = Picked.of(config, cutoff, since, version)
        made_from = score_fingerprint(config, built, version, picked.made_from)
    if is_current(place, made_from):
        logger.info("score %s: up to date, skipped", cutoff_key(cutoff))
        return _entry(place, read_manifest(place) or {}, skipped=True)
    trained_through = scorer.model.trained_through
    if cutoff < trained_through:
        logger.warning(
            "score %s: the weights have seen events through %s, after this cutoff; such scores flatter and "
            "`segmenter evaluate` refuses them",
            cutoff_key(cutoff),
            trained_through.isoformat(),
        )
    manifest: dict[str, Any] = {"stage": "score", "fingerprint": made_from, "model_version": version}
    with new_partition(place, config.root_path, manifest) as staging:
        manifest["rows"] = _write(scorer, behaviour, staging, picked, score_files)
        manifest |= {} if picked is None else {RESCORED: picked.as_dict()}
    logger.info("score %s: %s users", cutoff_key(cutoff), manifest["rows"])
    return _entry(place, manifest, skipped=False)


def _entry(place: Path, manifest: dict[str, Any], *, skipped: bool) -> dict[str, Any]:
    entry = {"path": str(place), "rows": manifest.get("rows"), "skipped": skipped}
    return entry | ({RESCORED: manifest[RESCORED]} if RESCORED in manifest else {})


def _write(scorer: Scorer, behaviour: Path, staging: Path, picked: Picked | None, score_files: ScoreFiles) -> int:
    """Stream scores to a file for each of behaviour; how many rows there were."""
    paths = data_files(behaviour)
    if not paths:
        raise MissingStageError(
            f"{str(behaviour)!r} holds no users.", hint="check the cutoff against the events' times."
        )
    files = [
        ScoreFile(path, staging / path.name, None if picked is None else np.flatnonzero(picked.rows(path)))
        for path in paths
    ]
    rows = sum(score_files(scorer, files))
    # Readers tell a partition's provenance by its rows, so there is one where nobody needed scores.
    return rows or scorer(replace(files[0], chosen=np.zeros(1, dtype=np.int64)))

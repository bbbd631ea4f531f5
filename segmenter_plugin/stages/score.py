"""Stage `score`: embeddings and head outputs of every user of a cutoff."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from segmenter_plugin import schemas
from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    data_files,
    fingerprint,
    is_current,
    new_partition,
    read_batches,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.errors import ArtifactError, MissingStageError
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder

logger = logging.getLogger(__name__)


def score(config: Config, cutoffs: Sequence[datetime], *, artifact: Path | None = None) -> dict[str, Any]:
    """Score cutoffs, each streamed into a partition of its own.

    Args:
        config: Reads `[[tasks]]` and `[store] root`.
        cutoffs: Of built behaviour tables.
        artifact: A fine-tuned artifact, instead of the store's.

    Returns:
        stage, artifact, model_version, and by cutoff key: path, rows, skipped.

    Raises:
        MissingStageError: A cutoff has not been built, or the encoder not fine-tuned.
        ArtifactError: The artifact is damaged, or predicts other tasks than the configuration names.
        SchemaError: The behaviour was built with other columns than the model read.
    """
    layout = Layout.of(config)
    place = layout.encoder if artifact is None else Path(artifact)
    models = _Models(config, place, from_store=artifact is None)
    results: dict[str, Any] = {}
    for cutoff in cutoffs:
        results[cutoff_key(cutoff)] = _score_one(config, cutoff, layout, models)
    return {"stage": "score", "artifact": str(place), "model_version": models.version, "cutoffs": results}


class _Models:
    """The artifact: its version known at once, its weights read only when a cutoff needs them."""

    def __init__(self, config: Config, place: Path, *, from_store: bool) -> None:
        manifest = require_manifest(place, "segmenter finetune") if from_store else read_manifest(place)
        self._config = config
        self._place = place
        self._model: UserEncoder | None = None
        self.version: str = self.model.model_version if manifest is None else manifest["model_version"]

    @property
    def model(self) -> UserEncoder:
        """The artifact, read once, on the GPU where there is one."""
        if self._model is None:
            from segmenter_plugin.model.artifact import UserEncoder

            model = UserEncoder.from_pretrained(self._place)
            predicted, asked = [target.task for target in model.targets], list(self._config.tasks)
            if predicted != asked:
                raise ArtifactError(
                    f"the artifact predicts {[task.window_name for task in predicted]}, "
                    f"the configuration asks for {[task.window_name for task in asked]}.",
                    hint="run `segmenter finetune` with this configuration.",
                )
            self._model = model.to()
        return self._model


def _score_one(config: Config, cutoff: datetime, layout: Layout, models: _Models) -> dict[str, Any]:
    command = f"segmenter build --cutoff {cutoff:%Y-%m-%dT%H:%M:%S+00:00}"
    behaviour = layout.behaviour(cutoff)
    inputs = {"behaviour": require_manifest(behaviour, command)["fingerprint"], "model_version": models.version}
    tasks = [task.model_dump(mode="json") for task in config.tasks]
    made_from = fingerprint("score", inputs, {"tasks": tasks})
    place = layout.scores(cutoff)
    if is_current(place, made_from):
        logger.info("score %s: up to date, skipped", cutoff_key(cutoff))
        return {"path": str(place), "rows": (read_manifest(place) or {}).get("rows"), "skipped": True}
    model = models.model
    if cutoff < model.trained_through:
        logger.warning(
            "score %s: the weights have seen events through %s, after this cutoff; such scores flatter and "
            "`segmenter evaluate` refuses them",
            cutoff_key(cutoff),
            model.trained_through.isoformat(),
        )
    manifest: dict[str, Any] = {"stage": "score", "fingerprint": made_from, "model_version": models.version}
    with new_partition(place, config.root_path, manifest) as staging:
        manifest["rows"] = _write(model, config, behaviour, staging / "part-0.parquet")
    logger.info("score %s: %s users", cutoff_key(cutoff), manifest["rows"])
    return {"path": str(place), "rows": manifest["rows"], "skipped": False}


def _write(model: UserEncoder, config: Config, behaviour: Path, path: Path) -> int:
    """Stream scores to one file; how many rows there were."""
    from segmenter_plugin.model.scoring import score_batches

    files = data_files(behaviour)
    if not files:
        raise MissingStageError(
            f"{str(behaviour)!r} holds no users.", hint="check the cutoff against the events' times."
        )
    schema = schemas.scores_schema(config, schemas.user_type_of(pq.read_schema(files[0])))
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in score_batches(model, read_batches(behaviour, model.features.columns)):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows

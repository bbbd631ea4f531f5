"""Stage `score`: embeddings and head outputs of the users of a cutoff, all of them or those whose scores are stale."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin import schemas
from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    BATCH_ROWS,
    data_files,
    is_current,
    new_partition,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.errors import ArtifactError, MissingStageError, SchemaError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.rescore import RESCORED, Picked, Since, score_fingerprint

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder

logger = logging.getLogger(__name__)


def score(
    config: Config, cutoffs: Sequence[datetime], *, artifact: Path | None = None, since: Since | None = None
) -> dict[str, Any]:
    """Score cutoffs, each streamed into a partition of its own, a file for each of behaviour.

    Args:
        config: Reads `[[tasks]]` and `[store] root`.
        cutoffs: Of built behaviour tables.
        artifact: A fine-tuned artifact, instead of the store's.
        since: Score those users only whose scores as of an earlier cutoff no longer stand; where all users of a cutoff
            are scored already, they are left as they are.

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
    models = _Models(config, place, from_store=artifact is None)
    results: dict[str, Any] = {}
    for cutoff in cutoffs:
        results[cutoff_key(cutoff)] = _score_one(config, cutoff, layout, models, since)
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


def _score_one(
    config: Config, cutoff: datetime, layout: Layout, models: _Models, since: Since | None
) -> dict[str, Any]:
    command = f"segmenter build --cutoff {cutoff:%Y-%m-%dT%H:%M:%S+00:00}"
    behaviour, place = layout.behaviour(cutoff), layout.scores(cutoff)
    built = require_manifest(behaviour, command)["fingerprint"]
    made_from = score_fingerprint(config, built, models.version)
    picked: Picked | None = None
    if since is not None and not is_current(place, made_from):
        picked = Picked.of(config, cutoff, since, models.version)
        made_from = score_fingerprint(config, built, models.version, picked.made_from)
    if is_current(place, made_from):
        logger.info("score %s: up to date, skipped", cutoff_key(cutoff))
        return _entry(place, read_manifest(place) or {}, skipped=True)
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
        manifest["rows"] = _write(model, config, behaviour, staging, picked)
        manifest |= {} if picked is None else {RESCORED: picked.as_dict()}
    logger.info("score %s: %s users", cutoff_key(cutoff), manifest["rows"])
    return _entry(place, manifest, skipped=False)


def _entry(place: Path, manifest: dict[str, Any], *, skipped: bool) -> dict[str, Any]:
    entry = {"path": str(place), "rows": manifest.get("rows"), "skipped": skipped}
    return entry | ({RESCORED: manifest[RESCORED]} if RESCORED in manifest else {})


def _write(model: UserEncoder, config: Config, behaviour: Path, staging: Path, picked: Picked | None) -> int:
    """Stream scores to a file for each of behaviour; how many rows there were."""
    files = data_files(behaviour)
    if not files:
        raise MissingStageError(
            f"{str(behaviour)!r} holds no users.", hint="check the cutoff against the events' times."
        )
    rows = 0
    for path in files:
        chosen = None if picked is None else np.flatnonzero(picked.rows(path))
        rows += _write_file(model, config, path, staging / path.name, chosen)
    # Readers tell a partition's provenance by its rows, so there is one where nobody needed scores.
    return rows or _write_file(model, config, files[0], staging / files[0].name, np.zeros(1, dtype=np.int64))


def _write_file(
    model: UserEncoder, config: Config, behaviour: Path, target: Path, chosen: npt.NDArray[np.int64] | None
) -> int:
    """Score a file's rows, or those at `chosen` places only; no rows, no file."""
    from segmenter_plugin.model.scoring import score_batches

    if chosen is not None and not len(chosen):
        return 0
    rows = 0
    schema = schemas.scores_schema(config, schemas.user_type_of(pq.read_schema(behaviour)))
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in score_batches(model, _batches(behaviour, model.features.columns, chosen)):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _batches(path: Path, columns: Sequence[str], chosen: npt.NDArray[np.int64] | None) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        missing = sorted(set(columns) - set(file.schema_arrow.names))
        if missing:
            raise SchemaError(
                f"{str(path)!r} lacks the columns {missing}; it has {file.schema_arrow.names}.",
                hint="it was built with another configuration; run the stage that makes it again.",
            )
        start = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
            if chosen is None:
                yield batch
            else:
                inside = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, start + batch.num_rows)]
                yield batch.take(pa.array(inside - start))
            start += batch.num_rows

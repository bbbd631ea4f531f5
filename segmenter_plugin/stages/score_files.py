"""From a file of behaviour to a file of scores, in this process or on Spark's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin import schemas
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import BATCH_ROWS
from segmenter_plugin.data.read_ahead import read_ahead
from segmenter_plugin.data.segment_part import appearing
from segmenter_plugin.errors import ArtifactError, SchemaError

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.spark.session import SparkSession

#: Batches of scores that wait to be written.
_DEPTH = 2


@dataclass(frozen=True)
class ScoreFile:
    """What is to be scored.

    Attributes:
        behaviour: A file of behaviour.
        target: The file of its scores.
        chosen: Places of the rows to score, ascending; None for all.
    """

    behaviour: Path
    target: Path
    chosen: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Scorer:
    """Scores files with an artifact, which is read once a process.

    Attributes:
        config: `[[tasks]]` counts.
        artifact: Its folder, which every machine that scores must reach.
        version: The artifact's `model_version`.
    """

    config: Config
    artifact: Path
    version: str

    def __call__(self, file: ScoreFile) -> int:
        """Write a file of scores, whole or not at all; no rows, no file.

        Returns:
            How many rows there were.

        Raises:
            ArtifactError: The artifact is damaged, is another than `version`, or predicts other tasks.
            SchemaError: The behaviour was built with other columns than the model read.
            TrainingError: The model gives something other than finite numbers.
        """
        from segmenter_plugin.model.scoring import score_batches

        if file.chosen is not None and not len(file.chosen):
            return 0
        model = self.model
        rows = 0
        schema = schemas.scores_schema(self.config, schemas.user_type_of(pq.read_schema(file.behaviour)))
        batches = _batches(file.behaviour, model.features.columns, file.chosen)
        with (
            appearing(file.target) as aside,
            pq.ParquetWriter(aside, schema, compression="zstd") as writer,
            read_ahead(score_batches(model, batches), _DEPTH) as scores,
        ):
            for batch in scores:
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows

    @property
    def model(self) -> UserEncoder:
        """The artifact, on the GPU where there is one.

        Raises:
            ArtifactError: See `__call__`.
        """
        model = _loaded(self.artifact, self.version)
        predicted, asked = [target.task for target in model.targets], list(self.config.tasks)
        if predicted != asked:
            raise ArtifactError(
                f"the artifact predicts {[task.window_name for task in predicted]}, "
                f"the configuration asks for {[task.window_name for task in asked]}.",
                hint="run `segmenter finetune` with this configuration.",
            )
        return model


#: Scores files, each by a `Scorer`; gives the rows of each.
ScoreFiles = Callable[[Scorer, Sequence[ScoreFile]], list[int]]


def score_here(scorer: Scorer, files: Sequence[ScoreFile]) -> list[int]:
    """One file after the other, with all of this machine's cores."""
    return [scorer(file) for file in files]


def score_on_spark(spark: SparkSession) -> ScoreFiles:
    """A Spark task for each file, on workers that reach the files and the artifact's folder."""
    from segmenter_plugin.spark.worker_tasks import run_on_workers

    return lambda scorer, files: run_on_workers(spark, scorer, files)


@lru_cache(maxsize=1)
def _loaded(artifact: Path, version: str) -> UserEncoder:
    """Spark keeps its Python processes from task to task, and with them this."""
    from segmenter_plugin.model.artifact import UserEncoder

    model = UserEncoder.from_pretrained(artifact).to()
    if model.model_version != version:
        raise ArtifactError(
            f"the artifact {str(artifact)!r} has model_version {model.model_version}; scoring began with {version}.",
            hint="it was trained anew in the meantime: run the same command again.",
        )
    return model


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

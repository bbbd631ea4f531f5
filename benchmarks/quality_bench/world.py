"""One set with one seed: the rows, and what the encoder says of them; everything is made once, when it is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quality_bench.encoders import Arrays, cross_fitted, score_cutoffs, seeded, train_whole
from quality_bench.rows import Rows, known, read_rows, refuse_leaks, targets_of, training_rows, truth
from quality_bench.sets import BenchSet
from quality_bench.variants import fold_of
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import fingerprint, require_manifest
from segmenter_plugin.data.targets import Target
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.stacking import EncoderOutput
from segmenter_plugin.quality.training_rows import TrainingRows
from segmenter_plugin.stages.layout import Layout

#: Grows when the same configuration would give other cells.
VERSION = 1
_MOST_LOGIT = 15.0


@dataclass(frozen=True)
class World:
    """A set and a seed."""

    bench: BenchSet
    seed: int

    @cached_property
    def config(self) -> Config:
        """The set's configuration with this seed."""
        return seeded(self.bench.config, self.seed)

    @cached_property
    def training(self) -> Rows:
        """Rows that methods are fitted on."""
        return read_rows(self.config, self.config.training_cutoffs)

    @cached_property
    def judged(self) -> Rows:
        """Rows of the scoring cutoffs."""
        return read_rows(self.config, self.bench.scoring)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """What is predicted."""
        return targets_of(self.config)

    @cached_property
    def made_from(self) -> str:
        """Changes with the tables, and with every key that a method reads."""
        layout = Layout.of(self.config)
        inputs = {
            f"{kind} {cutoff.isoformat()}": require_manifest(place(cutoff), "segmenter build")["fingerprint"]
            for cutoff in (*self.config.training_cutoffs, *self.bench.scoring)
            for kind, place in (("behaviour", layout.behaviour), ("labels", layout.labels))
        }
        sections = self.config.model_dump(mode="json", exclude={"events", "store", "segments", "contract"})
        return str(fingerprint("quality benchmark", inputs, sections | {"folds": self.bench.folds, "version": VERSION}))

    def examples(self, target: Target) -> TrainingRows:
        """What a baseline is fitted on."""
        return training_rows(self.config, self.training, target)

    def labels(self, target: Target) -> NDArray[Any]:
        """Truth of the judged rows."""
        return truth(self.judged, target)

    def activity(self, target: Target) -> FloatArray:
        """Aggregates of the judged rows."""
        return self.judged.activity[known(self.judged, target)]

    @cached_property
    def outputs(self) -> tuple[Arrays, Arrays]:
        """What the encoder says of the training rows (cross-fitted) and of the judged rows; kept in a file.

        Raises:
            LeakageError: The artifact has seen events after the first scoring cutoff.
        """
        place = self.config.root_path / "outputs" / f"{self.made_from[:16]}.npz"
        if place.is_file():
            with np.load(place, allow_pickle=False) as arrays:
                return (
                    {name[4:]: arrays[name] for name in arrays.files if name.startswith("oof ")},
                    {name[4:]: arrays[name] for name in arrays.files if name.startswith("new ")},
                )
        model = train_whole(self.config)
        refuse_leaks(self.config, self.bench.scoring, model.trained_through)
        judged = score_cutoffs(model, self.config, self.bench.scoring)
        training = cross_fitted(self.config, self.config.training_cutoffs, self.bench.folds)
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.stem}.{os.getpid()}.npz")
        named = {f"oof {name}": values for name, values in training.items()}
        np.savez(aside, **named, **{f"new {name}": values for name, values in judged.items()})  # type: ignore[arg-type]
        aside.replace(place)
        return training, judged

    def encoder_outputs(self, target: Target) -> tuple[EncoderOutput, EncoderOutput]:
        """`outputs` as a stack reads them, training rows and judged rows."""
        sides = zip(self.outputs, (self.training, self.judged), strict=True)
        found = [
            EncoderOutput(outputs[target.task.score_columns[0]].astype(np.float64), signals(outputs)).take(
                known(rows, target)
            )
            for outputs, rows in sides
        ]
        return found[0], found[1]

    def folds(self, target: Target) -> NDArray[np.intp]:
        """Fold of each training row."""
        return fold_of(self.training.users, self.bench.folds)[known(self.training, target)]


def signals(outputs: Arrays) -> FloatArray:
    """Everything that the encoder says, as numbers that trees split well: logits, logarithms, the embedding."""
    columns = []
    for name, values in sorted(outputs.items()):
        wide = values.reshape(len(values), -1).astype(np.float64)
        if name != Columns.embedding and name.endswith(("probability", "probabilities")):
            wide = np.log(np.clip(wide, np.exp(-_MOST_LOGIT), 1)) - np.log(np.clip(1 - wide, np.exp(-_MOST_LOGIT), 1))
        elif name != Columns.embedding:
            wide = np.log1p(np.maximum(wide, 0.0))
        columns.append(wide)
    return np.concatenate(columns, axis=1)

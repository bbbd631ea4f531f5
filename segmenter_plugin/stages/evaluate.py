"""Evaluate: the encoder beside the baselines at a later cutoff, each with its interval."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import Source, Split, learn_targets
from segmenter_plugin.data.partition import (
    current,
    fingerprint,
    is_current,
    new_plain_folder,
    read_batches,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import CutoffError, LeakageError, MissingStageError
from segmenter_plugin.quality.features import FloatArray, activity_matrix, activity_names
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.provenance import Provenance, read_provenance
from segmenter_plugin.stages.train import require_training

logger = logging.getLogger(__name__)

ENCODER = "encoder"
#: The baseline whose ranking is averaged with the encoder's.
PARTNER = "activity_lightgbm"
#: Of an encoder artifact: its tasks, among other things.
ARTIFACT_FILE = "config.json"
METRICS_FILE, TABLE_FILE, CURVES_FILE = "metrics.json", "table.md", "curves.png"
READ_ROWS = 65_536


def evaluate(config: Config, cutoff: datetime) -> dict[str, Any]:
    """Judge the scores of a cutoff by its labels, beside baselines fitted on the encoder's training rows.

    Writes ``evaluation/<cutoff>/`` with ``metrics.json``, ``table.md`` and ``curves.png``.

    Args:
        config: The configuration; its training cutoffs are what the baselines are fitted on.
        cutoff: Later than all label windows of the training cutoffs, its own windows over.

    Returns:
        ``tasks`` with every estimate and difference, ``tables`` as the command line draws them, the provenance of the
        scores, and whether the stage was ``skipped``.

    Raises:
        ConfigError: There are no tasks or no training cutoffs.
        MissingStageError: Behaviour, labels or scores are not there.
        LeakageError: Weights or baselines would have seen what they are judged on.
        CutoffError: The label windows of the cutoff are not over.
    """
    layout, folder = Layout.of(config), Layout.of(config).evaluation(cutoff)
    inputs = _require_inputs(config, layout, cutoff)
    provenance = read_provenance(layout.scores(cutoff))
    _refuse_leaks(config, cutoff, provenance)
    made_from = fingerprint("evaluate", inputs, _settings(config))
    if is_current(folder, made_from):
        logger.info("evaluate %s: nothing changed, skipped", cutoff.isoformat())
        return _read_result(folder) | {"path": str(folder), "skipped": True}
    rows = _read_rows(config, layout, cutoff, provenance)
    from segmenter_plugin.quality.plots import draw
    from segmenter_plugin.quality.table import to_markdown, to_tables

    results, curves, roc = _judge(config, rows)
    report = {
        "stage": "evaluate",
        "cutoff": cutoff.isoformat(),
        "model_version": provenance.model_version,
        "trained_through": provenance.trained_through.isoformat(),
        "training_rows": len(rows.training),
        "tasks": [result.as_dict() for result in results],
        "roc": roc,
        "tables": to_tables(results),
    }
    manifest = {"stage": "evaluate", "fingerprint": made_from, "cutoff": cutoff.isoformat()} | provenance.as_dict()
    with new_plain_folder(folder, layout.root, manifest) as staging:
        text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
        (staging / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
        (staging / TABLE_FILE).write_text(to_markdown(results), encoding="utf-8")
        if curves:
            draw(curves, staging / CURVES_FILE)
    return report | {"path": str(folder), "skipped": False}


def _read_result(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    return report


def _settings(config: Config) -> dict[str, Any]:
    from segmenter_plugin.quality.baselines import BASELINES
    from segmenter_plugin.quality.intervals import RESAMPLES
    from segmenter_plugin.quality.metrics import METRICS

    # The kinds are named whether there is such a task or not, so that evaluations which named all four stay valid.
    forms = {"binary", "value", "multiclass", "multilabel", *(task.form for task in config.tasks)}
    return {
        "tasks": [task.model_dump(mode="json") for task in config.tasks],
        "split": [config.training.validation_share, config.training.seed],
        "baselines": sorted(BASELINES),
        "metrics": {form: [metric.name for metric in METRICS[form]] for form in METRICS if form in forms},
        "resamples": RESAMPLES,
    }


def _require_inputs(config: Config, layout: Layout, cutoff: datetime) -> dict[str, Any]:
    """Fingerprints of everything that is read."""
    require_training(config)
    inputs = {}
    for time in (*config.training_cutoffs, cutoff):
        command = f"segmenter build --cutoff {time.isoformat()}"
        for kind, folder in (("behaviour", layout.behaviour(time)), ("labels", layout.labels(time))):
            inputs[f"{kind} {time.isoformat()}"] = require_manifest(folder, command)["fingerprint"]
    scored = require_manifest(layout.scores(cutoff), f"segmenter score --cutoff {cutoff.isoformat()}")
    return inputs | {"scores": scored["fingerprint"]}


def _refuse_leaks(config: Config, cutoff: datetime, provenance: Provenance) -> None:
    late = [time for time in config.training_cutoffs if config.labels_end(time) > cutoff]
    if late:
        raise LeakageError(
            f"label windows of the training cutoffs {[f'{time:%Y-%m-%d}' for time in late]} end after the evaluation "
            f"cutoff {cutoff.isoformat()}: the baselines would see what they are judged on.",
            hint="drop these from [training] cutoffs and train again, or evaluate at "
            f"{max(config.labels_end(time) for time in late).isoformat()} or later.",
        )
    if provenance.trained_through > cutoff:
        raise LeakageError(
            f"the scores at {cutoff.isoformat()} come from weights trained through "
            f"{provenance.trained_through.isoformat()}, which is later.",
            hint=f"evaluate at {provenance.trained_through.isoformat()} or later, or run `segmenter finetune` and "
            "`segmenter score` with earlier [training] cutoffs.",
        )


@dataclass(frozen=True)
class _Training:
    """Training rows of all cutoffs: aggregates (N, C), and the tables that hold labels and users."""

    activity: FloatArray
    labels: pa.Table
    validation: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.activity)


@dataclass(frozen=True)
class _Rows:
    targets: tuple[Target, ...]
    names: tuple[str, ...]
    training: _Training
    activity: FloatArray
    labels: pa.Table
    scores: pa.Table


def _read_rows(config: Config, layout: Layout, cutoff: datetime, provenance: Provenance) -> _Rows:
    split = Split(config.training.validation_share, config.training.seed)
    parts = [_read_labelled(config, layout, time) for time in config.training_cutoffs]
    labels = pa.concat_tables([part[1] for part in parts])
    users = labels.column(Columns.user_id).combine_chunks()
    validation = validation_users(users, split.share, split.seed)
    training = _Training(np.concatenate([part[0] for part in parts]), labels, validation)
    targets = _targets(config, layout, provenance, split)
    activity, judged = _read_labelled(config, layout, cutoff)
    _refuse_censored(config, judged, cutoff)
    columns = [Columns.user_id, *(name for task in config.tasks for name in task.score_columns)]
    scores, missing = _aligned(_read(layout.scores(cutoff), columns), judged.column(Columns.user_id))
    if missing:
        raise MissingStageError(
            f"{missing} of {judged.num_rows} users of the cutoff {cutoff.isoformat()} have no scores.",
            hint=f"run `segmenter score --cutoff {cutoff.isoformat()}` again.",
        )
    logger.info("evaluate %s: %d training rows, %d judged rows", cutoff.isoformat(), len(training), judged.num_rows)
    return _Rows(targets, activity_names(config), training, activity, judged, scores)


def _targets(config: Config, layout: Layout, provenance: Provenance, split: Split) -> tuple[Target, ...]:
    """The tasks, with their classes in the order of the scores: from the artifact where it is the one that scored."""
    artifact = read_manifest(layout.encoder)
    if artifact is not None and artifact.get("model_version") == provenance.model_version:
        trees = json.loads((current(layout.encoder) / ARTIFACT_FILE).read_text(encoding="utf-8"))["tasks"]
        targets = tuple(Target.from_json(tree) for tree in trees)
        if tuple(target.task for target in targets) == config.tasks:
            return targets
    # Scored by an artifact from elsewhere: trained on the same labels, it has learnt the same classes.
    sources = [Source(time, layout.behaviour(time), layout.labels(time)) for time in config.training_cutoffs]
    return learn_targets(sources, config.tasks, split)


def _read_labelled(config: Config, layout: Layout, cutoff: datetime) -> tuple[FloatArray, pa.Table]:
    """Aggregates of a cutoff, and its labels in the same row order; a row without a label has nulls."""
    behaviour = _read(layout.behaviour(cutoff), [Columns.user_id, *activity_names(config)])
    labels = _read(layout.labels(cutoff), [Columns.user_id, *(task.label_column for task in config.tasks)])
    matrix, _ = activity_matrix(behaviour, config)
    return matrix, _aligned(labels, behaviour.column(Columns.user_id))[0]


def _read(folder: Path, columns: Sequence[str]) -> pa.Table:
    batches = list(read_batches(folder, columns, READ_ROWS))
    if not sum(batch.num_rows for batch in batches):
        raise CutoffError(
            f"{str(folder)!r} holds no rows.", hint="choose a cutoff that the events cover and build it again."
        )
    return pa.Table.from_batches(batches)


def _aligned(table: pa.Table, users: pa.ChunkedArray) -> tuple[pa.Table, int]:
    """The table's rows in the order of `users`, null where it lacks one; and how many it lacks."""
    known = table.column(Columns.user_id).combine_chunks()
    places = pc.index_in(users.cast(known.type), value_set=known).combine_chunks()
    taken = table.drop_columns([Columns.user_id]).take(places)
    return taken.add_column(0, Columns.user_id, users), places.null_count


def _refuse_censored(config: Config, labels: pa.Table, cutoff: datetime) -> None:
    for task in config.tasks:
        missing = labels.column(task.label_column).null_count
        if missing:
            end = task.window(cutoff)[1]
            raise CutoffError(
                f"{task.label_column} is censored for {missing} of {labels.num_rows} users: the prediction window of "
                f"{cutoff.isoformat()} ends {end.isoformat()}, after the last event.",
                hint=f"evaluate once the events are complete through {end.isoformat()} and built again, or at an "
                "earlier cutoff. A quiet end of the data can be declared with [events] complete_through.",
            )


def _judge(config: Config, rows: _Rows) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Results by task, curves to draw, and the points of the ROC curves by task and method."""
    from segmenter_plugin.quality.comparison import compare
    from segmenter_plugin.quality.intervals import user_codes
    from segmenter_plugin.quality.plots import roc_points
    from segmenter_plugin.quality.truth import label_array

    users = user_codes(rows.labels.column(Columns.user_id))
    results, curves, roc = [], [], {}
    for target in rows.targets:
        task = target.task
        truth = label_array(rows.labels.column(task.label_column), target)
        predictions = _predict(config, rows, target)
        seed, classes = config.training.seed, target.classes
        results.append(compare(task, truth, predictions, users, seed, subject=ENCODER, classes=classes))
        rankings = {name: prediction.values for name, prediction in predictions.items()}
        drawn = _curves(target, truth, rankings)
        curves += drawn
        if task.kind == "binary":
            roc[task.window_name] = roc_points(drawn[0])
    return results, curves, roc


def _predict(config: Config, rows: _Rows, target: Target) -> dict[str, Any]:
    """What each method says on the judged rows."""
    from segmenter_plugin.quality.baselines import BASELINES, Prediction, fit_baseline, rank_mean
    from segmenter_plugin.quality.training_rows import TrainingRows
    from segmenter_plugin.quality.truth import encoder_predictions, label_array

    column = rows.training.labels.column(target.task.label_column)
    known = pc.is_valid(column).to_numpy()
    examples = TrainingRows(
        activity=rows.training.activity[known],
        names=rows.names,
        labels=label_array(column.drop_null(), target),
        validation=rows.training.validation[known],
        class_count=max(1, len(target.classes)),
    )
    predictions = {}
    for name in BASELINES:
        predict = fit_baseline(name, examples, target.task, config.training.seed)
        predictions[name] = Prediction(predict(rows.activity))
        logger.info("%s: %s fitted on %d rows", target.task.window_name, name, len(examples.activity))
    predictions[ENCODER] = Prediction(encoder_predictions(rows.scores, target))
    if not target.classes:
        both = [predictions[ENCODER].values, predictions[PARTNER].values]
        predictions[f"{ENCODER} + {PARTNER}"] = rank_mean(both)
    return predictions


def _curves(target: Target, truth: NDArray[Any], rankings: Mapping[str, FloatArray]) -> list[Any]:
    from segmenter_plugin.quality.plots import gain_curve, roc_curve

    name = target.task.window_name
    if target.task.kind == "binary":
        return [roc_curve(name, truth, rankings), gain_curve(name, truth, rankings, "positives")]
    return [gain_curve(name, truth, rankings, "money")] if target.task.kind == "value" else []

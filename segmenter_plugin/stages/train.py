"""Stages `pretrain` and `finetune`: from the training cutoffs' tables to an artifact.

Both may be run by several processes at once, as torchrun starts them: each reads all tables and trains on its share of
every batch; the first one writes.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmenter_plugin import schemas
from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import (
    Source,
    Split,
    learn_features,
    learn_targets,
    load_examples,
    uncensored_windows,
)
from segmenter_plugin.data.features import FeaturesFit
from segmenter_plugin.data.partition import (
    fingerprint,
    is_current,
    new_partition,
    new_plain_folder,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.data.targets import TargetSettings
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.training_record import training_record

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.model.training import Outcome

logger = logging.getLogger(__name__)


def pretrain(config: Config) -> dict[str, Any]:
    """Train an encoder on the training cutoffs' sequences, without labels.

    Args:
        config: Reads `[training]`, `[sequences]`, `[encoder]`, `[pretrain]` and what names the tables' columns.

    Returns:
        What was made: stage, artifact, skipped, model_version, trained_through, validation_loss, epochs.

    Raises:
        ConfigError: No training cutoffs, an unknown objective, or a backbone that cannot be built.
        MissingStageError: A training cutoff has not been built.
        TrainingError: No users on one side of the split, or the loss is not a number.
    """
    sources, inputs = _sources(config, with_labels=False)
    layout = Layout.of(config)
    made_from = _pretrain_fingerprint(config, inputs)
    if is_current(layout.pretrained, made_from):
        return _skipped("pretrain", layout.pretrained)
    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.model.pretraining import pretrain_encoder
    from segmenter_plugin.model.processes import join_processes

    join_processes()
    split = _split(config)
    columns = schemas.categorical_columns(config), schemas.numeric_columns(config), _aggregates(config)
    fit = FeaturesFit(*columns, config.encoder.hashed_columns)
    features = learn_features(
        sources,
        fit,
        split,
        min_count=config.encoder.min_count,
        max_vocabulary=config.encoder.max_vocabulary,
        length=config.sequences.length,
    )
    training, validation = load_examples(sources, features, (), split)
    logger.info("pretrain: %d training and %d validation examples", len(training), len(validation))
    folder = layout.training / f"pretrain-{made_from[:12]}"
    encoder, outcome = pretrain_encoder(features, training, validation, config, folder)
    model = UserEncoder(
        encoder,
        features,
        trained_through=max(source.cutoff for source in sources),
        metrics=_metrics("pretrain", outcome),
        data=training_record(config, sources, training, validation),
    )
    return _commit(
        model,
        outcome,
        layout.pretrained,
        config,
        manifest={"stage": "pretrain", "fingerprint": made_from},
        folder=folder,
    )


def finetune(config: Config, *, seed: int | None = None, output: Path | None = None) -> dict[str, Any]:
    """Train the pretrained encoder further, together with one head a task.

    Args:
        config: Reads `[[tasks]]`, `[training]`, `[finetune]` and `[encoder] dropout`.
        seed: Instead of `[training] seed`; the split of users stays as it is.
        output: Where the artifact goes, instead of the store's place.

    Returns:
        As `pretrain`.

    Raises:
        ConfigError: No training cutoffs, no tasks, or more frozen layers than the backbone has.
        MissingStageError: A training cutoff has not been built, or the encoder not pretrained.
        TrainingError: Labels that teach nothing, no users on one side of the split, or a loss that is not a number.
    """
    require_training(config)
    sources, inputs = _sources(config, with_labels=True)
    layout = Layout.of(config)
    pretrained = require_manifest(layout.pretrained, "segmenter pretrain")
    _warn_if_stale(config, pretrained)
    seed = config.training.seed if seed is None else seed
    made_from = _finetune_fingerprint(config, inputs | {"pretrained": pretrained["fingerprint"]}, seed)
    place = layout.encoder if output is None else Path(output)
    if is_current(place, made_from):
        return _skipped("finetune", place)
    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.model.finetuning import finetune_encoder
    from segmenter_plugin.model.processes import join_processes

    join_processes()
    split = _split(config)
    start = UserEncoder.from_pretrained(layout.pretrained)
    targets = learn_targets(sources, config.tasks, split, TargetSettings.of(config))
    training, validation = load_examples(sources, start.features, targets, split)
    logger.info("finetune: %d training and %d validation examples", len(training), len(validation))
    folder = layout.training / f"finetune-{made_from[:12]}"
    heads, outcome = finetune_encoder(
        start.encoder, targets, training, validation, config=config, folder=folder, seed=seed
    )
    ends = [target.task.window(cutoff)[1] for cutoff, target in uncensored_windows(sources, targets)]
    model = UserEncoder(
        start.encoder,
        start.features,
        trained_through=max([start.trained_through, *(source.cutoff for source in sources), *ends]),
        heads=heads,
        metrics=dict(start.metrics) | _metrics("finetune", outcome),
        data=training_record(config, sources, training, validation),
    )
    return _commit(
        model, outcome, place, config, manifest={"stage": "finetune", "fingerprint": made_from}, folder=folder
    )


def require_training(config: Config) -> None:
    """Refuse a configuration that says neither what to learn nor from when.

    Raises:
        ConfigError: `[training] cutoffs` or `[[tasks]]` is empty.
    """
    _require_cutoffs(config)
    if not config.tasks:
        raise ConfigError(
            "there is no [[tasks]] entry, so there is nothing to predict.",
            hint='add one with name = "purchase", kind = "binary", prediction_days = 14.',
        )


def _require_cutoffs(config: Config) -> None:
    if not config.training_cutoffs:
        raise ConfigError(
            "[training] cutoffs is empty, so there is nothing to train on.",
            hint='for example cutoffs = ["2017-09-01", "2017-10-01"]; the labels\' windows must be over in the events.',
        )


def _sources(config: Config, *, with_labels: bool) -> tuple[list[Source], dict[str, Any]]:
    """The training cutoffs' tables, and the fingerprints of those that are read."""
    _require_cutoffs(config)
    layout, sources, inputs = Layout.of(config), [], {}
    for cutoff in config.training_cutoffs:
        source = Source(cutoff, layout.behaviour(cutoff), layout.labels(cutoff))
        command = f"segmenter build --cutoff {cutoff:%Y-%m-%dT%H:%M:%S+00:00}"
        inputs[f"behaviour/{cutoff_key(cutoff)}"] = require_manifest(source.behaviour, command)["fingerprint"]
        if with_labels:
            inputs[f"labels/{cutoff_key(cutoff)}"] = require_manifest(source.labels, command)["fingerprint"]
        sources.append(source)
    return sources, inputs


def _pretrain_fingerprint(config: Config, inputs: Mapping[str, Any]) -> str:
    columns = [*schemas.categorical_columns(config), *schemas.numeric_columns(config), *_aggregates(config)]
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("encoder", "pretrain", "sequences")}
    split = {"validation_share": config.training.validation_share, "seed": config.training.seed}
    return fingerprint("pretrain", inputs, sections | {"columns": columns, "training": split})


def _finetune_fingerprint(config: Config, inputs: Mapping[str, Any], seed: int) -> str:
    return fingerprint(
        "finetune",
        inputs,
        {
            "tasks": [task.model_dump(mode="json") for task in config.tasks],
            "finetune": config.finetune.model_dump(mode="json"),
            "scores": config.scores.model_dump(mode="json"),
            "dropout": config.encoder.dropout,
            "split": {"validation_share": config.training.validation_share, "seed": config.training.seed},
            "seed": seed,
        },
    )


def _warn_if_stale(config: Config, pretrained: Mapping[str, Any]) -> None:
    _, inputs = _sources(config, with_labels=False)
    if _pretrain_fingerprint(config, inputs) != pretrained["fingerprint"]:
        logger.warning(
            "finetune: the pretrained encoder was made from other tables or another configuration; "
            "`segmenter pretrain` makes it anew"
        )


def _commit(
    model: UserEncoder, outcome: Outcome, place: Path, config: Config, *, manifest: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Write the artifact; of several processes the first does, and the others wait until it is there."""
    from segmenter_plugin.model.processes import is_first, wait_for_all

    manifest |= {
        "model_version": model.model_version,
        "trained_through": model.trained_through.isoformat(),
        "validation_loss": _loss(outcome),
        "epochs": outcome.epochs,
    }
    if is_first():
        _write(model, place, config, manifest)
        _keep_logs_alone(folder)
        logger.info(
            "%s: artifact %s, trained through %s", manifest["stage"], model.model_version, model.trained_through
        )
    wait_for_all()
    return _result(manifest, place, skipped=False)


def _write(model: UserEncoder, place: Path, config: Config, manifest: dict[str, Any]) -> None:
    in_store = place.is_relative_to(config.root_path)
    output = (
        new_partition(place, config.root_path, manifest)
        if in_store
        else new_plain_folder(place, place.parent, manifest)
    )
    with output as staging:
        model.save_pretrained(staging)


def _keep_logs_alone(folder: Path) -> None:
    """Drop checkpoints: the artifact holds what they led to."""
    for checkpoint in folder.rglob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for weights in folder.rglob("best.safetensors"):
        weights.with_name("outcome.json").unlink(missing_ok=True)
        weights.unlink()


def _skipped(stage: str, place: Path) -> dict[str, Any]:
    logger.info("%s: up to date, skipped", stage)
    return _result(read_manifest(place) or {}, place, skipped=True)


def _result(manifest: Mapping[str, Any], place: Path, *, skipped: bool) -> dict[str, Any]:
    keys = ("stage", "model_version", "trained_through", "validation_loss", "epochs")
    return {"artifact": str(place), "skipped": skipped} | {key: manifest.get(key) for key in keys}


def _metrics(stage: str, outcome: Outcome) -> dict[str, float | None]:
    return {f"{stage}_validation_loss": _loss(outcome), f"{stage}_epochs": outcome.epochs}


def _loss(outcome: Outcome) -> float | None:
    """JSON knows no infinity."""
    return outcome.validation_loss if math.isfinite(outcome.validation_loss) else None


def _split(config: Config) -> Split:
    return Split(config.training.validation_share, config.training.seed)


def _aggregates(config: Config) -> tuple[str, ...]:
    return tuple(field.name for field in schemas.activity_fields(config))

"""Stages in a row: training, the daily job, and history for rankers."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.errors import CutoffError

logger = logging.getLogger(__name__)


def train(config: Config) -> dict[str, Any]:
    """Build the training cutoffs, pretrain, finetune, and evaluate at `[training] evaluation_cutoff`.

    Returns:
        The result of each stage under its name; ``tables`` holds the evaluation's.

    Raises:
        ConfigError: `[training] cutoffs` or `[[tasks]]` is empty.
    """
    from segmenter_plugin.stages.build import build
    from segmenter_plugin.stages.train import finetune, pretrain, require_training

    require_training(config)
    judged_at = config.evaluation_cutoff
    result: dict[str, Any] = {}
    result["build"] = build(config, [*config.training_cutoffs, *([] if judged_at is None else [judged_at])])
    result["pretrain"] = pretrain(config)
    result["finetune"] = finetune(config)
    if judged_at is None:
        logger.warning("not evaluated: [training] evaluation_cutoff names no later cutoff")
    else:
        result |= judge(config, judged_at)
    return _with_tables(result)


def judge(config: Config, cutoff: datetime) -> dict[str, Any]:
    """Score a cutoff that is already built, and evaluate there."""
    from segmenter_plugin.stages.evaluate import evaluate
    from segmenter_plugin.stages.score import score

    return {"score": score(config, [cutoff]), "evaluate": evaluate(config, cutoff)}


def run(
    config: Config, cutoffs: Sequence[datetime], *, as_of: datetime | None = None, accept: str | None = None
) -> dict[str, Any]:
    """The daily job: build, score, segment, publish, gate, materialize.

    Args:
        config: With an encoder that `train` has made.
        cutoffs: As of when the rows are true.
        as_of: The present, for the gate: how old the rows may be.
        accept: Why rows that the gate stops go online all the same.

    Raises:
        GateError: The gate stopped a cutoff; nothing was materialised.
    """
    from segmenter_plugin.stages.build import build
    from segmenter_plugin.stages.gate import gate, require_passed
    from segmenter_plugin.stages.materialize import materialize

    result: dict[str, Any] = {"build": build(config, cutoffs)}
    result |= score_and_publish(config, cutoffs)
    result["gate"] = gate(config, cutoffs, as_of=as_of, accept=accept)
    require_passed(result["gate"])
    result["materialize"] = materialize(config, cutoffs)
    return _with_tables(result)


def score_and_publish(config: Config, cutoffs: Sequence[datetime]) -> dict[str, Any]:
    """Score, segment and publish cutoffs that are already built."""
    from segmenter_plugin.stages.publish import publish
    from segmenter_plugin.stages.score import score
    from segmenter_plugin.stages.segment import segment

    return {
        "score": score(config, cutoffs),
        "segment": segment(config, cutoffs),
        "publish": publish(config, cutoffs),
    }


def backfill(config: Config, cutoffs: Sequence[datetime]) -> dict[str, Any]:
    """Walk forward: publish each cutoff scored by weights that had seen nothing after it.

    The weights for a cutoff are trained on those of `[training] cutoffs` whose label windows were over by then, so
    neighbouring cutoffs share a model, and there are at most as many models as training cutoffs. Embeddings of
    different models are not comparable: each row carries its ``model_version``.

    Raises:
        ConfigError: `[training] cutoffs` or `[[tasks]]` is empty.
        CutoffError: For a cutoff, no training cutoff's label windows were over.
    """
    from segmenter_plugin.stages.build import build
    from segmenter_plugin.stages.train import finetune, pretrain, require_training

    require_training(config)
    groups = group_by_known_labels(config, cutoffs)
    result: dict[str, Any] = {"build": build(config, sorted({*config.training_cutoffs, *cutoffs})), "models": []}
    for training_cutoffs, scored in groups:
        walked = with_training_cutoffs(config, training_cutoffs)
        logger.info("weights trained through %s score %d cutoffs", walked.labels_end(training_cutoffs[-1]), len(scored))
        pretrain(walked)
        model = {"training_cutoffs": [str(cutoff) for cutoff in training_cutoffs], "finetune": finetune(walked)}
        result["models"].append(model | score_and_publish(walked, scored))
    return result


def group_by_known_labels(
    config: Config, cutoffs: Sequence[datetime]
) -> list[tuple[tuple[datetime, ...], list[datetime]]]:
    """Cutoffs grouped by the training cutoffs whose label windows were over by then.

    Raises:
        CutoffError: For a cutoff there is none.
    """
    groups: dict[tuple[datetime, ...], list[datetime]] = {}
    for cutoff in sorted(set(cutoffs)):
        known = tuple(training for training in config.training_cutoffs if config.labels_end(training) <= cutoff)
        if not known:
            first = min(config.labels_end(training) for training in config.training_cutoffs)
            raise CutoffError(
                f"nothing can be scored as of {cutoff:%Y-%m-%d %H:%M} UTC: no training cutoff's labels were known yet.",
                hint=f"start at {first:%Y-%m-%d} or later, or add earlier cutoffs to [training].",
            )
        groups.setdefault(known, []).append(cutoff)
    return list(groups.items())


def with_training_cutoffs(config: Config, cutoffs: tuple[datetime, ...]) -> Config:
    """The same configuration, trained on fewer cutoffs, its weights in a folder of their own."""
    digest = hashlib.sha256("".join(map(cutoff_key, cutoffs)).encode()).hexdigest()[:12]
    texts = tuple(cutoff.isoformat() for cutoff in cutoffs)
    training = config.training.model_copy(update={"cutoffs": texts, "evaluation_cutoff": None})
    store = config.store.model_copy(update={"artifacts": f"{config.store.artifacts}/walk_forward/{digest}"})
    return config.model_copy(update={"training": training, "store": store})


def cutoffs_between(first: datetime, last: datetime, every: str) -> list[datetime]:
    """Cutoffs from first to last, both included where a step meets them.

    Args:
        first: In UTC.
        last: In UTC.
        every: Step in days, for example ``7d``.

    Raises:
        CutoffError: The step is not of that form, or last is before first.
    """
    match = re.fullmatch(r"([1-9]\d*)d", every.strip())
    if match is None:
        raise CutoffError(f"--every {every!r} is not a number of days.", hint="write it as 7d.")
    if last < first:
        raise CutoffError(f"--to {last} is before --from {first}.", hint="swap them.")
    step = timedelta(days=int(match[1]))
    return [first + step * index for index in range((last - first) // step + 1)]


def _with_tables(result: dict[str, Any]) -> dict[str, Any]:
    """Lift the stages' tables to the top, where the command line draws them."""
    tables: dict[str, Any] = {}
    for stage in result.values():
        tables |= stage.pop("tables", {}) if isinstance(stage, dict) else {}
    return result | {"tables": tables} if tables else result

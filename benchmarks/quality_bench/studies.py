"""Studies beside the tables: few labels, stale rows, the form of the value head, and checks of the benchmark itself.

Each gives rows of a table for one set and seed, kept as JSON like a cell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality_bench.encoders import Arrays, score_cutoffs, seeded, train_whole
from quality_bench.rows import known, refuse_leaks, truth
from quality_bench.sets import BenchSet
from quality_bench.variants import lend_pretrained, variant, with_label_share, with_shuffled_labels
from quality_bench.world import World
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import LeakageError
from segmenter_plugin.quality.boosted import fit_activity_lightgbm
from segmenter_plugin.quality.leakage import refuse_telling_columns
from segmenter_plugin.quality.metrics import METRICS, auroc
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.train import pretrain

Rows = list[dict[str, Any]]

LABEL_SHARE = 0.1
AGES_DAYS = (0, 1, 3, 7, 14)
OBJECTIVES = ("masked_event", "next_days")
VALUE_LOSSES = ("ziln", "mse", "log_mse")


def few_labels(world: World) -> Rows:
    """A tenth of the labels, with and without pretraining on everybody's behaviour."""
    rows: Rows = []
    for name, epochs in (("pretrained", world.config.pretrain.epochs), ("drawn", 0.0)):
        config = _with(seeded(world.bench.config, world.seed, name), "pretrain", epochs=epochs)
        pretrain(config)
        few = variant(config, f"labels-{LABEL_SHARE:g}", with_label_share(LABEL_SHARE))
        lend_pretrained(config, few)
        rows += _judged(world, few, {"start": name, "labels": LABEL_SHARE})
    return rows


def value_losses(world: World) -> Rows:
    """ZILN beside squared errors on raw and on log spend, the rest being equal."""
    rows: Rows = []
    for loss in VALUE_LOSSES:
        config = _with(seeded(world.bench.config, world.seed, f"value-{loss}"), "finetune", value_loss=loss)
        rows += [row for row in _judged(world, config, {"value_loss": loss}) if row["kind"] == "value"]
    return rows


def staleness(world: World) -> Rows:
    """Labels of a day, predicted by rows that are 0 to 14 days old, after each kind of pretraining."""
    rows: Rows = []
    for objective in OBJECTIVES:
        named = seeded(world.bench.config, world.seed, f"stale-{objective}")
        config = _with(named, "pretrain", objectives={objective: 1.0})
        model = train_whole(config)
        scoring = tuple(world.bench.scoring[-1] - timedelta(days=age) for age in AGES_DAYS)
        refuse_leaks(config, scoring, model.trained_through)
        build(config, scoring)
        for age, cutoff in zip(AGES_DAYS, scoring, strict=True):
            scores = score_cutoffs(model, config, [cutoff])
            rows += _aged(world, config, scores, {"objective": objective, "age_days": age, "cutoff": cutoff})
    return rows


def shuffled_labels(world: World) -> Rows:
    """Labels handed to other users: nothing may be gained from behaviour."""
    rows: Rows = []
    changed = variant(world.config, f"shuffled-{world.seed}", with_shuffled_labels(world.seed))
    lend = seeded(world.bench.config, world.seed)
    pretrain(lend)
    lend_pretrained(lend, changed)
    rows += _judged(world, changed, {"method": "encoder"})
    for target in _binary(world):
        examples = world.examples(target)
        order = np.random.default_rng(world.seed).permutation(len(examples.labels))
        fitted = fit_activity_lightgbm(replace(examples, labels=examples.labels[order]), target.task, world.seed)
        value = float(auroc(world.labels(target), fitted(world.activity(target))))
        rows.append({"method": "activity_lightgbm", "task": target.task.window_name, "auroc": round(value, 4)})
    return [row for row in rows if "auroc" in row]


def planted_leak(world: World) -> Rows:
    """A column that holds the outcome, and weights that have seen the judged time: both must be refused."""
    rows: Rows = []
    for target in _binary(world):
        examples = world.examples(target)
        future = examples.labels + np.random.default_rng(world.seed).normal(0, 0.1, len(examples.labels))
        planted = np.column_stack([examples.activity, future])
        checks: dict[str, Callable[[], None]] = {
            "none": lambda e=examples: refuse_telling_columns(e.activity, e.names, e.labels),  # type: ignore[misc]
            "outcome as a column": lambda e=examples, p=planted: refuse_telling_columns(  # type: ignore[misc]
                p, (*e.names, "planted"), e.labels
            ),
            "weights trained beyond the cutoff": lambda: refuse_leaks(
                world.config, world.bench.scoring, world.bench.scoring[0] + timedelta(days=1)
            ),
        }
        for what, check in checks.items():
            rows.append({"task": target.task.window_name, "planted": what, "caught": _caught(check)})
    return rows


STUDIES: dict[str, Callable[[World], Rows]] = {
    "few_labels": few_labels,
    "value_losses": value_losses,
    "staleness": staleness,
    "shuffled_labels": shuffled_labels,
    "planted_leak": planted_leak,
}


def kept(folder: Path, bench: BenchSet, name: str, seed: int) -> Rows:
    """The rows of a study, from its file or made now."""
    world = World(bench, seed)
    place = folder / bench.name / f"{name}-{seed}.json"
    if place.is_file():
        tree = json.loads(place.read_text(encoding="utf-8"))
        if tree["made_from"] == world.made_from:
            return list(tree["rows"])
    rows = [{"set": bench.name, "seed": seed} | row for row in STUDIES[name](world)]
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    aside.write_text(json.dumps({"made_from": world.made_from, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    aside.replace(place)
    return rows


def _with(config: Config, section: str, **update: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=update)})


def _binary(world: World) -> list[Target]:
    return [target for target in world.targets if target.task.kind == "binary"]


def _caught(check: Callable[[], None]) -> bool:
    try:
        check()
    except LeakageError:
        return True
    return False


def _judged(world: World, config: Config, about: dict[str, Any]) -> Rows:
    """The encoder of a configuration, fine-tuned and judged; its pretraining is skipped where it is there."""
    model = train_whole(config) if not Layout.of(config).pretrained.is_dir() else _finetuned(config)
    refuse_leaks(config, world.bench.scoring, model.trained_through)
    scores = score_cutoffs(model, world.config, world.bench.scoring)
    rows: Rows = []
    for target in model.targets:
        if target.classes:
            continue
        valid = known(world.judged, target)
        values = scores[target.task.score_columns[0]].astype(np.float64)[valid]
        rows.append(about | _estimates(target, truth(world.judged, target), values))
    return rows


def _finetuned(config: Config) -> Any:
    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.stages.train import finetune

    finetune(config)
    return UserEncoder.from_pretrained(Layout.of(config).encoder)


def _aged(world: World, config: Config, scores: Arrays, about: dict[str, Any]) -> Rows:
    """Estimates on the users of the last scoring cutoff that were there when the rows were made."""
    cutoff = about.pop("cutoff")
    last = world.judged.cutoffs == len(world.bench.scoring) - 1
    ids = pa.chunked_array(
        [batch.column(0) for batch in read_batches(Layout.of(config).behaviour(cutoff), [Columns.user_id])]
    )
    places = pc.index_in(world.judged.users, value_set=ids.combine_chunks())
    there = np.asarray(pc.is_valid(places)) & last
    rows: Rows = []
    for target in _binary(world):
        valid = known(world.judged, target)
        chosen = np.asarray(pc.fill_null(places, 0))[valid & there]
        labels = truth(world.judged, target)[there[valid]]
        rows.append(about | _estimates(target, labels, scores[target.task.score_columns[0]].astype(float)[chosen]))
    return rows


def _estimates(target: Target, labels: Any, values: Any) -> dict[str, Any]:
    kind = target.task.kind
    found = {
        metric.name: round(float(metric.function(labels, values, None)), 4)
        for metric in METRICS[kind]
        if not metric.is_detail
    }
    return {"task": target.task.window_name, "kind": kind} | found

"""Every method of the comparison: from a world and a target to predictions on the judged rows."""

from __future__ import annotations

from collections.abc import Callable

from quality_bench.bgnbd import predict_task as predict_by_bgnbd
from quality_bench.cells import Found
from quality_bench.coles import predict_task as predict_by_coles
from quality_bench.gru import predict_task as predict_by_gru
from quality_bench.world import World
from segmenter_plugin.data.targets import Target
from segmenter_plugin.quality.stacking import MEMBERS, fit_stack
from segmenter_plugin.quality.tuning import CANDIDATES, choose

#: None where the method cannot predict such a task.
Method = Callable[[World, Target], Found | None]

SERVED, ENCODER, AGGREGATES, COLES = "served", "encoder", "activity_lightgbm", "coles_lightgbm"


def _tuned(name: str) -> Method:
    def method(world: World, target: Target) -> Found:
        rows = world.examples(target)
        setting, fit = choose(CANDIDATES[name], rows, target.task, world.seed)
        return Found(fit(rows, target.task, world.seed)(world.activity(target)), {"setting": setting})

    return method


def _encoder(world: World, target: Target) -> Found:
    return Found(world.encoder_outputs(target)[1].predicted, {})


def _served(world: World, target: Target) -> Found:
    rows = world.examples(target)
    setting, fit = choose(CANDIDATES[AGGREGATES], rows, target.task, world.seed)
    seen, new = world.encoder_outputs(target)
    stack = fit_stack(rows, seen, world.folds(target), target.task, world.seed, fit=fit)
    weights = {name: round(float(weight), 3) for name, weight in zip(MEMBERS, stack.blend.weights, strict=True)}
    return Found(stack(world.activity(target), new), {"setting": setting, "weights": weights})


METHODS: dict[str, Method] = {
    "rfm_logistic": _tuned("rfm_logistic"),
    "rfm_tiers": _tuned("rfm_tiers"),
    "bgnbd": predict_by_bgnbd,
    AGGREGATES: _tuned(AGGREGATES),
    COLES: predict_by_coles,
    "gru": predict_by_gru,
    ENCODER: _encoder,
    SERVED: _served,
}

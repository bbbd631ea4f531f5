"""BG/NBD + Gamma-Gamma as a method: what a team does with purchase dates and amounts alone."""

from __future__ import annotations

import numpy as np

from quality_bench.cells import Found
from quality_bench.purchase_process import (
    BgNbd,
    FloatArray,
    GammaGamma,
    fit_bgnbd,
    fit_gamma_gamma,
)
from quality_bench.rows import known
from quality_bench.world import World
from segmenter_plugin.columns import PURCHASE
from segmenter_plugin.data.targets import Target
from segmenter_plugin.quality.deviance import deviance
from segmenter_plugin.tasks import TaskConfig

#: As many trials as every baseline gets.
PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


class _History:
    """Purchases of N users as the aggregates hold them, in days."""

    def __init__(self, activity: FloatArray, names: tuple[str, ...]) -> None:
        def column(name: str) -> FloatArray:
            return activity[:, names.index(name)]

        orders = column([name for name in names if name.startswith("order_count_")][-1])
        self.bought = orders > 0
        self.x = np.maximum(orders - 1, 0.0)
        self.observed = np.nan_to_num(column("tenure_days"))
        # tenure is since the first event of any kind; a last purchase cannot lie before it.
        self.t_x = np.where(
            self.x > 0, np.maximum(self.observed - np.nan_to_num(column("purchase_recency_days")), 0), 0
        )
        mean = column("order_amount_mean") if "order_amount_mean" in names else np.full(len(activity), np.nan)
        self.amount = np.nan_to_num(mean)
        self.orders = orders


def predict_task(world: World, target: Target) -> Found | None:
    """Probability of a purchase, or expected spend; None for other tasks, or where there are no orders."""
    task, rows = target.task, world.examples(target)
    is_spend = task.kind == "value" and "order_amount_mean" in rows.names
    if not (is_spend or (task.kind == "binary" and task.event_type == PURCHASE)):
        return None
    history = _History(rows.activity, rows.names)
    later = _History(world.activity(target), rows.names)
    # The model has one history a customer: the latest one; the others are its beginnings.
    cutoffs = world.training.cutoffs[known(world.training, target)]
    latest = cutoffs == cutoffs.max()
    losses = {}
    for penalty in PENALTIES:
        predicted = _predict(history, latest & ~rows.validation, history, task, (rows.labels, penalty))
        losses[penalty] = deviance(rows.labels[rows.validation], predicted[rows.validation], task.kind)
    best = min(losses, key=lambda penalty: losses[penalty])
    predicted = _predict(history, latest, later, task, (rows.labels, best))
    return Found(predicted, {"setting": f"penalty = {best:g}"})


def _predict(
    history: _History, learn: FloatArray, later: _History, task: TaskConfig, settings: tuple[FloatArray, float]
) -> FloatArray:
    labels, penalty = settings
    fitted = learn & history.bought
    process: BgNbd = fit_bgnbd(history.x[fitted], history.t_x[fitted], history.observed[fitted], penalty)
    ahead = float(task.prediction_days)
    if task.kind == "binary":
        values = process.any_purchase(later.x, later.t_x, later.observed, ahead)
    else:
        paid = fitted & (history.amount > 0)
        money: GammaGamma = fit_gamma_gamma(history.orders[paid], history.amount[paid], penalty)
        orders = process.expected_purchases(later.x, later.t_x, later.observed, ahead)
        values = orders * money.expected_amount(later.orders, later.amount)
    strangers = learn & ~history.bought
    rate = float(labels[strangers if strangers.any() else learn].mean())
    return np.where(later.bought, values, rate)

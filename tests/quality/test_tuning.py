"""Tuning: the validation users decide, every baseline has as many trials, and nothing is fitted on who decides."""

import numpy as np
import pytest

from segmenter_plugin.quality.baselines import BASELINES
from segmenter_plugin.quality.tuning import CANDIDATES, TRIALS, choose


def test_every_baseline_has_the_same_number_of_trials():
    assert set(CANDIDATES) == set(BASELINES)
    assert {len(settings) for settings in CANDIDATES.values()} == {TRIALS}


def test_the_candidate_that_fits_the_validation_users_wins(training_rows, tasks):
    rows = training_rows("binary")

    def constant(value):
        return lambda *_: lambda activity: np.full(len(activity), value)

    rate = float(rows.labels[rows.validation].mean())
    candidates = {"far": constant(0.9), "right": constant(rate), "other": constant(0.1)}
    name, fit = choose(candidates, rows, tasks["binary"], 5)
    assert name == "right"
    assert fit is candidates["right"]


def test_the_validation_users_are_not_fitted_on(training_rows, tasks):
    rows = training_rows("binary", count=300)
    sizes = []

    def fit(part, task, seed):
        sizes.append((len(part.labels), int(part.validation.sum())))
        return lambda activity: np.full(len(activity), 0.5)

    choose({"one": fit, "two": fit}, rows, tasks["binary"], 5)
    assert sizes == [(int((~rows.validation).sum()), 0)] * 2


@pytest.mark.parametrize("kind", ["binary", "value"])
def test_tiers_that_are_too_few_lose(kind, training_rows, tasks):
    candidates = {name: CANDIDATES["rfm_tiers"][name] for name in ("3 tiers", "20 tiers")}
    assert choose(candidates, training_rows(kind, count=4000), tasks[kind], 5)[0] == "20 tiers"

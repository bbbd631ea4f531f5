"""Measurements held against limits, the verdict of all, and a day's snapshot beside the one before."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from segmenter_plugin.gating import DEFAULTS, GatesConfig, Limits
from segmenter_plugin.quality.gate import ABOUT, Check, GateReport, Measurement
from segmenter_plugin.quality.snapshots import Snapshot, compared, metric_drop, moved_users, own_measurements

CONFIG = GatesConfig(permutations=50)


def snapshot(count=400, seed=0):
    random = np.random.default_rng(seed)
    embedding = random.normal(size=(count, 4))
    return Snapshot(
        users=pa.array([f"user-{place}" for place in range(count)]),
        embedding=embedding,
        scores={"purchase_14d_probability": 1 / (1 + np.exp(-embedding[:, 0]))},
        segments=(embedding[:, 0] > 0).astype(np.int64),
        model_versions=frozenset({"one"}),
        score_nulls={"purchase_14d_probability": 0.0, "segment_id": 0.0},
        activity_nulls={"recency_days": 0.1},
    )


def held(before, now):
    return {one.check: Check.of(one, CONFIG) for one in compared(before, now, CONFIG)}


def test_every_check_has_limits_and_says_what_it_is():
    assert set(ABOUT) == set(DEFAULTS)
    assert all(CONFIG.limits(name) == limits for name, (_, limits) in DEFAULTS.items())


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.0, "ok"), (0.999, "ok"), (0.99, "warn"), (0.95, "warn"), (0.9, "stop"), (np.nan, "stop")]
)
def test_a_small_coverage_is_bad(value, verdict):
    assert Check.of(Measurement("coverage", value), CONFIG).verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.1, "ok"), (0.2, "warn"), (0.3, "stop"), (np.inf, "stop")])
def test_a_large_shift_is_bad_and_the_message_says_what_to_do(value, verdict):
    check = Check.of(Measurement("score_psi", value, "spend"), CONFIG)
    assert check.verdict == verdict
    assert (f"above {check.stop:g} it stops" in check.message) is (verdict == "stop")
    assert "(spend)" in check.message
    json.dumps(check.as_dict(), allow_nan=False)


def test_what_chance_explains_or_nobody_can_judge_holds_nothing_back():
    assert Check.of(Measurement("embedding_mmd", 0.5, counts=False), CONFIG).verdict == "ok"
    unknown = Check.of(Measurement("metric_drop", None, "no labels"), CONFIG)
    assert (unknown.verdict, unknown.message) == ("ok", "not judged: no labels")


def test_the_worst_check_decides_unless_a_person_accepts():
    checks = [Check.of(Measurement("score_psi", value), CONFIG) for value in (0.0, 0.2, 0.5)]
    assert [GateReport(checks[:count]).verdict for count in (0, 1, 2, 3)] == ["ok", "ok", "warn", "stop"]
    assert not GateReport(checks).passes
    assert GateReport(checks, accepted="agreed").passes
    assert GateReport(checks).stopped == checks[2:]


def test_limits_are_filled_up_and_must_be_in_order():
    assert GatesConfig.model_validate({"coverage": {"stop": 0.5}}).coverage == Limits(warn=0.999, stop=0.5)
    with pytest.raises(ValidationError, match="low values are bad"):
        GatesConfig.model_validate({"coverage": {"warn": 0.5}})
    with pytest.raises(ValidationError, match="high values are bad"):
        GatesConfig.model_validate({"score_psi": {"stop": 0.01}})
    with pytest.raises(ValidationError, match="extra"):
        GatesConfig.model_validate({"score_psy": {"stop": 0.01}})


def test_a_day_beside_itself_is_ok():
    assert {check.verdict for check in held(snapshot(), snapshot()).values()} == {"ok"}
    assert [Check.of(one, CONFIG).verdict for one in own_measurements(snapshot())] == ["ok", "ok"]


def test_strangers_under_the_users_names_stop():
    now = snapshot()
    checks = held(snapshot(), replace(now, embedding=now.embedding[::-1]))
    found = {name for name, check in checks.items() if check.verdict == "stop"}
    assert found == {"cosine_median", "cosine_p5", "unexplained_growth"}


def test_another_size_of_embedding_stops_and_too_few_users_judge_nothing():
    now = snapshot()
    wide = replace(now, embedding=np.hstack([now.embedding, now.embedding]))
    assert held(now, wide)["cosine_median"].verdict == "stop"
    assert moved_users(now, wide, 5, None) == []
    assert {check.verdict for check in held(snapshot(50), snapshot(50)).values()} == {"ok"}


def test_mixed_models_and_nulls_stop():
    now = replace(snapshot(), model_versions=frozenset({"one", "two"}), score_nulls={"a": 0.0, "b": 0.5})
    checks = [Check.of(one, CONFIG) for one in own_measurements(now)]
    assert [check.verdict for check in checks] == ["stop", "stop"]
    assert "(b)" in checks[0].message
    assert "(one, two)" in checks[1].message
    lost = replace(snapshot(), activity_nulls={"recency_days": 0.1, "spend": 0.0})
    checks = held(lost, replace(lost, activity_nulls={"recency_days": 0.1, "spend": 0.9}))
    assert checks["activity_nulls"].verdict == "stop"


def test_who_moved_is_told_with_what_changed():
    before, now = snapshot(), snapshot()
    embedding = now.embedding.copy()
    embedding[7] = -embedding[7]
    (first,) = moved_users(before, replace(now, embedding=embedding), 1, "purchase_14d_probability")
    assert first["user_id"] == "user-7"
    assert first["cosine"] < -0.9
    assert first["segment_before"] == first["segment_now"]
    assert "purchase_14d_probability_now" in first


def test_a_metric_drops_only_beyond_chance():
    random = np.random.default_rng(2)
    score = random.random(2000)
    truth = (random.random(2000) < score).astype(float)
    fell = metric_drop("purchase", "binary", [(truth, score), (truth, random.random(2000))])
    assert Check.of(fell, CONFIG).verdict == "stop"
    few = slice(0, 250)
    small = metric_drop("purchase", "binary", [(truth[few], score[few]), (truth[250:500], score[250:500] ** 3)])
    assert Check.of(small, CONFIG).verdict == "ok"
    assert metric_drop("purchase", "binary", [(truth[:20], score[:20])] * 2).value is None
    money = metric_drop("spend", "value", [(score * 9, score), (score * 9, -score)])
    assert money.value == pytest.approx(2.0)

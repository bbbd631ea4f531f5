"""The gate on published days: honest ones pass, each fault stops, and the verdict lies beside the rows."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import gate_world
import pyarrow as pa
import pytest
import yaml
from gate_world import DAY, cutoff_of, honest

from segmenter_plugin import cli
from segmenter_plugin.config import load_config, parse_config
from segmenter_plugin.errors import ConfigError, CutoffError, GateError, MissingStageError, UserError
from segmenter_plugin.stages.gate import gate, require_passed
from segmenter_plugin.stages.publish import publish

VIEWS = ("user_activity", "user_embedding_g1", "user_scores_g1", "user_segment_g1")
DAYS = 4
LAST = DAYS


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Honest days, published and judged."""
    config = gate_world.published_days(tmp_path_factory.mktemp("days"), DAYS)
    return config, gate(config, [cutoff_of(number) for number in range(DAYS)])


@pytest.fixture
def shop(days, tmp_path):
    """A copy of them, to be added to."""
    config, _ = days
    shutil.copytree(config.root_path, tmp_path / "shop")
    return load_config(tmp_path / "shop" / "segmenter.toml")


def judged(config, rows, expected=None, number=LAST, **options):
    """Publish a day and judge it: the report, and the checks by name."""
    gate_world.write_rows(config, number, rows, expected)
    publish(config, [cutoff_of(number)])
    result = gate(config, [cutoff_of(number)], **options)
    (report,) = result["cutoffs"]
    return report, {check["check"]: check for check in report["checks"]}


def stopped(checks):
    return {name for name, check in checks.items() if check["verdict"] == "stop"}


def verdict_of(config, number=LAST, view=VIEWS[1]):
    key = f"cutoff={cutoff_of(number):%Y%m%dT%H%M%SZ}"
    path = config.root_path / "features" / view / key / "_verdict.json"
    return json.loads(path.read_text())


def test_honest_days_pass_each_beside_the_one_before(days):
    config, result = days
    assert [entry["verdict"] for entry in result["cutoffs"]] == ["ok"] * DAYS
    compared = [entry["compared_with"] for entry in result["cutoffs"]]
    assert compared[:3] == [None, "cutoff=20171001T000000Z", "cutoff=20171002T000000Z"]
    assert {verdict_of(config, 2, view)["verdict"] for view in VIEWS} == {"ok"}
    require_passed(result)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (gate_world.permuted, {"cosine_median", "unexplained_growth"}),
        (gate_world.zeroed, {"dimension_spread"}),
        (lambda rows: gate_world.scored_by_another(rows, LAST), {"unexplained_growth"}),
        (lambda _: honest(LAST, weights=2, version="two"), {"cosine_median"}),
        (lambda rows: rows, set()),
    ],
    ids=["permuted", "zeroed", "other scores", "other model", "nothing"],
)
def test_each_fault_is_found_by_the_checks_that_are_meant_for_it(shop, fault, found):
    report, checks = judged(shop, fault(honest(LAST)))
    assert found <= stopped(checks)
    assert report["passes"] is not bool(found)


def test_the_dimension_that_collapsed_is_named(shop):
    _, checks = judged(shop, gate_world.zeroed(honest(LAST)))
    assert "dimension 5" in checks["dimension_spread"]["message"]
    assert "promote" not in checks["dimension_spread"]["message"]


def test_another_model_is_told_to_be_promoted(shop):
    _, checks = judged(shop, honest(LAST, weights=2, version="two"))
    assert "promote it to a generation of its own" in checks["cosine_median"]["message"]


def test_half_of_the_users_without_scores_are_missed_beside_their_behaviour(shop):
    rows = honest(LAST)
    _, checks = judged(shop, gate_world.halved(rows), expected=rows.users)
    assert {"coverage", "kept_users"} <= stopped(checks)
    assert checks["coverage"]["value"] == 0.5


def test_half_of_the_users_without_events_are_missed_beside_the_day_before(shop):
    _, checks = judged(shop, gate_world.halved(honest(LAST)))
    assert stopped(checks) == {"kept_users"}
    assert checks["coverage"]["value"] == 1.0


def test_a_week_old_cutoff_stops_and_its_age_is_judged_only_if_the_present_is_given(shop):
    _, checks = judged(shop, honest(LAST), as_of=cutoff_of(LAST) + 7 * DAY)
    assert stopped(checks) == {"age_days"}
    assert checks["age_days"]["value"] == 7.0
    fresh, _ = judged(shop, honest(LAST), as_of=cutoff_of(LAST) + timedelta(hours=26))
    assert fresh["verdict"] == "ok"
    _, checks = judged(shop, honest(LAST))
    assert checks["age_days"]["message"] == "not judged: no --as-of was given"
    with pytest.raises(CutoffError, match="is before the cutoff"):
        gate(shop, [cutoff_of(LAST)], as_of=cutoff_of(LAST) - DAY)


def test_the_day_after_a_stopped_one_is_held_against_what_readers_still_have(shop):
    judged(shop, gate_world.permuted(honest(LAST)))
    report, _ = judged(shop, honest(LAST + 1), number=LAST + 1)
    assert report["verdict"] == "ok"
    assert report["compared_with"] == f"cutoff={cutoff_of(LAST - 1):%Y%m%dT%H%M%SZ}"


def test_users_who_moved_are_named_and_an_accepted_day_is_the_next_one_s_measure(shop):
    rows = honest(LAST)
    few = rows.embedding.copy()
    few[[3, 7]] = few[[7, 3]]
    report, _ = judged(shop, replace(gate_world.zeroed(rows), embedding=few))
    assert report["verdict"] == "ok"
    assert {user["user_id"] for user in report["moved"][:4]} & {"user-00003", "user-00007"}
    other = honest(LAST, weights=2, version="two")
    report, _ = judged(shop, other, accept="the new model, agreed with ranking")
    assert (report["verdict"], report["passes"]) == ("stop", True)
    assert verdict_of(shop)["accepted"] == "the new model, agreed with ranking"
    report, _ = judged(shop, honest(LAST + 1, weights=2, version="two"), number=LAST + 1)
    assert report["verdict"] == "ok"


def test_a_metric_that_fell_is_told(shop):
    gate_world.write_rows(shop, 2, replace(honest(2), value=-honest(2).value))
    publish(shop, [cutoff_of(2)])
    gate_world.write_rows(shop, 2, honest(2))  # for its labels; what is published stays
    _, checks = judged(shop, honest(16), number=16)
    assert stopped(checks) == {"metric_drop"}
    assert "AUROC" in checks["metric_drop"]["message"] or "Spearman" in checks["metric_drop"]["message"]


def test_rows_published_again_need_a_verdict_of_their_own(shop):
    judged(shop, honest(LAST))
    assert verdict_of(shop)["fingerprint"]
    gate_world.write_rows(shop, LAST, gate_world.zeroed(honest(LAST)))
    publish(shop, [cutoff_of(LAST)])
    with pytest.raises(FileNotFoundError):
        verdict_of(shop)


def test_the_same_rows_give_the_same_bytes(shop):
    judged(shop, honest(LAST))
    before = json.dumps(verdict_of(shop))
    gate(shop, [cutoff_of(LAST)])
    assert json.dumps(verdict_of(shop)) == before


def test_a_sample_judges_as_all_do(shop):
    tree = shop.model_dump(mode="json", exclude_none=True, exclude={"gates"})
    config = parse_config(tree | {"gates": {"sample_users": 350, "permutations": 100}})
    report, _ = judged(config, gate_world.permuted(honest(LAST)))
    assert report["verdict"] == "stop"
    report, _ = judged(config, honest(LAST))
    assert report["passes"]


def test_mistakes_are_told(shop):
    with pytest.raises(MissingStageError, match="has not been published"):
        gate(shop, [cutoff_of(50)])
    with pytest.raises(UserError, match="no cutoff"):
        gate(shop, [])
    with pytest.raises(UserError, match="gives no reason"):
        gate(shop, [cutoff_of(1)], accept=" ")
    with pytest.raises(ConfigError, match="stop before it warns"):
        parse_config(shop.model_dump(mode="json", exclude_none=True) | {"gates": {"coverage": {"stop": 1.0}}})


def test_the_command_ends_with_3_and_names_users(shop, capsys):
    gate_world.write_rows(shop, LAST, gate_world.permuted(honest(LAST)))
    publish(shop, [cutoff_of(LAST)])
    command = ["gate", "--config", str(shop.root_path / "segmenter.toml"), "--cutoff", cutoff_of(LAST).isoformat()]
    with pytest.raises(SystemExit) as caught:
        cli.main(command)
    assert caught.value.code == 3
    printed = capsys.readouterr().out
    assert "cosine_median" in printed
    told = json.loads(printed.splitlines()[-1])
    assert told["error"] == "GateError"
    assert "user-0" in told["message"]
    cli.main([*command, "--accept", "a test"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["verdict"] == "accepted"


@pytest.fixture
def served(shop):
    """The shop's own repo, declared; the shipped yaml requires verdicts."""
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.sources import published_source
    from segmenter_plugin.store.views import views_from_config

    repo = Path(shop.store.feature_repo)
    shutil.copytree(
        Path(__file__).parents[2] / "feature_repo", repo, ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    assert yaml.safe_load((repo / "feature_store.yaml").read_text())["batch_engine"]["require_verdict"] is True
    store = open_store(repo)
    views = views_from_config(shop, source=lambda view: published_source(shop, view), user_type=pa.string())
    store.apply(views.objects(), partial=True)
    return store


def online(repo):
    with closing(sqlite3.connect(repo / "data" / "online.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall()) for name in names}  # noqa: S608


def test_feast_puts_a_judged_day_online_and_a_stopped_one_not(shop, served):
    repo, window = Path(shop.store.feature_repo), (cutoff_of(LAST - 1), cutoff_of(LAST - 1))
    served.materialize(*window)
    before = online(repo)
    assert any(before.values())
    judged(shop, gate_world.permuted(honest(LAST)))
    for view in VIEWS:
        with pytest.raises(GateError, match=r"was stopped by the gate: .*cosine_median.*moved furthest: user-"):
            served.materialize(cutoff_of(LAST), cutoff_of(LAST), feature_views=[view])
    assert online(repo) == before
    gate(shop, [cutoff_of(LAST)], accept="a test")
    served.materialize(cutoff_of(LAST), cutoff_of(LAST))
    assert online(repo) != before


def test_our_own_command_refuses_with_the_gate_s_error_before_it_runs_feast(shop, served, monkeypatch):
    from segmenter_plugin.stages.materialize import materialize
    from segmenter_plugin.store import repository

    monkeypatch.setattr(repository, "run_feast", lambda *_: pytest.fail("feast was run"))
    gate_world.write_rows(shop, LAST, honest(LAST))
    publish(shop, [cutoff_of(LAST)])
    with pytest.raises(GateError, match="has no verdict") as caught:
        materialize(shop, [cutoff_of(LAST)])
    assert "segmenter gate --cutoff 2017-10-05T00:00:00Z" in caught.value.hint


def test_one_view_published_anew_holds_back_the_others(shop, served):
    judged(shop, honest(LAST))
    gate_world.write_rows(shop, LAST, gate_world.zeroed(honest(LAST)))
    publish(shop, [cutoff_of(LAST)])
    with pytest.raises(GateError, match=r"user_activity/.* is not of the rows of user_"):
        served.materialize(cutoff_of(LAST), cutoff_of(LAST), feature_views=["user_activity"])


def test_the_spark_writer_refuses_before_spark_starts(shop, served, monkeypatch):
    from segmenter_plugin.stages.materialize_online import materialize_online
    from segmenter_plugin.store import executor

    monkeypatch.setattr(executor, "online_store", lambda _: None)
    gate_world.write_rows(shop, LAST, honest(LAST))
    publish(shop, [cutoff_of(LAST)])
    with pytest.raises(GateError, match="has no verdict"):
        materialize_online(shop, (cutoff_of(LAST), cutoff_of(LAST)))

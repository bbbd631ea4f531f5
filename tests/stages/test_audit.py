"""`segmenter audit` on a small shop: silent where it is honest, loud on each leak that is planted in what is stored."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import audit_world as world
import bucket_world
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from segmenter_plugin.cli import main, segmenter
from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.bucket_block import BucketBlock
from segmenter_plugin.data.event_block import microseconds
from segmenter_plugin.data.event_log import EventLog
from segmenter_plugin.data.partition import MANIFEST, current, data_files, read_manifest
from segmenter_plugin.errors import ArtifactError, GateError, MissingStageError
from segmenter_plugin.schemas import TIMESTAMP, behaviour_schema, labels_schema
from segmenter_plugin.stages.audit import audit, require_silence
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish

LATER, THROUGH, DAY = world.LATER, world.THROUGH, timedelta(days=1)
VIEWS = ("user_activity", "user_embedding_g1", "user_scores_g1", "user_segment_g1")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    config = world.audit_config(tmp_path_factory.mktemp("honest"))
    world.build_world(config)
    return config


@pytest.fixture
def config(honest, tmp_path):
    """The same shop, to be changed."""
    root = tmp_path / "root"
    shutil.copytree(honest.root_path, root)
    return world.audit_config(root)


@pytest.fixture
def layout(config):
    return Layout.of(config)


def leaks(result: dict[str, Any]) -> set[tuple[str, str]]:
    return {(leak["check"], leak["table"].split("/")[0]) for leak in result["leaks"]}


def leak(result: dict[str, Any], check: str) -> dict[str, Any]:
    return next(one for one in result["leaks"] if one["check"] == check)


def rows_of(config, cutoff, shown_as=None):
    """Behaviour and labels by bucket as of a cutoff, dated as of another one."""
    for number, paths in EventLog.read(config.root_path).parts():
        events = BucketBlock.of([pq.read_table(path) for path in paths.values()], config).resolved
        (made,) = tables_as_of(events, [cutoff], world.COMPLETE, config)
        schemas = behaviour_schema(config, pa.string()), labels_schema(config, pa.string())
        tables = [table.cast(schema) for table, schema in zip((made.behaviour, made.labels), schemas, strict=True)]
        stamp = pa.array([shown_as or cutoff] * len(made.behaviour), TIMESTAMP)
        yield number, [table.set_column(1, "event_timestamp", stamp).cast(table.schema) for table in tables]


def test_an_honest_shop_is_silent_and_all_of_it_is_looked_at(honest):
    result = audit(honest)
    assert (result["leaks"], result["notes"], result["not_compared"]) == ([], [], [])
    require_silence(result)
    checks = {line["check"]: line for line in result["checks"]}
    users = sum(read.num_rows for read in map(pq.read_metadata, data_files(Layout.of(honest).behaviour(LATER))))
    assert users > 60
    assert checks["published_as_made"] | {"leaks": 0} == checks["published_as_made"]
    assert checks["published_as_made"]["rows"] == 4 * users
    assert checks["behaviour_from_log"]["tables"] == checks["labels_from_log"]["tables"] == 3
    assert checks["behaviour_from_log"]["rows"] == checks["event_before_cutoff"]["rows"] > 2 * users
    assert checks["artifact_trained_through"]["tables"] == 2
    assert checks["evaluation_after_training"]["tables"] == 1
    assert checks["row_time"]["tables"] == 3 + 3 + 2 + len(VIEWS)
    report = json.loads((honest.root_path / "reports" / "audit.json").read_text())
    assert report == {name: value for name, value in result.items() if name not in ("report", "tables")}
    before = (honest.root_path / "reports" / "audit.json").read_bytes()
    audit(honest)
    assert (honest.root_path / "reports" / "audit.json").read_bytes() == before


def behaviour_file(layout):
    return data_files(layout.behaviour(LATER))[1]


def labels_file(layout):
    return data_files(layout.labels(LATER))[1]


def later_event(layout, config):
    def change(table):
        return world.set_value(table, "event_timestamp_sequence", 3, lambda times: [*times[:-1], LATER])

    world.rewrite(behaviour_file(layout), change)


def older_event(layout, config):
    def change(table):
        old = LATER - config.windows.observation_days * DAY - DAY
        return world.set_value(table, "event_timestamp_sequence", 3, lambda times: [old, *times[1:]])

    world.rewrite(behaviour_file(layout), change)


def counted_future(layout, config):
    """A count that the sequence does not tell: only the log knows."""
    world.rewrite(behaviour_file(layout), lambda table: world.set_value(table, "view_count_60d", 5, lambda n: n + 1))
    # No more views than events.
    world.rewrite(behaviour_file(layout), lambda table: world.set_value(table, "purchase_sum_60d", 5, 9999.0))


def negative_age(layout, config):
    world.rewrite(behaviour_file(layout), lambda table: world.set_value(table, "recency_days", 2, -0.5))


def other_item(layout, config):
    def change(table):
        return world.set_value(table, "item_id_sequence", 3, lambda items: [*items[:-1], "bought later"])

    world.rewrite(behaviour_file(layout), change)


def trend(layout, config):
    world.rewrite(behaviour_file(layout), lambda table: world.set_value(table, "category_trend_mean", 0, 0.77))


def derived_too_late(layout, config):
    """All of behaviour, derived a week after the cutoff and dated back."""
    plain = config.model_copy(update={"windows": config.windows.model_copy(update={"trend_columns": ()})})
    late = rows_of(plain, LATER + 7 * DAY, LATER)
    for path, (_, (behaviour, _)) in zip(data_files(layout.behaviour(LATER)), late, strict=True):
        nothing = pa.array([0.5] * len(behaviour))
        rows = behaviour.append_column("category_trend_mean", nothing)
        pq.write_table(rows.append_column("category_popularity_mean", nothing), path)


def labels_from_before(layout, config):
    plain = config.model_copy(update={"windows": config.windows.model_copy(update={"trend_columns": ()})})
    earlier = {number: tables[1] for number, tables in rows_of(plain, LATER - 14 * DAY, LATER)}
    for (number, table), path in zip(sorted(earlier.items()), data_files(layout.labels(LATER)), strict=True):
        assert path.name == f"part-{number:05d}.parquet"
        stored = pq.read_table(path)
        places = pc.index_in(stored["user_id"], value_set=table["user_id"].combine_chunks()).to_pylist()
        for row, place in enumerate(places):
            if place is not None:
                stored = world.set_value(stored, "purchase_14d_label", row, table["purchase_14d_label"][place].as_py())
        pq.write_table(stored, path)


def flipped_label(layout, config):
    world.rewrite(labels_file(layout), lambda rows: world.set_value(rows, "taste_14d_label", 4, ["MADE UP"]))


def label_of_another_time(layout, config):
    world.rewrite(labels_file(layout), lambda rows: world.set_value(rows, "event_timestamp", 0, LATER - DAY))


def user_of_the_future(layout, config):
    def change(rows):
        return world.set_value(rows, "user_id", 0, "seen later")

    world.rewrite(behaviour_file(layout), change)


def users_who_came_back(layout, config):
    """Users chosen by what they do later."""
    world.rewrite(labels_file(layout), lambda rows: rows.filter(pc.equal(rows["purchase_14d_label"], True)))


def a_file_too_many(layout, config):
    path = behaviour_file(layout)
    shutil.copy(path, path.with_name("part-00077.parquet"))


def artifact_file(layout, config):
    world.edit_json(current(layout.encoder) / "config.json", trained_through="2017-09-14T00:00:00+00:00")


def artifact(layout, config, through="2017-09-14T00:00:00+00:00"):
    artifact_file(layout, config)
    for place in (layout.encoder / MANIFEST, current(layout.encoder) / "config.json"):
        world.edit_json(place, trained_through=through)


def artifact_too_late(layout, config):
    artifact(layout, config, "2017-09-16T00:00:00+00:00")


def pretrained(layout, config):
    for place in (layout.pretrained / MANIFEST, current(layout.pretrained) / "config.json"):
        world.edit_json(place, trained_through="2017-08-01T00:00:00+00:00")


def evaluation_metrics(layout, config):
    world.edit_json(layout.evaluation(LATER) / "metrics.json", trained_through="2017-09-01T00:00:00+00:00")


def evaluation_of_later_weights(layout, config):
    """As if it had been let through: judged on 1 October by weights that know 5 October."""
    late = "2017-10-05T00:00:00+00:00"
    for place in (layout.evaluation(LATER) / MANIFEST, layout.evaluation(LATER) / "metrics.json"):
        world.edit_json(place, trained_through=late, model_version="another")


def evaluation_that_claims_less(layout, config):
    for place in (layout.evaluation(LATER) / MANIFEST, layout.evaluation(LATER) / "metrics.json"):
        world.edit_json(place, trained_through="2017-08-20T00:00:00+00:00")


def baselines_that_have_seen(layout, config):
    late = datetime(2017, 9, 25, tzinfo=UTC)
    world.build(config, EventLog.read(config.root_path), [late])
    place = layout.evaluation(LATER) / MANIFEST
    inputs = json.loads(place.read_text())["inputs"]
    made = read_manifest(layout.labels(late))["fingerprint"]
    world.edit_json(place, inputs=inputs | {f"labels {late.isoformat()}": made})


def scores_that_claim_less(layout, config):
    def change(rows):
        return world.set_value(rows, "trained_through", 7, THROUGH - DAY)

    world.rewrite(data_files(layout.scores(LATER))[0], change)


def published(layout, view):
    (path,) = data_files(layout.feature(view, LATER))
    return path


def created_too_early(layout, config):
    def change(rows):
        return world.set_value(rows, "created_timestamp", 2, LATER - DAY)

    world.rewrite(published(layout, "user_segment_g1"), change)


def never_created(layout, config):
    def change(rows):
        place = rows.schema.get_field_index("created_timestamp")
        rows = rows.set_column(place, rows.schema.field(place).with_nullable(True), rows["created_timestamp"])
        return world.set_value(rows, "created_timestamp", 2, None)

    world.rewrite(published(layout, "user_scores_g1"), change)


def published_for_another_time(layout, config):
    def change(rows):
        return world.set_value(rows, "event_timestamp", 2, LATER - DAY)

    world.rewrite(published(layout, "user_embedding_g1"), change)


def published_with_more(layout, config):
    def change(rows):
        return world.set_value(rows, "event_count_7d", 20, lambda count: count + 1)

    world.rewrite(published(layout, "user_activity"), change)


def published_twice(layout, config):
    world.rewrite(published(layout, "user_activity"), lambda rows: pa.concat_tables([rows, rows[:1]]))


def published_as_younger(layout, config):
    def change(rows):
        return world.set_value(rows, "trained_through", 1, THROUGH - 30 * DAY)

    world.rewrite(published(layout, "user_scores_g1"), change)


#: Leaks that do not touch each other, a group a shop: what is planted, and what must be found of it.
PLANTED = {
    "an event of the cutoff": {
        later_event: [("event_before_cutoff", "behaviour", "an event at or after the cutoff")],
        flipped_label: [("labels_from_log", "labels", "is not the label of its window")],
        created_too_early: [("created_after_event", "features", "published before")],
        artifact_file: [("artifact_trained_through", "artifacts", "different times")],
        evaluation_metrics: [("evaluation_after_training", "evaluation", "name different times")],
    },
    "an event too old": {
        older_event: [("event_in_observation", "behaviour", "before the observation window")],
        label_of_another_time: [("row_time", "labels", "not the cutoff")],
        never_created: [("created_after_event", "features", "at no time")],
        published_with_more: [("published_as_made", "features", "not the one that it was made from")],
        artifact: [("artifact_trained_through", "artifacts", "have seen later events")],
    },
    "labels from before": {
        labels_from_before: [("labels_from_log", "labels", "the label of the days before the cutoff")],
        counted_future: [("behaviour_from_log", "behaviour", "counts more than happened before the cutoff")],
        published_for_another_time: [("row_time", "features", "not the cutoff")],
        artifact_too_late: [("artifact_trained_through", "artifacts", "later than anything")],
        scores_that_claim_less: [("trained_through_of_rows", "scores", "another trained_through")],
    },
    "users chosen by what came of them": {
        users_who_came_back: [("users_from_log", "labels", "has no row")],
        negative_age: [("recency", "behaviour", "ages")],
        published_twice: [("one_row_a_user", "features", "more than one row")],
        pretrained: [("artifact_trained_through", "artifacts/pretrained", "have seen later events")],
        evaluation_of_later_weights: [("evaluation_after_training", "evaluation", "seen past")],
    },
    "another item": {
        other_item: [("behaviour_from_log", "behaviour", "is not what the events before the cutoff give")],
        published_as_younger: [("trained_through_of_rows", "features", "another trained_through")],
        evaluation_that_claims_less: [("evaluation_after_training", "evaluation", "another trained_through")],
    },
    "a trend": {trend: [("behaviour_from_log", "behaviour", "is not what")]},
    "a user of the future": {
        user_of_the_future: [("users_from_log", "behaviour", "a user without an event")],
        baselines_that_have_seen: [("evaluation_after_training", "evaluation", "baselines")],
    },
    "all of behaviour derived too late": {
        derived_too_late: [
            ("event_before_cutoff", "behaviour", "an event at or after the cutoff"),
            ("behaviour_from_log", "behaviour", "counts more than happened before the cutoff"),
            ("users_from_log", "behaviour", ""),
        ]
    },
    "a file too many": {
        a_file_too_many: [
            ("users_from_log", "behaviour", "of no bucket"),
            ("one_row_a_user", "behaviour", "more than one row"),
        ]
    },
}


@pytest.mark.parametrize("group", PLANTED)
def test_each_planted_leak_is_found_and_named(config, layout, group):
    for plant in PLANTED[group]:
        plant(layout, config)
    result = audit(config)
    for plant, expected in PLANTED[group].items():
        for check, table, message in expected:
            own = [one for one in result["leaks"] if one["check"] == check and one["table"].startswith(table)]
            assert any(message in one["message"] for one in own), (plant.__name__, own)
    with pytest.raises(GateError, match="leaks") as stopped:
        require_silence(result)
    assert stopped.value.exit_code == 3


def test_what_is_derived_again_never_meets_an_event_of_the_future(honest, monkeypatch):
    """So that a derivation which looked ahead would not agree with itself here."""
    met = []

    def watched(block, cutoffs, *others):
        met.append(max(block.times) < microseconds(*cutoffs))
        return tables_as_of(block, cutoffs, *others)

    monkeypatch.setattr("segmenter_plugin.data.clock_recount.tables_as_of", watched)
    assert audit(honest)["leaks"] == []
    assert met == [True] * 3 * world.BUCKETS


def test_a_leak_names_its_user_and_times(config, layout):
    later_event(layout, config)
    found = leak(audit(config), "event_before_cutoff")
    assert found["user"] == pq.read_table(behaviour_file(layout))["user_id"][3].as_py()
    assert found["values"] == {"last_event": LATER.isoformat()}
    assert (found["rows"], found["cutoff"]) == (1, LATER.isoformat())
    counted_future(layout, config)
    derived = leak(audit(config), "behaviour_from_log")
    assert "is stored" in derived["values"]["view_count_60d"] or "purchase_sum_60d" in derived["values"]


def test_a_label_before_its_window_is_over_is_found(config, layout):
    late = datetime(2017, 10, 25, tzinfo=UTC)
    world.build(config, EventLog.read(config.root_path), [late])
    assert not audit(config)["leaks"]
    world.rewrite(
        data_files(layout.labels(late))[0],
        lambda rows: world.set_value(rows, "purchase_14d_label", 1, True),
    )
    result = audit(config)
    assert leaks(result) == {("label_window", "labels"), ("labels_from_log", "labels")}
    assert "window ends after the events" in leak(result, "labels_from_log")["message"]


def test_weights_that_have_seen_later_events_are_a_note(config, layout):
    rows = pa.concat_tables(pq.read_table(path) for path in data_files(layout.scores(LATER)))
    for name, value, kind in (("model_version", "other", pa.string()), ("trained_through", LATER + DAY, TIMESTAMP)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array([value] * len(rows), kind))
    world.scored_world.put(config, layout.scores(LATER), rows, "another fingerprint")
    publish(config, [LATER], created_at="2017-10-03T00:00:00Z")
    result = audit(config)
    assert result["leaks"] == []
    tables = {note["table"] for note in result["notes"]}
    key = cutoff_key(LATER)
    assert tables == {f"scores/{key}", f"features/user_embedding_g1/{key}", f"features/user_scores_g1/{key}"}


def test_tables_stay_comparable_while_the_log_grows_and_not_once_it_is_gone(config, layout):
    world.add_segment(config, world.events_of(config, seed=2, each=5), "c.parquet")
    result = audit(config)
    assert (result["leaks"], result["not_compared"]) == ([], [])
    assert {line["check"]: line["tables"] for line in result["checks"]}["behaviour_from_log"] == 3
    counted_future(layout, config)
    assert ("behaviour_from_log", "behaviour") in leaks(audit(config))
    shutil.rmtree(config.root_path / "events")
    gone = audit(config)
    assert {one["why"] for one in gone["not_compared"]} == {"there is no event log"}
    # What was planted is seen by the log alone, and by what was published before.
    assert {one["check"] for one in gone["leaks"]} == {"published_as_made"}


def test_tables_of_other_settings_are_checked_for_their_times_alone(config, layout):
    windows = config.windows.model_copy(update={"observation_days": 30, "activity_days": (3, 9)})
    other = config.model_copy(update={"windows": windows})
    result = audit(other)
    assert result["leaks"] == []
    assert {one["why"] for one in result["not_compared"]} == {"was built with other settings"}
    later_event(layout, config)
    assert ("event_before_cutoff", "behaviour") in leaks(audit(other))


def test_what_was_published_from_a_replaced_source_is_said(config, layout):
    rows = pa.concat_tables(pq.read_table(path) for path in data_files(layout.segments(LATER)))
    world.scored_world.put(config, layout.segments(LATER), rows, "made again")
    (one,) = audit(config)["not_compared"]
    assert one["table"].startswith("features/user_segment_g1/")
    assert "replaced since" in one["why"]


def test_pushed_rows_need_not_say_when_they_were_published(config, layout):
    rows = pq.read_table(published(layout, "user_segment_g1"))
    folder = layout.features("user_segment_g1") / "pushed"
    folder.mkdir()
    place = rows.schema.get_field_index("created_timestamp")
    rows = rows.set_column(place, "created_timestamp", pa.nulls(len(rows), TIMESTAMP))
    pq.write_table(pa.concat_tables([rows, rows]), folder / "0001.parquet")
    assert audit(config)["leaks"] == []
    early = pa.array([LATER - DAY] * len(rows), TIMESTAMP)
    pq.write_table(rows.set_column(place, "created_timestamp", early), folder / "0002.parquet")
    found = leak(audit(config), "created_after_event")
    assert (found["table"], found["cutoff"], found["rows"]) == ("features/user_segment_g1/pushed", None, len(rows))


def test_rows_in_a_delta_table_are_audited(config, layout):
    pytest.importorskip("deltalake")
    delta = config.model_copy(update={"store": config.store.model_copy(update={"table_format": "delta"})})
    publish(delta, [LATER], created_at="2017-10-02T00:00:00Z")
    assert audit(delta)["leaks"] == []
    assert {line["check"]: line["tables"] for line in audit(delta)["checks"]}["created_after_event"] == 4
    (path,) = (config.root_path / "features_delta" / "user_segment_g1").rglob("*.parquet")
    world.rewrite(path, lambda rows: world.set_value(rows, "created_timestamp", 2, LATER - DAY))
    assert leaks(audit(delta)) == {("created_after_event", "features")}


def test_rows_in_a_bucket_are_audited(config, layout):
    with bucket_world.s3_endpoint() as (address, _):
        bucket_world.client(address).create_bucket(Bucket="audited")
        store = config.store.model_copy(update={"published": "s3://audited/shop", "published_endpoint": address})
        remote = config.model_copy(update={"store": store})
        publish(remote, [LATER], created_at="2017-09-30T00:00:00Z")
        result = audit(remote)
    found = [one for one in result["leaks"] if one["check"] == "created_after_event"]
    assert {one["check"] for one in result["leaks"]} == {"created_after_event"}
    key = cutoff_key(LATER)
    assert {one["table"] for one in found} == {f"s3://audited/shop/features/{view}/{key}" for view in VIEWS}
    assert {line["check"]: line["tables"] for line in result["checks"]}["published_as_made"] == 4


def test_tables_of_spark_are_left_to_spark(config):
    store = config.store.model_copy(update={"table": "lake.{view}", "offline": "spark"})
    result = audit(config.model_copy(update={"store": store}))
    assert {one["table"] for one in result["not_compared"]} == {f"lake.{view}" for view in VIEWS}


def test_an_artifact_that_tells_nothing_is_an_error(config, layout):
    (current(layout.encoder) / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="does not tell"):
        audit(config)


def test_nothing_to_audit_is_an_error(tmp_path):
    with pytest.raises(MissingStageError, match="nothing under"):
        audit(world.audit_config(tmp_path))


TOML = """
[events]
path = "events.parquet"
columns = { user_id = "u", item_id = "i", event_type = "k", event_timestamp = "t" }
types = { view = ["view"] }
[store]
root = "ROOT"
"""


def test_the_command_shows_a_line_a_check_and_ends_with_exit_code_3(config, layout, tmp_path, capsys):
    path = tmp_path / "segmenter.toml"
    path.write_text(TOML.replace("ROOT", str(config.root_path)))
    done = CliRunner().invoke(segmenter, ["audit", "--config", str(path)])
    assert done.exit_code == 0, done.output
    assert "Audit of the clocks" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["leaks"] == []
    created_too_early(layout, config)
    with pytest.raises(SystemExit) as stopped:
        main(["-q", "audit", "--config", str(path)])
    assert stopped.value.code == 3
    shown = capsys.readouterr()
    assert "created_after_event" in shown.out
    assert json.loads(shown.out.splitlines()[-1])["error"] == "GateError"
    assert "Hint:" in shown.err

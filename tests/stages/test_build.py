"""The stage `build` on real Spark: what it writes, when it skips, what it refuses, and that it is whole or nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.partition import current, data_files, read_manifest
from segmenter_plugin.data.staging import STAGING
from segmenter_plugin.errors import CutoffError, EventsError
from segmenter_plugin.schemas import behaviour_schema, conform, labels_schema
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout

MARCH, APRIL = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
USERS, DAYS = 20, 100


def event_rows():
    """User n is seen every n + 1 days from 1 January 2024 on, and buys each second time."""
    start = datetime(2024, 1, 1, 9, tzinfo=UTC)
    for user in range(USERS):
        for number, day in enumerate(range(0, DAYS, user + 1)):
            kind = "bought" if number % 2 else "seen"
            paid = 0.1 * (user + 1) if number % 2 else None
            yield {
                "customer": user,
                "at": start + timedelta(days=day),
                "kind": kind,
                "sku": f"s{day % 7}",
                "paid": paid,
            }


def config_tree(folder):
    columns = {"user_id": "customer", "item_id": "sku", "event_type": "kind", "event_timestamp": "at", "price": "paid"}
    return {
        "events": {
            "path": str(folder / "events.parquet"),
            "columns": columns,
            "types": {"view": ["seen"], "purchase": ["bought"]},
        },
        "windows": {"observation_days": 60, "activity_days": [7]},
        "sequences": {"length": 8},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 7},
            {"name": "spend", "kind": "value", "prediction_days": 14},
            {"name": "depth", "kind": "multiclass", "prediction_days": 7, "ladder": ["view", "purchase"]},
            {"name": "items", "kind": "multilabel", "prediction_days": 7, "target": "item_id"},
        ],
        "store": {"root": str(folder / "run")},
    }


def write_events(folder, rows):
    schema = pa.schema(
        [
            ("customer", pa.int64()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("kind", pa.string()),
            ("sku", pa.string()),
            ("paid", pa.float64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), folder / "events.parquet")


def read(folder):
    return pa.concat_tables(pq.read_table(path) for path in data_files(folder))


def files_of_segments(folder):
    """Files of all segments below one of the log's folders."""
    return sorted(folder.glob("segment-*/part-*.parquet"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Events with two duplicates and three malformed rows among them, built at one cutoff twice over."""
    folder = tmp_path_factory.mktemp("shop")
    rows = list(event_rows())
    bad = [rows[0] | {"customer": None}, rows[1] | {"paid": -1.0}, rows[2] | {"paid": -1.0}]
    write_events(folder, [*rows, *rows[:2], *bad])
    return folder, rows


@pytest.fixture(scope="module")
def built(spark, shop):
    folder, _ = shop
    return build(parse_config(config_tree(folder)), ["2024-03-01T00:00:00Z", APRIL], spark=spark)


def test_counts(built, shop):
    _, rows = shop
    last = max(row["at"] for row in rows)
    assert built["events"] == {
        "rows": len(rows) + 5,
        "kept": len(rows),
        "duplicates": 2,
        "capped": 0,
        "quarantined": {"user_id_missing": 1, "price_negative": 2},
        "first": "2024-01-01T09:00:00+00:00",
        "last": last.isoformat(),
        "complete_through": (last + timedelta(microseconds=1)).isoformat(),
        "segments": 1,
        "status": "built",
    }
    march = built["cutoffs"][MARCH.isoformat()]
    assert (march["users"], march["behaviour"], march["labels"], march["is_complete"]) == (
        USERS,
        "built",
        "built",
        True,
    )
    json.dumps(built)


def test_base_rates(built, shop):
    _, rows = shop
    inside = [row for row in rows if MARCH <= row["at"] < MARCH + timedelta(days=7)]
    buyers = {row["customer"] for row in inside if row["kind"] == "bought"}
    visitors = {row["customer"] for row in inside} - buyers
    rates = built["cutoffs"][MARCH.isoformat()]["base_rates"]
    assert rates["purchase_7d_label"] == len(buyers) / USERS
    none = USERS - len(buyers) - len(visitors)
    assert rates["depth_7d_label"] == {
        "none": none / USERS,
        "view": len(visitors) / USERS,
        "purchase": len(buyers) / USERS,
    }
    assert rates["items_7d_label"]["any"] == pytest.approx(len(buyers) / USERS)
    # Of April, one week of labels is there and two are not.
    assert built["cutoffs"][APRIL.isoformat()]["base_rates"]["spend_14d_label"] is None


def test_tables_have_the_schemas(built, shop):
    config = parse_config(config_tree(shop[0]))
    layout = Layout.of(config)
    for cutoff in (MARCH, APRIL):
        for folder, schema in (
            (layout.behaviour(cutoff), behaviour_schema(config, pa.int64())),
            (layout.labels(cutoff), labels_schema(config, pa.int64())),
        ):
            for path in data_files(folder):
                table = pq.read_table(path)
                assert [(field.name, field.type) for field in table.schema] == [(f.name, f.type) for f in schema]
                users = table["user_id"].to_pylist()
                assert users == sorted(users)
            table = conform(read(folder), schema, "the table")
            assert set(table["event_timestamp"].to_pylist()) == {cutoff}
            assert sorted(table["user_id"].to_pylist()) == list(range(USERS))
        assert read(layout.behaviour(cutoff))["user_id"] == read(layout.labels(cutoff))["user_id"]


def test_folders_hold_nothing_else(built, shop):
    layout = Layout.of(parse_config(config_tree(shop[0])))
    assert sorted(path.name for path in layout.clean_events.iterdir()) == ["manifest.json", "segment-00001"]
    assert [path.name for path in layout.quarantine.iterdir()] == ["segment-00001"]
    folders = [layout.clean_events / "segment-00001", layout.quarantine / "segment-00001"]
    folders += [current(layout.behaviour(MARCH)), current(layout.labels(MARCH))]
    for folder in folders:
        names = {path.name for path in folder.iterdir()} - {"manifest.json"}
        assert names
        assert all(re.fullmatch(r"part-\d{5}\.parquet", name) for name in names)
    assert not list((layout.root / STAGING).iterdir())


def test_quarantine_keeps_the_whole_row(built, shop):
    layout = Layout.of(parse_config(config_tree(shop[0])))
    found = [row for path in files_of_segments(layout.quarantine) for row in pq.read_table(path).to_pylist()]
    assert sorted(row["quarantine_reason"] for row in found) == ["price_negative", "price_negative", "user_id_missing"]
    assert all(set(json.loads(row["raw_row"])) == {"customer", "at", "kind", "sku", "paid"} for row in found)


def test_the_report_says_what_became_of_the_rows(built, shop):
    _, rows = shop
    report = json.loads(Path(built["report"]).read_text(encoding="utf-8"))
    assert Path(built["report"]).name == "build-cutoff=20240401T000000Z.json"
    lot = report["lot"]
    assert (lot["rows"], lot["kept"], lot["duplicates"]) == (len(rows) + 5, len(rows), 2)
    (example,) = lot["examples"]["user_id_missing"]
    assert json.loads(example)["customer"] is None
    assert lot["users"] == USERS
    assert report["derived"]["event_types"] == {
        "purchase": sum(row["kind"] == "bought" for row in rows),
        "view": sum(row["kind"] == "seen" for row in rows),
    }
    assert set(report["base_rates"]) == {MARCH.isoformat(), APRIL.isoformat()}
    assert set(built["tables"]) == {"Events", "Refused rows", "Labels"}
    shown = {row["reason"]: row["rows"] for row in built["tables"]["Refused rows"]}
    assert shown == {"user_id_missing": 1, "price_negative": 2}


def test_sums_are_exact(built, shop):
    """0.1 added up ten times is not 1.0 in floating point; whole cents are."""
    _, rows = shop
    layout = Layout.of(parse_config(config_tree(shop[0])))
    table = read(layout.behaviour(MARCH))
    found = dict(zip(table["user_id"].to_pylist(), table["purchase_sum_60d"].to_pylist(), strict=True))
    for user in range(USERS):
        since = MARCH - timedelta(days=60)
        paid = [row["paid"] for row in rows if row["customer"] == user and since <= row["at"] < MARCH and row["paid"]]
        assert found[user] == round(len(paid) * 10 * (user + 1)) / 100


def test_a_second_run_starts_no_spark(built, shop, monkeypatch):
    from segmenter_plugin.spark import session

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(session, "open_session", refuse)
    again = build(parse_config(config_tree(shop[0])), [MARCH, APRIL])
    assert again["events"] == built["events"] | {"status": "skipped"}
    assert {(entry["behaviour"], entry["labels"]) for entry in again["cutoffs"].values()} == {("skipped", "skipped")}
    assert again["cutoffs"][MARCH.isoformat()]["base_rates"] == built["cutoffs"][MARCH.isoformat()]["base_rates"]


def test_only_what_changed_is_made_again(spark, built, shop):
    """A further task changes labels; behaviour and events stay. And back again."""
    tree = config_tree(shop[0])
    layout = Layout.of(parse_config(tree))
    before = read(layout.labels(MARCH))
    extra = tree | {
        "tasks": [*tree["tasks"], {"name": "view", "kind": "binary", "event_type": "view", "prediction_days": 7}]
    }
    changed = build(parse_config(extra), [MARCH], spark=spark)
    entry = changed["cutoffs"][MARCH.isoformat()]
    assert (changed["events"]["status"], entry["behaviour"], entry["labels"]) == ("skipped", "skipped", "built")
    build(parse_config(tree), [MARCH], spark=spark)
    assert read(layout.labels(MARCH)) == before


def test_another_root_gets_the_same_content(spark, built, shop, tmp_path):
    tree = config_tree(shop[0])
    other = tree | {"store": {"root": str(tmp_path)}}
    build(parse_config(other), [MARCH], spark=spark)
    one, two = Layout.of(parse_config(tree)), Layout.of(parse_config(other))
    for name in ("clean_events", "quarantine"):
        found = [files_of_segments(getattr(layout, name)) for layout in (one, two)]
        assert [path.name for path in found[0]] == [path.name for path in found[1]]
        assert [pq.read_table(path) for path in found[0]] == [pq.read_table(path) for path in found[1]]
    for name in ("behaviour", "labels"):
        assert _files(getattr(one, name)(MARCH)) == _files(getattr(two, name)(MARCH))


def _files(folder):
    return {path.name: pq.read_table(path).to_pylist() for path in data_files(folder)}


def test_a_cutoff_after_the_data_is_marked(spark, built, shop, caplog):
    late = APRIL + timedelta(days=30)
    with caplog.at_level("WARNING"):
        result = build(parse_config(config_tree(shop[0])), [late], spark=spark)
    assert "will miss what happened between" in caplog.text
    assert result["cutoffs"][late.isoformat()]["is_complete"] is False
    assert set(result["cutoffs"][late.isoformat()]["base_rates"].values()) == {None}


def test_labels_are_censored_by_the_configured_end(spark, built, shop, tmp_path):
    tree = config_tree(shop[0])
    early = tree | {"events": tree["events"] | {"complete_through": "2024-03-08T00:00:00Z"}}
    result = build(parse_config(early | {"store": {"root": str(tmp_path)}}), [MARCH], spark=spark)
    rates = result["cutoffs"][MARCH.isoformat()]["base_rates"]
    assert rates["purchase_7d_label"] is not None
    assert rates["spend_14d_label"] is None


@pytest.mark.parametrize(
    "cutoff", [datetime(2023, 12, 1, tzinfo=UTC), datetime(2024, 1, 1, 9, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)]
)
def test_cutoffs_without_anybody(spark, built, shop, cutoff):
    config = parse_config(config_tree(shop[0]))
    with pytest.raises(CutoffError, match="nobody has an event in the 60 days"):
        build(config, [MARCH, cutoff], spark=spark)
    assert not Layout.of(config).behaviour(cutoff).exists()


def test_nobody_in_a_hole_of_the_events(spark, tmp_path):
    """Events before and after, so only the build itself can tell."""
    row = {"customer": 1, "kind": "seen", "sku": "a", "paid": None}
    write_events(tmp_path, [row | {"at": datetime(2024, month, 1, tzinfo=UTC)} for month in (1, 12)])
    config = parse_config(config_tree(tmp_path))
    with pytest.raises(CutoffError, match="nobody has an event"):
        build(config, [datetime(2024, 7, 1, tzinfo=UTC)], spark=spark)
    assert not Layout.of(config).behaviour(datetime(2024, 7, 1, tzinfo=UTC)).exists()


@pytest.mark.parametrize(
    ("cutoffs", "message"),
    [
        ([], "no cutoff"),
        (["2024-03-01"], "names no zone"),
        ([MARCH + timedelta(microseconds=1)], "fraction of a second"),
    ],
)
def test_malformed_cutoffs(tmp_path, cutoffs, message):
    with pytest.raises(CutoffError, match=message):
        build(parse_config(config_tree(tmp_path)), cutoffs)


@pytest.mark.parametrize(
    ("rows", "message", "hint"),
    [
        ([], "are empty", "path"),
        (
            [{"customer": 1, "at": MARCH, "kind": "danced"}],
            "0 are usable.*event_type_unknown.*danced",
            r"\[events.types\]",
        ),
        (
            [{"customer": 1, "at": datetime(1980, 1, 1, tzinfo=UTC), "kind": "seen"}],
            "timestamp_absurd",
            "timestamp_unit",
        ),
    ],
)
def test_nothing_usable(spark, tmp_path, rows, message, hint):
    write_events(tmp_path, rows)
    config = parse_config(config_tree(tmp_path))
    with pytest.raises(EventsError, match=message) as caught:
        build(config, [MARCH], spark=spark)
    assert caught.match(hint)
    assert not Layout.of(config).clean_events.exists()
    assert not Layout.of(config).quarantine.exists()


def test_naive_text_is_refused_as_a_whole(spark, tmp_path):
    text = "customer,at,kind,sku,paid\n1,2024-02-01T00:00:00Z,seen,a,\n1,2024-02-02 10:00:00,seen,a,\n"
    (tmp_path / "events.csv").write_text(text, encoding="utf-8")
    tree = config_tree(tmp_path)
    tree["events"] |= {"path": str(tmp_path / "events.csv"), "format": "csv"}
    with pytest.raises(EventsError, match=r"1 are usable.*event_timestamp_naive") as caught:
        build(parse_config(tree), [MARCH], spark=spark)
    assert "timezone" in caught.value.hint


JOB = """
import json, sys
from segmenter_plugin.config import parse_config
from segmenter_plugin.stages.build import build
build(parse_config(json.loads(sys.argv[1])), ["2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z"])
"""


def test_killed_half_way_leaves_nothing_visible(spark, shop, tmp_path):
    """Both cutoffs are made in one pass: killed while files of theirs are being written, neither is there."""
    tree = config_tree(shop[0]) | {"store": {"root": str(tmp_path)}}
    layout = Layout.of(parse_config(tree))
    process = subprocess.Popen([sys.executable, "-c", JOB, json.dumps(tree)], start_new_session=True)
    try:
        _wait_for(lambda: list((tmp_path / STAGING).glob("behaviour~cutoff=20240401*")), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not layout.behaviour(MARCH).exists()
    assert not layout.behaviour(APRIL).exists()
    result = build(parse_config(tree), [MARCH, APRIL], spark=spark)
    assert result["events"]["status"] == "skipped"
    assert [entry["behaviour"] for entry in result["cutoffs"].values()] == ["built", "built"]
    assert read_manifest(layout.behaviour(MARCH))["users"] == USERS


def _wait_for(condition, process, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline, "the build never got there"
        time.sleep(0.005)


def test_real_clicks_of_a_shop(spark, tmp_path):
    """Taobao: epoch seconds, four event types, no price. Rows outside its nine days are noise that is refused."""
    path = os.environ.get(
        "SEGMENTER_TAOBAO", str(Path(__file__).parents[3] / "shared/data/taobao/user_behavior.parquet")
    )
    if not Path(path).exists():
        pytest.skip("the Taobao sample is not here; SEGMENTER_TAOBAO names it")
    columns = {"user_id": "user_id", "item_id": "item_id", "event_type": "behavior", "event_timestamp": "timestamp"}
    names = pq.read_schema(path).names
    tree = {
        "events": {
            "path": path,
            "timestamp_unit": "s",
            "earliest_timestamp": "2017-11-24T16:00:00Z",
            "latest_timestamp": "2017-12-03T16:00:00Z",
            "complete_through": "2017-12-03T16:00:00Z",
            "columns": columns | {"category": next(name for name in names if name.startswith("category"))},
            "types": {"view": ["pv"], "cart": ["cart"], "favourite": ["fav"], "purchase": ["buy"]},
        },
        "windows": {"observation_days": 9, "activity_days": [1, 3]},
        "tasks": [{"name": "purchase", "kind": "binary", "prediction_days": 1}],
        "store": {"root": str(tmp_path)},
    }
    result = build(parse_config(tree), ["2017-12-02T16:00:00Z"], spark=spark)
    assert set(result["events"]["quarantined"]) <= {"event_timestamp_absurd"}
    (entry,) = result["cutoffs"].values()
    assert 500 < entry["users"] <= 563
    assert 0.13 < entry["base_rates"]["purchase_1d_label"] < 0.23

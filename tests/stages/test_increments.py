"""`build --from`: a chain of daily increments ends where a build of everything ends, and says what it cannot do."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data import event_log
from segmenter_plugin.data.event_log import EventLog
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import CutoffError, EventsError, MissingStageError
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS, USERS = 4, 12
SCHEMA = pa.schema(
    [
        ("customer", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
        ("sku", pa.string()),
        ("paid", pa.float64()),
        ("click", pa.string()),
    ]
)


def config_tree(folder: Path, root: str = "run", **events):
    columns = {"user_id": "customer", "item_id": "sku", "event_type": "kind", "event_timestamp": "at", "price": "paid"}
    return {
        "events": {
            "path": str(folder / "events"),
            "columns": columns | {"event_id": "click"},
            "types": {"view": ["seen"], "purchase": ["bought"]},
            "max_events_per_day": 4,
        }
        | events,
        "windows": {"observation_days": 20, "activity_days": [1, 7], "trend_columns": ["item_id"]},
        "sequences": {"length": 8},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 2},
            {"name": "spend", "kind": "value", "prediction_days": 2},
        ],
        "store": {"root": str(folder / root)},
    }


def event(generator: random.Random, day: int, number: int):
    """One of a day's events; some of them late, by up to all days that there were before."""
    age = generator.choice([0, 0, 0, 1, day + 3])
    return {
        "customer": f"u{generator.randrange(USERS)}",
        "at": START + (day - age) * DAY + timedelta(minutes=generator.randrange(1440)),
        "kind": generator.choice(["seen", "seen", "bought"]),
        "sku": f"s{generator.randrange(5)}",
        "paid": generator.choice([None, 0.1, 19.99]),
        "click": f"c{day}-{number}",
    }


def days_of_events(seed: int, per_day: int = 60):
    """A list of rows a day: new ones, repeats of earlier ones, corrections of them, a bot, and a refused row."""
    generator = random.Random(seed)
    days, known = [], []
    for day in range(DAYS):
        rows = [event(generator, day, number) for number in range(per_day)]
        if known:
            rows += generator.choices(known, k=10)
            rows += [
                row | {"paid": 5.0, "at": row["at"] + generator.choice([-2, 0, 1]) * DAY}
                for row in generator.choices(known, k=10)
            ]
        # A bot that is one only over several days' files.
        rows += [event(generator, 0, 1000 * day + number) | {"customer": "bot", "at": START} for number in range(3)]
        rows.append(rows[0] | {"paid": -1.0, "click": None})
        known += rows[:-1]
        days.append(rows)
    return days


def write_day(folder: Path, day: int, rows):
    (folder / "events").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "events" / f"day-{day}.parquet")


def read(folder: Path):
    return pa.concat_tables(pq.read_table(path) for path in data_files(folder)).sort_by("user_id")


def assert_same_outputs(one, two, cutoff):
    for name in ("behaviour", "labels"):
        found, expected = (read(getattr(Layout.of(config), name)(cutoff)) for config in (one, two))
        assert found.num_rows > 0
        assert found.equals(expected), (name, cutoff)


def at(day: int) -> datetime:
    return START + (day + 1) * DAY


@pytest.mark.parametrize("event_ids", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_day_equals_a_rebuild(spark, tmp_path, event_ids):
    tree, other = config_tree(tmp_path), config_tree(tmp_path, "rebuilt")
    for each in (tree, other):
        if not event_ids:
            del each["events"]["columns"]["event_id"]
    config, rebuilt = parse_config(tree), parse_config(other)
    merged = False
    for day, rows in enumerate(days_of_events(seed=event_ids)):
        write_day(tmp_path, day, rows)
        previous = at(day - 1) if day else None
        result = build(config, [at(day)], previous=previous, spark=spark)
        assert result["events"]["status"] == ("extended" if day else "built")
        assert result["lot"]["rows"] == len(rows)
        assert result["lot"]["quarantined"] == {"price_negative": 1}
        if day:
            late = sum(row["at"] < previous for row in {str(row): row for row in rows[:-1]}.values())
            capped = result["lot"]["capped"] + result["lot"]["duplicates"]
            assert late - capped <= result["derived"]["late"] <= late
        merged |= result["derived"]["is_merged"]
        build(rebuilt, [at(day)], spark=spark)
        assert_same_outputs(config, rebuilt, at(day))
        assert EventLog.read(config.root_path).fingerprint == EventLog.read(rebuilt.root_path).fingerprint
    assert merged
    # A build of everything has nothing to do: the increments have done it.
    assert build(config, [at(DAYS - 1)], spark=spark)["events"]["status"] == "skipped"
    result = build(config, [at(0), at(DAYS - 1)], spark=spark)
    assert [entry["behaviour"] for entry in result["cutoffs"].values()] == ["built", "skipped"]
    build(rebuilt, [at(0)], spark=spark)
    assert_same_outputs(config, rebuilt, at(0))


@pytest.fixture(scope="module")
def two_days(spark, tmp_path_factory):
    """A shop whose first day is built; the second day's file is there."""
    folder = tmp_path_factory.mktemp("two_days")
    days = days_of_events(seed=7)
    write_day(folder, 0, days[0])
    config = parse_config(config_tree(folder))
    build(config, [at(0)], spark=spark)
    write_day(folder, 1, days[1])
    return folder, config, days


@pytest.fixture
def shop(two_days, tmp_path):
    """A copy of it, to be changed."""
    import shutil

    folder, _, days = two_days
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copytree(folder / "events", tmp_path / "events", copy_function=shutil.copy2)
    # The log knows the files by their places.
    manifest = tmp_path / "run" / "events" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(folder), str(tmp_path)))
    return tmp_path, parse_config(config_tree(tmp_path)), days


def test_nothing_new_just_derives(spark, shop):
    folder, config, _ = shop
    (folder / "events" / "day-1.parquet").unlink()
    result = build(config, [at(1)], previous=at(0), spark=spark)
    assert (result["events"]["status"], "lot" in result, result["derived"]["late"]) == ("skipped", False, 0)
    assert read(Layout.of(config).behaviour(at(1))).num_rows > 0


def test_an_empty_new_file_is_consumed(spark, shop):
    folder, config, _ = shop
    write_day(folder, 1, [])
    result = build(config, [at(1)], previous=at(0), spark=spark)
    assert (result["events"]["status"], result["lot"]["rows"]) == ("extended", 0)
    assert str(folder / "events" / "day-1.parquet") in EventLog.read(config.root_path).sources
    assert build(config, [at(1)], previous=at(0), spark=spark)["events"]["status"] == "skipped"


def test_events_at_or_after_the_cutoff_change_nothing(spark, shop):
    folder, config, days = shop
    build(config, [at(1)], previous=at(0), spark=spark)
    before = read(Layout.of(config).behaviour(at(1)))
    later = [row | {"at": at(1) + abs(row["at"] - START), "click": f"{row['click']}-later"} for row in days[2]]
    same_ids = [row | {"at": at(1), "paid": 7.0} for row in days[1][:20]]
    write_day(folder, 2, [*later, *same_ids])
    result = build(config, [at(1)], previous=at(0), spark=spark)
    assert (result["events"]["status"], result["cutoffs"][at(1).isoformat()]["behaviour"]) == ("extended", "built")
    assert read(Layout.of(config).behaviour(at(1))).equals(before)


def test_late_events_are_counted_even_where_the_first_try_died_in_between(spark, shop, monkeypatch):
    from segmenter_plugin.stages import build as stage

    folder, config, days = shop
    row = days[0][0]
    write_day(folder, 1, [row | {"at": at(0) - n * DAY, "click": f"late{n}"} for n in range(3)])

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "derive", die)
    with pytest.raises(KeyboardInterrupt):
        build(config, [at(1)], previous=at(0), spark=spark)
    monkeypatch.undo()
    result = build(config, [at(1)], previous=at(0), spark=spark)
    assert (result["events"]["status"], result["derived"]["late"]) == ("skipped", 2)


@pytest.mark.parametrize("step", ["sync_tree", "replace_text", "_remove_all_but"])
def test_a_run_that_died_while_it_changed_the_log_is_made_good_by_the_next(spark, shop, monkeypatch, step):
    folder, config, _ = shop

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(event_log, step, die)
    with pytest.raises(KeyboardInterrupt):
        build(config, [at(1)], previous=at(0), spark=spark)
    monkeypatch.undo()
    assert not Layout.of(config).behaviour(at(1)).exists()
    build(config, [at(1)], previous=at(0), spark=spark)
    rebuilt = parse_config(config_tree(folder, "rebuilt"))
    build(rebuilt, [at(1)], spark=spark)
    assert_same_outputs(config, rebuilt, at(1))
    assert EventLog.read(config.root_path).counts["rows"] == EventLog.read(rebuilt.root_path).counts["rows"]


def test_what_was_consumed_must_not_change(spark, shop):
    folder, config, days = shop
    first = folder / "events" / "day-0.parquet"
    write_day(folder, 0, days[0][:-1])
    with pytest.raises(EventsError, match=r"1 files .* have changed since they were consumed: .*day-0") as caught:
        build(config, [at(1)], previous=at(0), spark=spark)
    assert "without --from" in caught.value.hint
    first.unlink()
    with pytest.raises(EventsError, match=r"consumed and gone: .*day-0"):
        build(config, [at(1)], previous=at(0), spark=spark)
    assert EventLog.read(config.root_path).lots == {1}


def test_settings_must_not_change(spark, shop):
    folder, _, _ = shop
    config = parse_config(config_tree(folder, max_events_per_day=5))
    with pytest.raises(EventsError, match=r"\[events\] has changed"):
        build(config, [at(1)], previous=at(0), spark=spark)
    assert build(config, [at(1)], spark=spark)["events"]["status"] == "built"


def test_an_earlier_build_must_be_there(spark, shop, tmp_path):
    _, config, _ = shop
    with pytest.raises(MissingStageError, match="has not been built") as caught:
        build(config, [at(1)], previous=at(0) - DAY, spark=spark)
    assert "segmenter build --cutoff 2024-03-01" in caught.value.hint
    for cutoff in (at(0), at(0) - DAY):
        with pytest.raises(CutoffError, match="is not before the cutoff"):
            build(config, [cutoff], previous=at(0), spark=spark)
    (Layout.of(config).clean_events / "manifest.json").unlink()
    with pytest.raises(MissingStageError, match="no event log to extend"):
        build(config, [at(1)], previous=at(0), spark=spark)


def test_users_of_another_type_are_refused(spark, shop):
    folder, config, days = shop
    table = pa.Table.from_pylist(days[1], schema=SCHEMA)
    numbers = pa.array(range(len(table)), pa.int64())
    pq.write_table(table.set_column(0, "customer", numbers), folder / "events" / "day-1.parquet")
    with pytest.raises(EventsError, match="users of the new events are int64, those of the event log string"):
        build(config, [at(1)], previous=at(0), spark=spark)
    assert EventLog.read(config.root_path).lots == {1}


def test_the_contract_on_refused_rows(spark, shop, caplog):
    folder, _, days = shop
    refused = [row | {"customer": None} for row in days[1][:30]]
    write_day(folder, 1, [*days[1], *refused])
    tree = config_tree(folder)
    strict = parse_config(tree | {"contract": {"stop_quarantined_share": 0.2}})
    with pytest.raises(EventsError, match=r"rows of .* are refused, above \[contract\] stop.*'customer|\"customer\""):
        build(strict, [at(1)], previous=at(0), spark=spark)
    assert EventLog.read(strict.root_path).lots == {1}
    assert not Layout.of(strict).behaviour(at(1)).exists()
    with caplog.at_level("WARNING"):
        result = build(parse_config(tree), [at(1)], previous=at(0), spark=spark)
    assert "rows are refused: " in caplog.text
    assert result["lot"]["quarantined"] == {"user_id_missing": 30, "price_negative": 1}


@pytest.mark.parametrize(
    ("change", "key", "finding"),
    [("color", "new_columns", "columns that they did not have: {'color': 'string'}"),
     ("paid", "changed_types", r"changed their type: {'paid': 'double -> float'}")],
)  # fmt: skip
def test_the_contract_on_columns(spark, shop, caplog, *, change, key, finding):
    folder, _, days = shop
    table = pa.Table.from_pylist(days[1], schema=SCHEMA)
    if change == "color":
        table = table.append_column("color", pa.array(["red"] * len(table)))
    else:
        table = table.set_column(table.column_names.index("paid"), "paid", table["paid"].cast(pa.float32()))
    pq.write_table(table, folder / "events" / "day-1.parquet")
    tree = config_tree(folder)
    with pytest.raises(EventsError) as caught:
        build(parse_config(tree | {"contract": {key: "stop"}}), [at(1)], previous=at(0), spark=spark)
    assert finding in str(caught.value)
    assert key in caught.value.hint
    with caplog.at_level("WARNING"):
        build(parse_config(tree), [at(1)], previous=at(0), spark=spark)
    assert finding in caplog.text


@pytest.mark.slow
def test_a_table_made_of_files(spark, tmp_path):
    """Spark tells of which files a table is made; what does not tell cannot be extended."""
    days = days_of_events(seed=3)
    write_day(tmp_path, 0, days[0])
    spark.sql(f"CREATE TABLE increments USING parquet LOCATION '{tmp_path / 'events'}'")
    try:
        config, rebuilt = (
            parse_config(config_tree(tmp_path, root, path=None, table="increments")) for root in ("run", "rebuilt")
        )
        build(config, [at(0)], spark=spark)
        write_day(tmp_path, 1, days[1])
        spark.catalog.refreshTable("increments")
        result = build(config, [at(1)], previous=at(0), spark=spark)
        assert (result["events"]["status"], result["lot"]["rows"]) == ("extended", len(days[1]))
        build(rebuilt, [at(1)], spark=spark)
        assert_same_outputs(config, rebuilt, at(1))
        spark.range(1).selectExpr(
            "'a' customer", "timestamp '2024-02-20' at", "'seen' kind", "'s' sku", "1d paid", "'x' click"
        ).createOrReplaceTempView("increments_view")
        view = parse_config(config_tree(tmp_path, "view", path=None, table="increments_view"))
        build(view, [at(0)], spark=spark)
        with pytest.raises(EventsError, match="do not tell which files"):
            build(view, [at(1)], previous=at(0), spark=spark)
    finally:
        spark.sql("DROP TABLE increments")


def test_csv_files(spark, tmp_path):
    days = days_of_events(seed=5)
    (tmp_path / "events").mkdir()
    for day, rows in enumerate(days[:2]):
        lines = ["customer,at,kind,sku,paid,click"]
        lines += [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
        (tmp_path / "events" / f"day-{day}.csv").write_text("\n".join(lines) + "\n")
        config = parse_config(config_tree(tmp_path, format="csv"))
        result = build(config, [at(day)], previous=at(day - 1) if day else None, spark=spark)
        assert result["lot"]["rows"] == len(rows)
    rebuilt = parse_config(config_tree(tmp_path, "rebuilt", format="csv"))
    build(rebuilt, [at(1)], spark=spark)
    assert_same_outputs(config, rebuilt, at(1))


def test_the_command_line(spark, shop, capsys):
    from segmenter_plugin.cli import main

    folder, _, _ = shop
    tree = config_tree(folder)
    lines = ["[events]", f"path = {tree['events']['path']!r}", "max_events_per_day = 4", "[events.columns]"]
    lines += [f"{ours} = {theirs!r}" for ours, theirs in tree["events"]["columns"].items()]
    lines += ["[events.types]", "view = ['seen']", "purchase = ['bought']", "[windows]", "observation_days = 20"]
    lines += ["activity_days = [1, 7]", "[sequences]", "length = 8", "[store]", f"root = '{folder / 'run'}'"]
    (folder / "segmenter.toml").write_text("\n".join(lines) + "\n")
    arguments = ["--config", str(folder / "segmenter.toml"), "--cutoff", at(1).isoformat(), "--from"]
    main(["build", *arguments, at(0).isoformat()])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["events"]["status"] == "extended"
    assert os.path.exists(result["report"])  # noqa: PTH110

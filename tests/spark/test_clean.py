"""The whole Spark job from the owner's events to the files of a segment."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest
import segment_world as world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark import clean as module
from segmenter_plugin.spark.clean import bucket_count, clean_to_segment

GOOD = {"note": "x", "customer": "anna", "at": world.MIDNIGHT, "kind": "seen", "sku": "a", "uid": "e1", "paid": 0.5}


def cleaned(spark, source, config, folder, buckets=3):
    """The report as a dict, and what lies in the two folders."""
    events, quarantine = Path(folder, "e"), Path(folder, "q")
    events.mkdir()
    quarantine.mkdir()
    report = clean_to_segment(spark, source, config, buckets=buckets, events=events, quarantine=quarantine)
    return asdict(report), world.written(events, quarantine)


def check(report, found, expected):
    assert found["events"] == expected["events"]
    assert found["refused"] == expected["refused"]
    bots = sorted((bot["user_id"], bot["day"], bot["events"]) for bot in report["bots"])
    for name in ("rows", "kept", "duplicates", "capped", "quarantined", "unreadable", "first", "last", "users"):
        assert report[name] == expected[name], name
    assert bots == expected["bots"]
    assert set(report["examples"]) == set(expected["quarantined"])
    json.dumps(report, default=str)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(world.ROWS, min_size=1, max_size=3), st.sampled_from([2, None]), st.integers(1, 5), st.booleans())
def test_equals_cleaning_in_one_piece(spark, lots, most, buckets, is_plain):
    """However the rows lie in files and row groups, by our scan and by Spark's reader."""
    config = world.segment_config(most)
    expected = world.expected(pa.concat_tables([world.raw_table(rows) for rows in lots]), config)
    with TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.parquet") for number in range(len(lots))]
        for file, rows in zip(files, lots, strict=True):
            pq.write_table(world.raw_table(rows), file, row_group_size=7)
        source = files if is_plain else spark.read.parquet(*map(str, files)).repartition(3)
        check(*cleaned(spark, source, config, folder, buckets), expected)


def test_csv(spark, tmp_path):
    rows = [GOOD, GOOD | {"customer": "007"}, GOOD | {"customer": None}, GOOD | {"uid": "e,2"}]
    table = world.raw_table(rows)
    table = table.set_column(2, "at", pa.array(["2024-03-01T00:00:00Z"] * 4))
    pc_csv.write_csv(table, tmp_path / "a.csv")
    config = world.segment_config(format="csv", path=str(tmp_path / "a.csv"))
    report, found = cleaned(spark, [tmp_path / "a.csv"], config, tmp_path)
    assert (report["rows"], report["kept"], report["quarantined"]) == (4, 3, {"user_id_missing": 1})
    assert sorted((event[0], event[4]) for event in found["events"]) == [("007", "e1"), ("anna", "e,2"), ("anna", "e1")]
    assert found["refused"][0][1]["note"] == "x"


def test_a_table(spark, tmp_path):
    table = world.raw_table([GOOD, GOOD, GOOD | {"customer": "berta"}])
    spark.createDataFrame(table).createOrReplaceTempView("events_of_clean")
    report, found = cleaned(spark, spark.table("events_of_clean"), world.segment_config(), tmp_path)
    check(report, found, world.expected(table, world.segment_config()))


def test_a_column_in_the_folders_names(spark, tmp_path):
    """Our scan does not see it, Spark's reader does; also where only one of the files is asked for."""
    for kind in ("seen", "bought"):
        (tmp_path / "lake" / f"kind={kind}").mkdir(parents=True)
        pq.write_table(world.raw_table([GOOD]).drop_columns("kind"), tmp_path / "lake" / f"kind={kind}" / "a.parquet")
    config = world.segment_config(path=str(tmp_path / "lake"))
    _, found = cleaned(spark, [tmp_path / "lake" / "kind=bought" / "a.parquet"], config, tmp_path)
    assert [event[2] for event in found["events"]] == ["purchase"]


@pytest.mark.parametrize("is_plain", [True, False])
def test_nothing_there(spark, tmp_path, is_plain):
    pq.write_table(world.raw_table([]), tmp_path / "a.parquet")
    source = [tmp_path / "a.parquet"] if is_plain else spark.read.parquet(str(tmp_path / "a.parquet"))
    report, found = cleaned(spark, source, world.segment_config(), tmp_path)
    assert (report["rows"], report["kept"], report["first"], report["quarantined"]) == (0, 0, None, {})
    assert found == {"events": [], "refused": []}


def test_all_refused(spark, tmp_path):
    pq.write_table(world.raw_table([GOOD | {"customer": None}] * 5), tmp_path / "a.parquet")
    report, found = cleaned(spark, [tmp_path / "a.parquet"], world.segment_config(), tmp_path)
    assert (report["rows"], report["kept"], report["users"], report["largest_bucket"]) == (5, 0, 0, 0)
    assert len(found["refused"]) == 5
    assert len(report["examples"]["user_id_missing"]) == 3


def test_a_wrong_column_is_told_before_any_row_is_read(spark, tmp_path):
    frame = spark.createDataFrame(world.raw_table([GOOD])).withColumnRenamed("customer", "custmer")
    with pytest.raises(EventsError, match="lack the column 'customer'") as caught:
        cleaned(spark, frame, world.segment_config(), tmp_path)
    assert caught.value.hint == "did you mean 'custmer'?"


def test_a_file_that_breaks_off_in_a_task_is_named(spark, tmp_path, monkeypatch):
    file = tmp_path / "damaged.parquet"
    pq.write_table(world.raw_table([GOOD | {"uid": str(number)} for number in range(10_000)]), file)
    plan = module.plan_scan

    def plan_then_damage(*args):
        planned = plan(*args)
        content = bytearray(file.read_bytes())
        content[200 : len(content) // 2] = b"\xff" * (len(content) // 2 - 200)
        file.write_bytes(content)
        return planned

    monkeypatch.setattr(module, "plan_scan", plan_then_damage)
    with pytest.raises(EventsError, match=r"damaged.parquet' breaks off or is damaged") as caught:
        cleaned(spark, [file], world.segment_config(), tmp_path)
    assert caught.value.hint == "write it again or take it away."
    assert list((tmp_path / "e").iterdir()) == []


def test_what_spark_cannot_read(spark, tmp_path):
    file = tmp_path / "damaged.parquet"
    pq.write_table(world.raw_table([GOOD | {"uid": str(number)} for number in range(10_000)]), file)
    frame = spark.read.parquet(str(file))
    content = bytearray(file.read_bytes())
    content[200 : len(content) // 2] = b"\xff" * (len(content) // 2 - 200)
    file.write_bytes(content)
    with pytest.raises(EventsError, match=r"the events of '.*unused' break off: .*damaged.parquet"):
        cleaned(spark, frame, world.segment_config(), tmp_path)


def test_bucket_count():
    assert [bucket_count(size) for size in (None, 0, 100 << 20, 1 << 50)] == [32, 2, 5, 4096]


RETRIED = """
    # In every Python worker: each task of either stage fails once, the second only after it has written.
    import os
    from pathlib import Path

    def once(name):
        try:
            (Path(os.environ["MARKERS"]) / name).touch(exist_ok=False)
        except FileExistsError:
            return
        raise RuntimeError(f"{name} fails once")

    if "MARKERS" in os.environ:
        from segmenter_plugin.data.event_intake import EventIntake
        from segmenter_plugin.data.segment_part import SegmentPart

        end, write = EventIntake.end, SegmentPart.write

        def end_later(self):
            parcels = list(end(self))
            yield parcels[0]
            once(f"task-{self._counts['task']}")
            yield from parcels[1:]

        def write_twice(self):
            counts = write(self)
            once(self._paths["events"].name)
            return counts

        EventIntake.end, SegmentPart.write = end_later, write_twice
"""

DRIVER = """
    import json, sys
    from dataclasses import asdict
    from pathlib import Path
    import segment_world as world
    from segmenter_plugin.spark.clean import clean_to_segment
    from segmenter_plugin.spark.session import open_session

    folder = Path(sys.argv[1])
    spark = open_session("retries", master="local[2, 4]", settings={"spark.driver.memory": "1g"})
    report = clean_to_segment(spark, sorted(folder.glob("*.parquet")), world.segment_config(), buckets=3,
                              events=folder / "e", quarantine=folder / "q")
    print(json.dumps(asdict(report), default=str))
"""


@pytest.mark.slow
def test_repeated_tasks_change_nothing(tmp_path):
    rows = [
        GOOD | {"customer": f"user-{n % 40}" if n % 7 else None, "uid": str(n % 90), "note": str(n)} for n in range(300)
    ]
    for number in range(3):
        pq.write_table(world.raw_table(rows[number::3]), tmp_path / f"{number}.parquet")
    for folder in ("e", "q", "markers", "path"):
        (tmp_path / folder).mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(textwrap.dedent(RETRIED), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "path"), str(Path(world.__file__).parent), str(Path.cwd())])
    environment = os.environ | {"MARKERS": str(tmp_path / "markers"), "PYTHONPATH": path}
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    failed = {path.name for path in (tmp_path / "markers").iterdir()}
    assert any(name.startswith("task-") for name in failed)
    assert {"part-00000.parquet", "part-00001.parquet", "part-00002.parquet"} <= failed
    expected = world.expected(world.raw_table(rows), world.segment_config())
    found = world.written(tmp_path / "e", tmp_path / "q")
    assert found["events"] == expected["events"]
    assert found["refused"] == expected["refused"]
    for name in ("rows", "kept", "duplicates", "capped", "quarantined", "users"):
        assert report[name] == expected[name], name

"""The demo as CI runs it (small): what it printed is what it published, and nothing runs twice."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

pytestmark = pytest.mark.slow

VIEWS = ("user_activity", "user_embedding_g1", "user_scores_g1", "user_segment_g1")


def _demo(root: Path) -> str:
    command = [sys.executable, "-c", "from segmenter_plugin.cli import main; main()"]
    done = subprocess.run(
        [*command, "demo", "--small", "--root", str(root)], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def root(request, tmp_path_factory):
    given = request.config.getoption("--demo-root")
    if given is not None:
        return Path(given).absolute()
    root = tmp_path_factory.mktemp("demo") / "run"
    _demo(root)
    return root


@pytest.fixture(scope="module")
def report(root):
    return json.loads((root / "report.json").read_text())


def _newest(root: Path, view: str) -> dict:
    """The published row of each user at the last cutoff."""
    folder = max((root / "features" / view).iterdir())
    table = ds.dataset(sorted(folder.glob("*.parquet"))).to_table()
    return {row["user_id"]: row for row in table.to_pylist()}


def test_every_lookup_that_was_printed_is_a_published_row(root, report):
    published = {}
    for view in VIEWS:
        for user, row in _newest(root, view).items():
            published.setdefault(user, {}).update(row)
    rows = report["read"]["online"]["rows"]
    assert len(rows) == 5
    for row in rows:
        expected = published[row["user_id"]]
        assert set(row) <= set(expected)
        assert len(row) > 50
        for name, value in row.items():
            known = expected[name]
            assert value == (known.isoformat() if isinstance(known, datetime) else known), name


def test_online_equals_offline_bit_for_bit(root):
    from segmenter_plugin.config import load_config
    from segmenter_plugin.store.repository import open_store

    store = open_store(Path(load_config(root / "segmenter.toml").store.feature_repo))
    expected = _newest(root, "user_embedding_g1")
    users = sorted(expected)[:500]
    answer = store.get_online_features(
        features=store.get_feature_service("ranking_g1"), entity_rows=[{"user_id": user} for user in users]
    ).to_dict()
    got = pa.array(answer["embedding"], pa.list_(pa.float32()))
    assert got.equals(pa.array([expected[user]["embedding"] for user in users], pa.list_(pa.float32())))
    segments = _newest(root, "user_segment_g1")
    assert answer["segment_id"] == [segments[user]["segment_id"] for user in users]


def test_a_frame_before_the_first_publication_is_empty(report):
    rows = report["read"]["training_frame"]["rows"]
    assert any(row["embedding"] is None for row in rows)
    times = {row["event_timestamp"] for row in rows}
    assert len(times) == 3
    earliest = min(times)
    for row in rows:
        assert (row["embedding"] is None) == (row["event_timestamp"] == earliest)


def test_every_number_that_was_printed_is_in_the_report(root):
    import re

    printed = _demo(root)  # again: everything is skipped, the same is printed
    report = json.loads((root / "report.json").read_text())
    assert json.loads(printed.splitlines()[-1]) == json.loads(json.dumps(report, default=str))
    numbers = _numbers(report)
    tables = "\n".join(line for line in printed.splitlines()[:-1] if "│" in line)
    for text in re.findall(r"(?<![\w.-])-?\d[\d,]*\.\d+(?![\w.-])", tables):
        value = float(text.replace(",", ""))
        digits = len(text.partition(".")[2])
        assert any(abs(value - number) <= 0.51 * 10**-digits for number in numbers), text


def _numbers(value) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in _numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def test_a_second_run_changes_nothing_and_is_quick(root):
    def contents():
        return {
            path: path.stat().st_mtime_ns
            for path in root.rglob("*.parquet")
            if ".staging" not in path.parts and "training" not in path.parts
        }

    before = contents()
    _demo(root)
    assert contents() == before
    assert json.loads((root / "report.json").read_text())["seconds_total"] < 60

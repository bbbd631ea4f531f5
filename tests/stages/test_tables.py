"""`segmenter tables`: what lies under a root, and what it came from."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scored_world as world
from click.testing import CliRunner

from segmenter_plugin.cli import segmenter
from segmenter_plugin.data.partition import FORMAT_VERSION, MANIFEST, fingerprint, new_partition, new_published
from segmenter_plugin.data.staging import STAGING, staged
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.tables import tables

CUTOFF = datetime(2017, 10, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path):
    return world.world_config(tmp_path)


def _put(config, folder, manifest, rows=3, make=new_partition):
    with make(folder, config.root_path, manifest) as staging:
        pq.write_table(pa.table({"a": range(rows)}), staging / "part-00000.parquet")


def _rows(config):
    (rows,) = tables(config)["tables"].values()
    return {row["table"] if row["cutoff"] is None else f"{row['table']} {row['cutoff'][:10]}": row for row in rows}


@pytest.fixture
def built(config):
    """An event log, behaviour and labels, an artifact, scores, and published scores."""
    layout, segment = Layout.of(config), {"kept": 5, "sources": {"a.csv": "1-2", "b.csv": "3-4"}}
    (config.root_path / "events" / "segment-00001").mkdir(parents=True)
    pq.write_table(pa.table({"a": range(5)}), config.root_path / "events" / "segment-00001" / "part-00000.parquet")
    log = {"format_version": FORMAT_VERSION, "fingerprint": "e" * 64, "stage": "events", "segments": [segment]}
    (config.root_path / "events" / MANIFEST).write_text(json.dumps(log))
    behaviour = fingerprint("behaviour", {"events": "e" * 64, "cutoff": CUTOFF.isoformat()}, {})
    labels = fingerprint("labels", {"events": "e" * 64}, {})
    _put(config, layout.behaviour(CUTOFF), {"fingerprint": behaviour, "is_complete": True, "users": 3})
    rates = {"purchase_14d_label": 0.5, "spend_14d_label": None}
    _put(config, layout.labels(CUTOFF), {"fingerprint": labels, "base_rates": rates})
    trained = fingerprint("finetune", {"sources": [{"behaviour": behaviour, "labels": labels}]}, {})
    with new_partition(layout.encoder, config.root_path, {"fingerprint": trained, "model_version": "m1"}) as staging:
        (staging / "config.json").touch()
    scored = fingerprint("score", {"behaviour": behaviour, "model_version": "m1"}, {})
    _put(config, layout.scores(CUTOFF), {"fingerprint": scored, "model_version": "m1"})
    published = {"fingerprint": fingerprint("publish", {"source": scored}, {})}
    _put(config, layout.feature("user_scores_g1", CUTOFF), published, make=new_published)
    return layout


def test_each_output_is_listed_with_what_it_was_made_from(config, built):
    rows = _rows(config)
    assert {name: row["made_from"] for name, row in rows.items()} == {
        "artifacts/encoder": "behaviour/cutoff=20171001T000000Z, labels/cutoff=20171001T000000Z",
        "behaviour 2017-10-01": "events",
        "events": "2 files",
        "features/user_scores_g1 2017-10-01": "scores/cutoff=20171001T000000Z",
        "labels 2017-10-01": "events",
        "scores 2017-10-01": "behaviour/cutoff=20171001T000000Z, artifacts/encoder",
    }
    assert {name: row["rows"] for name, row in rows.items()} == {
        "artifacts/encoder": None,
        "behaviour 2017-10-01": 3,
        "events": 5,
        "features/user_scores_g1 2017-10-01": 3,
        "labels 2017-10-01": 3,
        "scores 2017-10-01": 3,
    }
    for row in rows.values():
        assert row["versions"] == 1
        assert row["bytes"] > 0


def test_what_an_output_was_made_from_and_is_no_more_there_is_said(config, built):
    _put(config, built.behaviour(CUTOFF), {"fingerprint": fingerprint("behaviour", {"events": "f" * 64}, {})}, rows=4)
    rows = _rows(config)
    assert rows["behaviour 2017-10-01"]["made_from"] == f"events {'f' * 8} (replaced since)"
    assert rows["scores 2017-10-01"]["made_from"].startswith("behaviour ")
    assert rows["scores 2017-10-01"]["made_from"].endswith("(replaced since), artifacts/encoder")
    assert rows["behaviour 2017-10-01"]["rows"] == 4
    assert rows["behaviour 2017-10-01"]["versions"] == 2


def test_censored_labels_and_events_that_end_early_are_said(config, built):
    manifest = {"fingerprint": "f", "is_complete": False}
    _put(config, built.behaviour(datetime(2017, 11, 1, tzinfo=UTC)), manifest)
    rows = _rows(config)
    assert rows["labels 2017-10-01"]["state"] == "censored: spend_14d_label"
    assert rows["behaviour 2017-10-01"]["state"] == "complete"
    assert rows["behaviour 2017-11-01"]["state"] == "events end before the cutoff"


def test_runs_that_write_and_runs_that_died_are_told_apart(config, built):
    dead = config.root_path / STAGING / f"labels.{'0' * 32}"
    dead.mkdir(parents=True)
    with staged(built.scores(CUTOFF), config.root_path):
        found = tables(config)
        assert found["being_written"] == ["scores/cutoff=20171001T000000Z"]
        assert found["leftovers"] == []  # the run that writes has removed it
    dead.mkdir()
    assert tables(config)["leftovers"] == [f"{STAGING}/{dead.name}"]


def test_an_empty_root_has_no_outputs(config):
    assert list(tables(config)["tables"].values()) == [[]]


def test_the_command_draws_a_table_and_ends_with_its_json(config, built, tmp_path):
    (tmp_path / "segmenter.toml").write_text(
        '[events]\npath = "e.parquet"\n[events.columns]\nuser_id = "u"\nitem_id = "i"\nevent_type = "k"\n'
        f'event_timestamp = "t"\n[events.types]\nview = ["v"]\n[store]\nroot = "{config.root_path}"\n'
    )
    result = CliRunner().invoke(segmenter, ["tables", "--config", str(tmp_path / "segmenter.toml")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "made_from" in result.stdout
    assert json.loads(lines[-1])["tables"] == json.loads(json.dumps(tables(config)["tables"]))

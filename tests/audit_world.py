"""A small shop that was built, trained, scored, judged and published honestly, without Spark and without training.

Its event log, behaviour and labels are what `build` makes; artifacts and evaluation hold what an audit reads of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import block_world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scored_world

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.block_files import write_block_table
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.bucket_block import BucketBlock
from segmenter_plugin.data.clock_recount import CountTraffic, added_traffic
from segmenter_plugin.data.event_log import EventLog, Segment, next_number
from segmenter_plugin.data.partition import data_files, fingerprint, new_partition, new_plain_folder, read_manifest
from segmenter_plugin.data.segment_part import part_file, write_events
from segmenter_plugin.data.staging import staged
from segmenter_plugin.data.targets import Target
from segmenter_plugin.data.user_buckets import buckets_of
from segmenter_plugin.schemas import TIMESTAMP, segments_schema
from segmenter_plugin.stages.derive import made_from
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish

USERS, BUCKETS = 80, 2
TRAINING = tuple(datetime(2017, month, 1, tzinfo=UTC) for month in (8, 9))
LATER = scored_world.LATER
#: End of the last training label's window.
THROUGH = datetime(2017, 9, 15, tzinfo=UTC)
COMPLETE = datetime(2017, 11, 1, tzinfo=UTC)
VERSION = "version-1"


def audit_config(root: Path, **sections: Any) -> Config:
    events = scored_world.world_config(root).events.model_dump(mode="json", exclude_none=True)
    events |= {"complete_through": COMPLETE.isoformat(), "columns": {**events["columns"], "event_id": "e"}}
    windows = {"observation_days": 60, "activity_days": [7, 28], "trend_columns": ["category"]}
    given = {"events": events, "windows": windows, "sequences": {"length": 8}} | sections
    tree = scored_world.world_config(root).model_dump(mode="json", exclude_none=True, include={"tasks", "training"})
    return parse_config(tree | given | {"store": {"root": str(root)}})


def events_of(config: Config, seed: int = 1, users: int = USERS, each: int = 30) -> pa.Table:
    """Clean events from May to October; some users are seen only early or only late."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(users), random.integers(1, 2 * each, users))
    rows = len(owner)
    first, length = datetime(2017, 5, 1, tzinfo=UTC), 184 * 86_400
    start = np.where(np.arange(users) % 10 == 0, 0.8, 0.0)[owner]
    seconds = ((start + (1 - start) * random.random(rows)) * length).astype(int)
    columns: dict[str, Any] = {
        "user_id": [f"user-{number:05d}" for number in owner],
        "event_timestamp": [first + timedelta(seconds=int(second)) for second in seconds],
        "event_type": random.choice(["view", "purchase"], rows, p=[0.7, 0.3]).tolist(),
        "item_id": [f"item{number}" for number in random.integers(0, 40, rows)],
        "event_id": [f"{seed}-{number}" for number in random.integers(0, 10 * rows, rows)],
        "category": random.choice(scored_world.CATEGORIES, rows).tolist(),
        "amount": np.round(random.gamma(2.0, 5.0, rows), 2),
    }
    schema = block_world.clean_schema(config)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def add_segment(config: Config, events: pa.Table, source: str) -> EventLog:
    """Append a segment to the event log, which is begun where there is none."""
    settings = config.events.model_dump(mode="json", exclude={"complete_through"})
    before = EventLog.read(config.root_path)
    log = before or EventLog(config.root_path, settings, BUCKETS, "string", ())
    number = next_number(config.root_path)
    buckets = buckets_of(events["user_id"], BUCKETS)
    with staged(config.root_path / "events", config.root_path) as staging:
        (staging.folder / "events").mkdir()
        kept = 0
        for bucket in range(BUCKETS):
            stored = BucketBlock.of([events.filter(pa.array(buckets == bucket))], config).stored
            write_events(stored.to_table(config), part_file(staging.folder / "events", bucket))
            kept += len(stored)
        times = sorted(events["event_timestamp"].to_pylist())
        first, last = times[0].isoformat(), times[-1].isoformat()
        segment = Segment(number, (number,), kept, kept, 0, 0, {}, first, last, {source: "1-2"})
        longer = log.with_segment(segment)
        longer.commit(staging.folder, before)
    return longer


def build(config: Config, log: EventLog, cutoffs: Sequence[datetime]) -> None:
    """Behaviour and labels of cutoffs, as `build` writes them."""
    layout, bucket_events = Layout.of(config), {}
    for number, paths in log.parts():
        bucket_events[number] = BucketBlock.of([pq.read_table(path) for path in paths.values()], config).resolved
    traffic = added_traffic((CountTraffic(part, config, tuple(cutoffs))() for part in log.parts()), config, cutoffs)
    for cutoff in cutoffs:
        tables = {
            number: next(iter(tables_as_of(events, [cutoff], COMPLETE, config, traffic)))
            for number, events in bucket_events.items()
        }
        times = {"cutoff": cutoff.isoformat(), "complete_through": COMPLETE.isoformat(), "lots": sorted(log.lots)}
        for kind, folder in (("behaviour", layout.behaviour(cutoff)), ("labels", layout.labels(cutoff))):
            made = made_from(kind, cutoff, log.fingerprint, COMPLETE, config)
            with new_partition(folder, config.root_path, {"stage": kind, "fingerprint": made} | times) as staging:
                for number, table in tables.items():
                    write_block_table(getattr(table, kind), part_file(staging, number), 32)


def build_world(config: Config) -> None:
    """All of it."""
    layout = Layout.of(config)
    events = events_of(config)
    add_segment(config, events.slice(0, len(events) // 2), "a.parquet")
    log = add_segment(config, events.slice(len(events) // 4), "b.parquet")
    build(config, log, [*TRAINING, LATER])
    _artifacts(config, layout)
    users = pa.concat_tables(pq.read_table(path, columns=["user_id"]) for path in data_files(layout.behaviour(LATER)))
    ids = users["user_id"].combine_chunks()
    people = scored_world.latent(len(ids), 3)
    scores = scored_world.scores_table(config, LATER, people, ids, trained_through=THROUGH, version=VERSION)
    scored_world.put(config, layout.scores(LATER), scores, fingerprint("score", {"model_version": VERSION}, {}))
    columns = {"user_id": ids, "event_timestamp": pa.array([LATER] * len(ids), TIMESTAMP)}
    columns |= {"segment_id": pa.array(range(len(ids))), "segment_name": pa.array(["regular"] * len(ids))}
    columns |= {name: scores[name] for name in ("model_version", "trained_through")}
    schema = segments_schema(pa.string())
    rest = {field.name: pa.array([1] * len(ids)).cast(field.type) for field in schema if field.name not in columns}
    segments = pa.table([(columns | rest)[name] for name in schema.names], schema)
    scored_world.put(config, layout.segments(LATER), segments, fingerprint("segment", {}, {}))
    _evaluation(config, layout)
    publish(config, [LATER], created_at="2017-10-02T00:00:00Z")


def _artifacts(config: Config, layout: Layout) -> None:
    prints = {
        f"{kind}/{cutoff_key(cutoff)}": read_manifest(getattr(layout, kind)(cutoff))["fingerprint"]
        for cutoff in TRAINING
        for kind in ("behaviour", "labels")
    }
    data = {"cutoffs": [cutoff.isoformat() for cutoff in TRAINING]}
    pretrained = fingerprint("pretrain", {name: prints[name] for name in prints if name.startswith("behaviour")}, {})
    told = {"made": pretrained, "version": "pretrained-1", "through": TRAINING[-1], "tasks": []}
    put_artifact(layout.pretrained, config, stage="pretrain", data=data, **told)
    tuned = fingerprint("finetune", prints | {"pretrained": str(pretrained)}, {})
    tasks = [Target(task, ("a", "b"), 1.0).to_json() for task in config.tasks]
    told = {"made": tuned, "version": VERSION, "through": THROUGH, "tasks": tasks}
    put_artifact(layout.encoder, config, stage="finetune", data=data, **told)


def put_artifact(
    folder: Path, config: Config, *, stage: str, made: str, version: str, through: datetime, tasks: Any, data: Any
) -> None:
    manifest = {"stage": stage, "fingerprint": made, "model_version": version, "trained_through": through.isoformat()}
    with new_partition(folder, config.root_path, manifest) as staging:
        tree = {"trained_through": through.isoformat(), "model_version": version, "tasks": tasks, "data": data}
        (staging / "config.json").write_text(json.dumps(tree))


def _evaluation(config: Config, layout: Layout) -> None:
    inputs = {f"labels {time.isoformat()}": read_manifest(layout.labels(time))["fingerprint"] for time in TRAINING}
    inputs |= {f"labels {LATER.isoformat()}": read_manifest(layout.labels(LATER))["fingerprint"]}
    inputs |= {"scores": read_manifest(layout.scores(LATER))["fingerprint"]}
    told = {"cutoff": LATER.isoformat(), "model_version": VERSION, "trained_through": THROUGH.isoformat()}
    manifest = {"stage": "evaluate", "fingerprint": fingerprint("evaluate", inputs, {})} | told
    with new_plain_folder(layout.evaluation(LATER), config.root_path, manifest) as staging:
        (staging / "metrics.json").write_text(json.dumps(told))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a stored file behind everybody's back."""
    table = pq.read_table(path, partitioning=None)
    pq.write_table(change(table), path, row_group_size=32)


def set_value(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    """A table with one value replaced."""
    place, values = table.schema.get_field_index(name), table[name].to_pylist()
    values[row] = value(values[row]) if callable(value) else value
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def edit_json(path: Path, **values: Any) -> None:
    """Change some keys of a stored JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

"""Segment: each scored user's segment, in partitions that publishing reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    fingerprint,
    is_current,
    new_partition,
    read_batches,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.errors import MissingStageError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.provenance import Provenance, read_provenance
from segmenter_plugin.stages.rescore import RESCORED

if TYPE_CHECKING:
    from segmenter_plugin.segments.model import SegmentModel
    from segmenter_plugin.segments.profile import SegmentProfile

logger = logging.getLogger(__name__)

READ_ROWS = 65_536
DATA_FILE = "part-00000.parquet"


def segment(config: Config, cutoffs: Sequence[datetime]) -> dict[str, Any]:
    """Give each user of each cutoff a segment.

    The first cutoff that an encoder scored fits its segments; later ones reuse them, so an id means the same at every
    cutoff of one ``model_version``. Writes ``segments/<cutoff>/`` under `schemas.segments_schema`.

    Args:
        config: The configuration.
        cutoffs: Scored cutoffs, in the order in which a model may be fitted.

    Returns:
        One entry a cutoff under ``cutoffs``, with its profile; the last one's profile is drawn, under ``tables``.

    Raises:
        MissingStageError: A cutoff has no scores or no behaviour.
        CutoffError: Nobody is scored.
        ConfigError: There are fewer different users than segments.
        ArtifactError: Scores or a segment model are unusable.
    """
    done = [_segment_one(config, _Inputs.of(config, cutoff)) for cutoff in cutoffs]
    result: dict[str, Any] = {"stage": "segment", "skipped": all(entry["skipped"] for entry in done), "cutoffs": done}
    if done:
        from segmenter_plugin.segments.profile import profile_rows

        result["tables"] = {f"segments as of {done[-1]['cutoff']}": profile_rows(done[-1]["profile"])}
    return result


@dataclass(frozen=True)
class _Inputs:
    layout: Layout
    cutoff: datetime
    provenance: Provenance
    scores: str
    behaviour: str

    @classmethod
    def of(cls, config: Config, cutoff: datetime) -> _Inputs:
        layout, time = Layout.of(config), cutoff.isoformat()
        scored = require_manifest(layout.scores(cutoff), f"segmenter score --cutoff {time}")
        built = require_manifest(layout.behaviour(cutoff), f"segmenter build --cutoff {time}")
        provenance = read_provenance(layout.scores(cutoff))
        return cls(layout, cutoff, provenance, scored["fingerprint"], built["fingerprint"])

    @property
    def model_folder(self) -> Path:
        # One folder a model_version: segmenting an old cutoff again must not displace what today's ids mean.
        return self.layout.segment_model / self.provenance.model_version[:16]


def _segment_one(config: Config, inputs: _Inputs) -> dict[str, Any]:
    cutoff = inputs.cutoff.isoformat()
    model_manifest = _require_model(config, inputs)
    made_from = fingerprint(
        "segment",
        {"scores": inputs.scores, "behaviour": inputs.behaviour, "model": model_manifest["fitted_on"]},
        _settings(config),
    )
    folder = inputs.layout.segments(inputs.cutoff)
    manifest = read_manifest(folder)
    skipped = manifest is not None and is_current(folder, made_from)
    if manifest is None or not skipped:
        from segmenter_plugin.segments.model import SegmentModel

        model = SegmentModel.load(inputs.model_folder)
        profiles = _profiles(config, inputs, model)
        manifest = {
            "stage": "segment",
            "fingerprint": made_from,
            "cutoff": cutoff,
            "users": sum(profile.users for profile in profiles),
            "profile": [profile.as_dict() for profile in profiles],
        } | inputs.provenance.as_dict()
        with new_partition(folder, inputs.layout.root, manifest) as staging:
            _write(config, inputs, model, staging / DATA_FILE)
    logger.info("segment %s: %s", cutoff, "nothing changed, skipped" if skipped else f"{manifest['users']} users")
    kept = {name: manifest[name] for name in ("users", "model_version", "trained_through", "profile")}
    fitted = {"fitted_on": model_manifest["fitted_on"]["cutoff"]}
    return {"cutoff": cutoff, "skipped": skipped, "path": str(folder)} | fitted | kept


def _settings(config: Config) -> dict[str, Any]:
    tasks = [task.model_dump(mode="json") for task in config.tasks]
    return {"segments": config.segments.model_dump(mode="json"), "tasks": tasks}


def _require_model(config: Config, inputs: _Inputs) -> dict[str, Any]:
    """The manifest of this model_version's segments, fitted on this cutoff where there are none."""
    # The scores' fingerprint is left out on purpose: segments fitted once are kept while the encoder stays.
    made_from = fingerprint("segment model", {"model_version": inputs.provenance.model_version}, _settings(config))
    manifest = read_manifest(inputs.model_folder)
    if manifest is not None and manifest["fingerprint"] == made_from:
        return manifest
    if RESCORED in (read_manifest(inputs.layout.scores(inputs.cutoff)) or {}):
        raise MissingStageError(
            f"segments would be fitted on the scores of {inputs.cutoff.isoformat()}, which hold only the users who "
            "changed; all are needed once for each model.",
            hint="run `segmenter segment` first for the cutoff that --changed-since goes on from.",
        )
    from segmenter_plugin.segments.fit import fit_segments
    from segmenter_plugin.segments.naming import name_segments

    model = fit_segments(_scores(config, inputs), config)
    profiles = _profiles(config, inputs, model)
    names = name_segments(profiles)
    manifest = {
        "stage": "segment model",
        "fingerprint": made_from,
        "fitted_on": {"cutoff": inputs.cutoff.isoformat(), "scores": inputs.scores, "behaviour": inputs.behaviour},
        "profile": [profile.named(name).as_dict() for profile, name in zip(profiles, names, strict=True)],
    } | inputs.provenance.as_dict()
    with new_partition(inputs.model_folder, inputs.layout.root, manifest) as staging:
        replace(model, names=tuple(names)).save(staging)
    logger.info("segments fitted on %s: %s", inputs.cutoff.isoformat(), "; ".join(names))
    return manifest


def _scores(config: Config, inputs: _Inputs) -> Iterator[pa.RecordBatch]:
    from segmenter_plugin.segments.space import space_columns

    provenance = [Columns.event_timestamp, Columns.model_version, Columns.trained_through]
    columns = [*space_columns(config), *provenance]
    return read_batches(inputs.layout.scores(inputs.cutoff), columns, READ_ROWS)


def _profiles(config: Config, inputs: _Inputs, model: SegmentModel) -> list[SegmentProfile]:
    """What each segment's users are like at this cutoff; holds one id a user, and one batch."""
    from segmenter_plugin.segments.profile import ProfileSums, behaviour_columns

    sums = ProfileSums(config, len(model.names))
    users, segments = [], []
    for batch in _scores(config, inputs):
        ids = model.assign(batch, config)
        sums.add_scores(batch, ids)
        users.append(batch.column(Columns.user_id))
        segments.append(pa.array(ids))
    known, found = pa.concat_arrays(users), pa.concat_arrays(segments)
    for batch in read_batches(inputs.layout.behaviour(inputs.cutoff), behaviour_columns(config), READ_ROWS):
        places = pc.index_in(batch.column(Columns.user_id).cast(known.type), value_set=known)
        scored = pc.is_valid(places)
        sums.add_behaviour(batch.filter(scored), found.take(places.filter(scored)).to_numpy())
    return [profile.named(name) for profile, name in zip(sums.profiles(), model.names, strict=True)]


def _write(config: Config, inputs: _Inputs, model: SegmentModel, path: Path) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for batch in _scores(config, inputs):
            labelled = model.label(batch, config)
            writer = writer or pq.ParquetWriter(path, labelled.schema, compression="zstd")
            writer.write_batch(labelled)
    finally:
        if writer is not None:
            writer.close()

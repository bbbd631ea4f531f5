"""Segment: each scored user's segment, in partitions that publishing reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from segmenter_plugin.stages.segment_identity import (
    FIT,
    PARTIAL,
    append_record,
    before,
    chosen_names,
    earlier_fit,
    known_ids,
    past_of,
    save_reference,
)

if TYPE_CHECKING:
    from segmenter_plugin.segments.identity import Change, Past
    from segmenter_plugin.segments.model import SegmentModel
    from segmenter_plugin.segments.profile import SegmentProfile

logger = logging.getLogger(__name__)

READ_ROWS = 65_536
DATA_FILE = "part-00000.parquet"


def segment(config: Config, cutoffs: Sequence[datetime]) -> dict[str, Any]:
    """Give each user of each cutoff a segment.

    The first cutoff that an encoder scored fits its segments; later ones reuse them. A fit continues the segments of
    the newest partition up to its cutoff, so an id means the same over retrains; ``segments/history`` says which ids
    came and went. A user stays in its segment until it is clearly past the border (`segments.model`). Writes
    ``segments/<cutoff>/`` under `schemas.segments_schema`.

    Args:
        config: The configuration.
        cutoffs: Scored cutoffs, in the order in which a model may be fitted.

    Returns:
        One entry a cutoff under ``cutoffs``, with its profile; the last one's profile is drawn, under ``tables``.

    Raises:
        MissingStageError: A cutoff has no scores or no behaviour.
        CutoffError: Nobody is scored.
        ConfigError: There are fewer different users than clusters, or `[segments] names` is unusable.
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
    #: Only the users whose behaviour changed are scored.
    partial: bool

    @classmethod
    def of(cls, config: Config, cutoff: datetime) -> _Inputs:
        layout, time = Layout.of(config), cutoff.isoformat()
        scored = require_manifest(layout.scores(cutoff), f"segmenter score --cutoff {time}")
        built = require_manifest(layout.behaviour(cutoff), f"segmenter build --cutoff {time}")
        provenance = read_provenance(layout.scores(cutoff))
        return cls(layout, cutoff, provenance, scored["fingerprint"], built["fingerprint"], RESCORED in scored)

    @property
    def model_folder(self) -> Path:
        # One folder a model_version: segmenting an old cutoff again must not displace what today's ids mean.
        return self.layout.segment_model / self.provenance.model_version[:16]


def _segment_one(config: Config, inputs: _Inputs) -> dict[str, Any]:
    from segmenter_plugin.segments.identity import NOTHING

    cutoff, layout = inputs.cutoff.isoformat(), inputs.layout
    model_manifest = _require_model(config, inputs)
    past: Past = NOTHING
    earlier: list[str] = []
    if config.segments.keep_ids:
        past, earlier = before(layout, inputs.cutoff, inputs.model_folder, model_manifest)
    chosen = chosen_names(config)
    made_from = fingerprint(
        "segment",
        {
            "scores": inputs.scores,
            "behaviour": inputs.behaviour,
            "model": model_manifest["fitted_on"],
            "fit": model_manifest[FIT],
            "before": earlier,
        },
        _settings(config) | {"names": {str(segment): name for segment, name in sorted(chosen.items())}},
    )
    folder = layout.segments(inputs.cutoff)
    manifest = read_manifest(folder)
    skipped = manifest is not None and is_current(folder, made_from)
    if manifest is None or not skipped:
        manifest = {"stage": "segment", "fingerprint": made_from, "cutoff": cutoff}
        manifest |= inputs.provenance.as_dict()
        manifest[FIT], manifest[PARTIAL] = model_manifest[FIT], inputs.partial
        _write(config, inputs, manifest, past, chosen)
    logger.info("segment %s: %s", cutoff, "nothing changed, skipped" if skipped else f"{manifest['users']} users")
    kept = {name: manifest[name] for name in ("users", "model_version", "trained_through", "profile")}
    fitted = {"fitted_on": model_manifest["fitted_on"]["cutoff"]}
    return {"cutoff": cutoff, "skipped": skipped, "path": str(folder)} | fitted | kept


def _settings(config: Config, *, fit_only: bool = False) -> dict[str, Any]:
    tasks = [task.model_dump(mode="json") for task in config.tasks]
    # Margins and names are of assignments: changing them must not fit anew.
    left_out = {"names"} | ({"margin", "tier_margin"} if fit_only else set())
    return {"segments": config.segments.model_dump(mode="json", exclude=left_out), "tasks": tasks}


def _require_model(config: Config, inputs: _Inputs) -> dict[str, Any]:
    """The manifest of this model_version's segments, fitted on this cutoff where there are none."""
    # The scores' fingerprint is left out on purpose: segments fitted once are kept while the encoder stays.
    settings = _settings(config, fit_only=True)
    made_from = fingerprint("segment model", {"model_version": inputs.provenance.model_version}, settings)
    manifest = read_manifest(inputs.model_folder)
    if manifest is not None and manifest["fingerprint"] == made_from:
        return manifest
    if inputs.partial:
        raise MissingStageError(
            f"segments would be fitted on the scores of {inputs.cutoff.isoformat()}, which hold only the users who "
            "changed; all are needed once for each model.",
            hint="run `segmenter segment` first for the cutoff that --changed-since goes on from.",
        )
    return _fit(config, inputs, made_from)


def _fit(config: Config, inputs: _Inputs, made_from: str) -> dict[str, Any]:
    from segmenter_plugin.segments.fit import fit_segments
    from segmenter_plugin.segments.identity import NOTHING
    from segmenter_plugin.segments.naming import name_segments, one_line

    cutoff, layout = inputs.cutoff.isoformat(), inputs.layout
    fit = f"{made_from[:16]}@{cutoff}"
    earlier = earlier_fit(layout, inputs.cutoff, fit)
    past = past_of(layout, earlier, fit)
    model, change = fit_segments(_scores(config, inputs), config, past)
    # The users of the fit itself are told with the margins at work, as they will be assigned.
    profiles = _profiles(config, inputs, model, past if config.segments.keep_ids else NOTHING)
    names = name_segments(profiles, past.names)
    continues = None
    if len(past.users) and config.segments.keep_ids and earlier.cutoff is not None:
        continues = {"fit": earlier.manifests[0][FIT], "cutoff": earlier.cutoff.isoformat()}
    manifest = {
        "stage": "segment model",
        "fingerprint": made_from,
        "fitted_on": {"cutoff": cutoff, "scores": inputs.scores, "behaviour": inputs.behaviour},
        FIT: fit,
        "continues": continues,
        "change": change.as_dict(),
        "profile": [
            profile.named(name, one_line(profile)).as_dict() for profile, name in zip(profiles, names, strict=True)
        ],
    } | inputs.provenance.as_dict()
    with new_partition(inputs.model_folder, layout.root, manifest) as staging:
        model.named(tuple(names)).save(staging)
        if continues is not None:
            save_reference(past, staging)
        # Before the model appears: ids that a dead run took are not taken again.
        append_record(layout, _record(manifest, change))
    logger.info("segments fitted on %s: %s", cutoff, "; ".join(names))
    return manifest


def _record(manifest: Mapping[str, Any], change: Change) -> dict[str, Any]:
    fitted_on = {"cutoff": manifest["fitted_on"]["cutoff"], "model_version": manifest["model_version"]}
    return {FIT: manifest[FIT], "from": manifest["continues"]} | fitted_on | change.as_dict()


def _scores(config: Config, inputs: _Inputs) -> Iterator[pa.RecordBatch]:
    from segmenter_plugin.segments.space import space_columns

    provenance = [Columns.event_timestamp, Columns.model_version, Columns.trained_through]
    columns = [*space_columns(config), *provenance]
    return read_batches(inputs.layout.scores(inputs.cutoff), columns, READ_ROWS)


def _profiles(
    config: Config,
    inputs: _Inputs,
    model: SegmentModel,
    past: Past,
    writer: _Writer | None = None,
) -> list[SegmentProfile]:
    """What each segment's users are like at this cutoff; holds one id a user, and one batch.

    Args:
        config: The configuration.
        inputs: Of the cutoff.
        model: That assigns.
        past: Where users were.
        writer: Takes each batch with its assignment.
    """
    from segmenter_plugin.segments.profile import ProfileSums, behaviour_columns

    sums = ProfileSums(config, len(model.ids))
    users, segments = [], []
    for batch in _scores(config, inputs):
        found = model.assign(batch, config, past.of(batch.column(Columns.user_id)))
        sums.add_scores(batch, found.places)
        sums.add_stability(found.stability, found.places)
        users.append(batch.column(Columns.user_id))
        segments.append(pa.array(found.places))
        if writer is not None:
            writer.write(model.label(batch, found, writer.names))
    known, places_of = pa.concat_arrays(users), pa.concat_arrays(segments)
    for batch in read_batches(inputs.layout.behaviour(inputs.cutoff), behaviour_columns(config), READ_ROWS):
        places = pc.index_in(batch.column(Columns.user_id).cast(known.type), value_set=known)
        scored = pc.is_valid(places)
        sums.add_behaviour(batch.filter(scored), places_of.take(places.filter(scored)).to_numpy())
    return [profile.of(segment) for profile, segment in zip(sums.profiles(), model.ids, strict=True)]


class _Writer:
    """Labelled rows into one file, which is there once the first batch is."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.names = names
        self._path = path
        self._file: pq.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        self._file = self._file or pq.ParquetWriter(self._path, batch.schema, compression="zstd")
        self._file.write_batch(batch)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _write(config: Config, inputs: _Inputs, manifest: dict[str, Any], past: Past, chosen: Mapping[int, str]) -> None:
    """Write the partition, and add to its manifest what its users are like."""
    from segmenter_plugin.segments.model import SegmentModel
    from segmenter_plugin.segments.naming import one_line, overridden

    model = SegmentModel.load(inputs.model_folder)
    names = overridden(model.names, model.ids, chosen, known_ids(inputs.layout))
    with new_partition(inputs.layout.segments(inputs.cutoff), inputs.layout.root, manifest) as staging:
        writer = _Writer(staging / DATA_FILE, tuple(names))
        try:
            profiles = _profiles(config, inputs, model, past, writer)
        finally:
            writer.close()
        manifest["users"] = sum(profile.users for profile in profiles)
        manifest["cells"] = {str(segment): cell for segment, cell in model.cells.items()}
        manifest["clusters"] = model.clusters.count
        manifest["profile"] = [
            profile.named(name, one_line(profile)).as_dict() for profile, name in zip(profiles, names, strict=True)
        ]

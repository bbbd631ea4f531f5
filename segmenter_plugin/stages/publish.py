"""Write feature rows where Feast's offline store reads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.clock import cutoff_key, publication_time
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.partition import (
    data_files,
    fingerprint,
    read_batches,
    require_manifest,
)
from segmenter_plugin.errors import UserError
from segmenter_plugin.schemas import activity_fields, provenance_fields, score_fields, segment_fields, user_type_of
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.store.publications import publications_of
from segmenter_plugin.store.publish import USER_TYPE, Tally, feature_rows, feature_schema

logger = logging.getLogger(__name__)

#: Rows held at once; at 256 float32 a user, 32 MB of embeddings.
BATCH_ROWS = 32_768


@dataclass(frozen=True)
class _Publication:
    """One view at one cutoff, and where its rows come from."""

    folder: str
    source: Path
    command: str
    columns: list[pa.Field]


def publish(config: Config, cutoffs: Sequence[datetime], *, created_at: str | None = None) -> dict[str, Any]:
    """Publish activity, embedding, scores and segment of each cutoff.

    A view whose rows would be the same is left as it is, its ``created_timestamp`` included. The views of one cutoff
    are checked before any of them is replaced.

    Args:
        config: The shop.
        cutoffs: Already built, scored and segmented.
        created_at: ``created_timestamp`` of all rows of this call instead of the present time; ISO 8601.

    Returns:
        ``published`` and ``skipped`` (view and cutoff), ``rows`` and ``created_timestamp`` of this call.

    Raises:
        MissingStageError: An earlier stage has not been run for a cutoff.
        StoreError: Rows that must not be served, see `store.publish.feature_rows`.
    """
    if not cutoffs:
        raise UserError("no cutoff was given, so there is nothing to publish.", hint="name one with --cutoff.")
    created = publication_time(created_at)
    result: dict[str, Any] = {"published": [], "skipped": [], "rows": 0, "created_timestamp": created.isoformat()}
    for cutoff in sorted(set(cutoffs)):
        _publish_cutoff(config, cutoff, created, result)
    return result


def _publish_cutoff(config: Config, cutoff: datetime, created: datetime, result: dict[str, Any]) -> None:
    with ExitStack() as whole:
        for publication in _publications(config, cutoff):
            name = f"{publication.folder}/{cutoff_key(cutoff)}"
            made_from = _made_from(config, publication)
            place = publications_of(config, publication.folder)
            present = place.manifest(cutoff)
            if present is not None and present["fingerprint"] == made_from:
                logger.info("%s is current", name)
                result["skipped"].append(name)
                continue
            manifest: dict[str, Any] = {
                "stage": "publish",
                "fingerprint": made_from,
                "created_timestamp": created.isoformat(),
            }
            staging = whole.enter_context(place.new(cutoff, manifest))
            tally, user_type = _write(config, publication, cutoff, created, staging)
            manifest |= {USER_TYPE: str(user_type), "rows": tally.rows, "seen_after_cutoff": tally.seen_after_cutoff}
            _report(name, tally)
            result["published"].append(name)
            result["rows"] += tally.rows


def _publications(config: Config, cutoff: datetime) -> list[_Publication]:
    layout, names = Layout.of(config), FeatureNames.of(config)
    origin = provenance_fields()
    embedding = pa.field(Columns.embedding, pa.list_(pa.float32()))
    behaviour, scores, segments = layout.behaviour(cutoff), layout.scores(cutoff), layout.segments(cutoff)
    parts = (
        (names.activity, behaviour, "build", activity_fields(config)),
        (names.embedding, scores, "score", [embedding, *origin]),
        (names.scores, scores, "score", [*score_fields(config), *origin]),
        (names.segment, segments, "segment", [*segment_fields(), *origin]),
    )
    return [
        _Publication(
            folder,
            source,
            f"segmenter {verb} --cutoff {cutoff:%Y-%m-%dT%H:%M:%SZ}",
            columns,
        )
        for folder, source, verb, columns in parts
    ]


def _made_from(config: Config, publication: _Publication) -> str:
    source = require_manifest(publication.source, publication.command)
    columns = [f"{column.name}: {column.type}" for column in publication.columns]
    settings = {"join_key": config.store.join_key, "columns": columns}
    return fingerprint("publish", {"source": source["fingerprint"]}, settings)


def _write(
    config: Config, publication: _Publication, cutoff: datetime, created: datetime, staging: Path
) -> tuple[Tally, pa.DataType]:
    files = data_files(publication.source)
    tally = Tally()
    user_type = user_type_of(pq.read_schema(files[0])) if files else pa.string()
    schema = feature_schema(publication.columns, config.store.join_key, user_type)
    wanted = [Columns.user_id, Columns.event_timestamp, *(column.name for column in publication.columns)]
    rows = feature_rows(
        read_batches(publication.source, wanted, BATCH_ROWS), schema=schema, cutoff=cutoff, created=created, tally=tally
    )
    with pq.ParquetWriter(staging / "part-00000.parquet", schema, compression="zstd") as writer:
        for batch in rows:
            writer.write_batch(batch)
    return tally, user_type


def _report(name: str, tally: Tally) -> None:
    logger.info("%s: %d rows", name, tally.rows)
    if tally.seen_after_cutoff:
        logger.warning(
            "%s: the weights of %d rows have seen events after this cutoff; they may be served, but a training frame "
            "refuses them (segmenter backfill scores history without that)",
            name,
            tally.seen_after_cutoff,
        )

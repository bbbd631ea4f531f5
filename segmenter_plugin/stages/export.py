"""Write client_ids and embeddings of one cutoff as aligned arrays."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    data_files,
    fingerprint,
    is_current,
    new_plain_folder,
    read_batches,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.data.staging import STAGING
from segmenter_plugin.errors import UserError
from segmenter_plugin.schemas import user_type_of
from segmenter_plugin.stages.layout import Layout

logger = logging.getLogger(__name__)

#: Rows held at once.
BATCH_ROWS = 32_768


def export(config: Config, cutoff: datetime, *, file_format: str = "npy", out: Path | None = None) -> dict[str, Any]:
    """Export the embeddings of a scored cutoff.

    Args:
        config: The shop.
        cutoff: Already scored.
        file_format: ``npy``: ``client_ids.npy`` (int64; ``client_ids.parquet`` for string ids) and ``embeddings.npy``
            (N, D) float16, in the same order.
        out: Folder to write; by default ``<root>/export/<cutoff>``. It appears whole or not at all.

    Returns:
        ``folder``, ``users`` (N), ``embedding_size`` (D), ``skipped``.

    Raises:
        UserError: The format is unknown, or `out` holds something else.
        MissingStageError: The cutoff has not been scored.
        StoreError: See `store.arrays.write_embeddings`.
    """
    from segmenter_plugin.store.arrays import write_client_ids, write_embeddings

    if file_format != "npy":
        raise UserError(f"the format {file_format!r} is not known; npy is.", hint="leave --format out.")
    layout = Layout.of(config)
    source = layout.scores(cutoff)
    folder = out or layout.root / "export" / cutoff_key(cutoff)
    scored = require_manifest(source, f"segmenter score --cutoff {cutoff:%Y-%m-%dT%H:%M:%SZ}")
    made_from = fingerprint("export", {"scores": scored["fingerprint"]}, {"format": file_format})
    _require_ours(folder)
    if is_current(folder, made_from):
        logger.info("%s is current", folder)
        made = require_manifest(folder, "segmenter export")
        return {"folder": str(folder), "skipped": True} | {key: made[key] for key in ("users", "embedding_size")}
    files = data_files(source)
    users = sum(pq.read_metadata(path).num_rows for path in files)
    user_type = user_type_of(pq.read_schema(files[0])) if files else pa.string()
    manifest: dict[str, Any] = {"stage": "export", "fingerprint": made_from, "users": users}
    staging_root = layout.root if folder.is_relative_to(layout.root) else folder.absolute().parent
    with new_plain_folder(folder, staging_root, manifest) as staging:
        write_client_ids(read_batches(source, [Columns.user_id], BATCH_ROWS), users, user_type, staging)
        manifest["embedding_size"] = write_embeddings(
            read_batches(source, [Columns.embedding], BATCH_ROWS), users, staging
        )
    with suppress(OSError):  # another run may be staging there
        (staging_root / STAGING).rmdir()
    logger.info("%s: %d embeddings of %d values", folder, users, manifest["embedding_size"])
    return {"folder": str(folder), "skipped": False, "users": users, "embedding_size": manifest["embedding_size"]}


def _require_ours(folder: Path) -> None:
    """Replacing a folder deletes what it holds, so it must be empty, absent or an earlier export."""
    if folder.exists() and any(folder.iterdir()) and read_manifest(folder) is None:
        raise UserError(f"{str(folder)!r} holds files that are not an export.", hint="name another folder with --out.")

"""What is on disk of segments before: earlier assignments, and what became of ids at each fit."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.clock import parse_cutoff_key, parse_time
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import current, fingerprint, new_partition, read_batches, read_manifest
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.segments.identity import Past

#: In a segment model's folder: the assignment that it continues.
REFERENCE_FILE = "reference.parquet"
#: Keys of a partition's manifest.
FIT, PARTIAL = "fit", "partial"
_READ_ROWS = 65_536


@dataclass(frozen=True)
class Earlier:
    """Partitions of one fit, the newest first, down to one that holds every user.

    Attributes:
        folders: Where they lie.
        manifests: Theirs.
        cutoff: Of the newest.
    """

    folders: tuple[Path, ...] = ()
    manifests: tuple[Mapping[str, Any], ...] = ()
    cutoff: datetime | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every user that was there then is found."""
        return bool(self.manifests) and not self.manifests[-1][PARTIAL]

    def table(self) -> pa.Table:
        """The newest segment of each user: ``user_id``, ``segment_id``."""
        return newest_of(
            pa.Table.from_batches(list(read_batches(folder, [Columns.user_id, Columns.segment_id], _READ_ROWS)))
            for folder in self.folders
        )


def newest_of(tables: Iterator[pa.Table]) -> pa.Table:
    """One row a user, from the first table that has it."""
    found: pa.Table | None = None
    for table in tables:
        if found is None:
            found = table
            continue
        known = pc.is_in(table.column(Columns.user_id), value_set=found.column(Columns.user_id).combine_chunks())
        found = pa.concat_tables([found, table.filter(pc.invert(known))])
    return pa.table({Columns.user_id: [], Columns.segment_id: []}) if found is None else found


def earlier_than(layout: Layout, cutoff: datetime, fit: str) -> Earlier:
    """Earlier partitions of a fit."""
    found = _partitions(layout)
    return _down_to_whole([entry for entry in found if entry[0] < cutoff and entry[2][FIT] == fit])


def earlier_fit(layout: Layout, cutoff: datetime, fit: str) -> Earlier:
    """The newest partitions up to a cutoff of any fit but one: what that one continues."""
    found = [entry for entry in _partitions(layout) if entry[0] <= cutoff and entry[2][FIT] != fit]
    return _down_to_whole([entry for entry in found if entry[2][FIT] == found[0][2][FIT]])


def _partitions(layout: Layout) -> list[tuple[datetime, Path, dict[str, Any]]]:
    """Those that tell which fit made them, the newest cutoff first."""
    folder = layout.segment_history.parent
    found = []
    for path in sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []:
        cutoff, manifest = parse_cutoff_key(path.name), read_manifest(path)
        if cutoff is not None and manifest is not None and FIT in manifest:
            found.append((cutoff, path, manifest))
    return sorted(found, key=lambda entry: entry[0], reverse=True)


def _down_to_whole(found: list[tuple[datetime, Path, dict[str, Any]]]) -> Earlier:
    partial = [manifest[PARTIAL] for _, _, manifest in found]
    count = partial.index(False) + 1 if False in partial else len(found)
    chosen = found[:count]
    return Earlier(
        tuple(path for _, path, _ in chosen),
        tuple(manifest for _, _, manifest in chosen),
        chosen[0][0] if chosen else None,
    )


def past_of(layout: Layout, earlier: Earlier, key: str) -> Past:
    """What a new fit continues.

    Args:
        layout: Of the root.
        earlier: From `earlier_fit`.
        key: Of the new fit: its own record, of a run that died, does not count.
    """
    from segmenter_plugin.segments.identity import NOTHING, Past

    free = 1 + max((number for record in records(layout, but=key) for number in _ids(record)), default=-1)
    if not earlier.manifests:
        return Past(NOTHING.users, NOTHING.segments, next_id=free)
    table, newest = earlier.table(), earlier.manifests[0]
    return Past(
        users=table.column(Columns.user_id).combine_chunks(),
        segments=table.column(Columns.segment_id).to_numpy(),
        cells={int(segment): (tier, cluster) for segment, (tier, cluster) in newest["cells"].items()},
        clusters=newest["clusters"],
        next_id=free,
        names={int(profile["segment_id"]): profile["name"] for profile in newest["profile"]},
    )


def records(layout: Layout, but: str | None = None) -> list[dict[str, Any]]:
    """What happened at each fit, the oldest first."""
    history = read_manifest(layout.segment_history) or {"records": []}
    return [record for record in history["records"] if record[FIT] != but]


def known_ids(layout: Layout) -> set[int]:
    """Every id that a segment has ever had."""
    return {number for record in records(layout) for number in _ids(record)}


def _ids(record: Mapping[str, Any]) -> Iterator[int]:
    yield from (int(number) for number in (*record["kept"], *record["births"], *record["deaths"]))


def append_record(layout: Layout, record: Mapping[str, Any]) -> None:
    """Add what happened at a fit; a record of the same fit, whose run died, is replaced."""
    manifest: dict[str, Any] = {"stage": "segment history", "fingerprint": ""}
    with new_partition(layout.segment_history, layout.root, manifest):
        # Read under the partition's lock, or two fits at a time would lose one's record.
        manifest["records"] = [*records(layout, but=record[FIT]), dict(record)]
        manifest["fingerprint"] = fingerprint("segment history", {"records": manifest["records"]}, {})


def save_reference(past: Past, folder: Path) -> None:
    """Keep the assignment that a model continues beside the model."""
    table = pa.table({Columns.user_id: past.users, Columns.segment_id: past.segments})
    pq.write_table(table, folder / REFERENCE_FILE, compression="zstd")


def before(layout: Layout, cutoff: datetime, model_folder: Path, manifest: Mapping[str, Any]) -> tuple[Past, list[str]]:
    """Each user's segment before a cutoff, and the fingerprints of what says so.

    That is the newest of the same fit's earlier partitions; where these do not reach back to a whole one, the
    assignment that the model continued when it was fitted. Nothing after the cutoff is looked at.

    Args:
        layout: Of the root.
        cutoff: Whose users are to be assigned.
        model_folder: Of the segment model.
        manifest: Its manifest.
    """
    from segmenter_plugin.segments.identity import NOTHING, Past

    earlier = earlier_than(layout, cutoff, manifest[FIT])
    made_from = [str(entry["fingerprint"]) for entry in earlier.manifests]
    tables = [earlier.table()] if earlier.folders else []
    origin = manifest["continues"]
    if not earlier.is_whole and origin is not None and parse_time(origin["cutoff"]) <= cutoff:
        tables.append(pq.read_table(current(model_folder) / REFERENCE_FILE))
        made_from.append(str(manifest["fingerprint"]))
    if not tables:
        return NOTHING, []
    table = newest_of(iter(tables))
    segments = table.column(Columns.segment_id).to_numpy().astype(np.int64)
    return Past(table.column(Columns.user_id).combine_chunks(), segments), made_from


def chosen_names(config: Config) -> dict[int, str]:
    """Names that a person gave to segments, by id; none without a file.

    Raises:
        ConfigError: The file is absent or not of the form that it should have.
    """
    path = config.segments.names
    if path is None:
        return {}
    hint = 'write a table [names] with lines such as 3 = "Families".'
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"[segments] names = {path!r} cannot be read: {error}.", hint=hint) from error
    names = tree.get("names")
    if set(tree) != {"names"} or not isinstance(names, dict):
        raise ConfigError(f"{path!r} holds {sorted(tree)}; a table [names] alone is allowed.", hint=hint)
    wrong = [key for key, name in names.items() if not key.isdecimal() or not isinstance(name, str) or not name.strip()]
    if wrong:
        raise ConfigError(f"{path!r}: the entries {wrong} are not a segment's number and its name.", hint=hint)
    return {int(key): name.strip() for key, name in names.items()}

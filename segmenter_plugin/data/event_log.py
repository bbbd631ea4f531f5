"""The event log: clean events of one shop, in segments that are never changed, and a manifest that names them.

A segment is a folder ``events/segment-00007`` with at most one Parquet file a bucket of users, ``part-00012.parquet``:
what one lot of the owner's events brought of these users. Refused rows of the same lot lie in
``quarantine/segment-00007``. ``events/manifest.json`` says which segments make up the log, and which of the owner's
files each has consumed.

A change writes a segment aside, renames it in, and then replaces the manifest: a reader sees the log before or the log
after. Last it removes what neither of the two names, such as the segment of a process that died; what it has replaced
stays until the next change, for who is still reading it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from segmenter_plugin.clock import publication_time
from segmenter_plugin.data.durable import replace_text, sync_tree
from segmenter_plugin.data.partition import FORMAT_VERSION, MANIFEST, data_files, fingerprint, read_manifest
from segmenter_plugin.errors import ConcurrentRunError

EVENTS, QUARANTINE = "events", "quarantine"
#: More segments than this are merged into one: each costs a task a file to open and a run to merge.
MOST_SEGMENTS = 8
_NAME = re.compile(r"segment-(\d{5,})")
_PART = re.compile(r"part-(\d{5,})\.parquet")


@dataclass(frozen=True)
class Segment:
    """What one lot of events brought, or several that were merged.

    Attributes:
        number: Grows from segment to segment.
        lots: Numbers of the segments that were merged into this one; its own if none were.
            Refused rows lie under these.
        rows: Rows of the owner.
        kept: Rows that are stored.
        duplicates: Rows equal to another of the same lot.
        capped: Rows of bots beyond what is kept of a day.
        quarantined: Refused rows by reason.
        first: Earliest time of a valid event, ISO 8601; None where there is none.
        last: Latest time of a valid event.
        sources: The owner's files that were consumed, each with its state (`partition.file_fingerprints`).
        columns: The owner's columns with their types, as the source calls them.
    """

    number: int
    lots: tuple[int, ...]
    rows: int
    kept: int
    duplicates: int
    capped: int
    quarantined: dict[str, int]
    first: str | None
    last: str | None
    sources: dict[str, str]
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its folders."""
        return _name(self.number)


@dataclass(frozen=True)
class EventLog:
    """The segments that a manifest names.

    Attributes:
        root: The store's root; the log lies in ``root/events`` and ``root/quarantine``.
        settings: `[events]` as far as it says what becomes of a row.
        buckets: Into how many buckets users are split; the same in all segments.
        user_type: ``string`` or ``int64``.
        segments: Oldest first.
    """

    root: Path
    settings: Mapping[str, Any]
    buckets: int
    user_type: str
    segments: tuple[Segment, ...]

    @classmethod
    def read(cls, root: Path) -> Self | None:
        """The log under a root, or None where there is none.

        Raises:
            FormatVersionError: It was written by a newer version.
        """
        manifest = read_manifest(root / EVENTS)
        if manifest is None or "segments" not in manifest:
            return None
        segments = tuple(Segment(**entry | {"lots": tuple(entry["lots"])}) for entry in manifest["segments"])
        return cls(root, manifest["settings"], manifest["buckets"], manifest["user_type"], segments)

    @property
    def fingerprint(self) -> str:
        """Equal for logs of the same files under the same settings, in however many lots they came."""
        return content_fingerprint(self.sources, self.settings)

    @property
    def sources(self) -> dict[str, str]:
        """All files that were consumed, each with its state."""
        return {path: state for segment in self.segments for path, state in segment.sources.items()}

    @property
    def columns(self) -> dict[str, str]:
        """The owner's columns with the type that each had last."""
        return {name: kind for segment in self.segments for name, kind in segment.columns.items()}

    @property
    def lots(self) -> frozenset[int]:
        """Numbers of all lots that were consumed."""
        return frozenset(lot for segment in self.segments for lot in segment.lots)

    @property
    def begins(self) -> datetime | None:
        """Time of the first event."""
        return min((datetime.fromisoformat(one.first) for one in self.segments if one.first), default=None)

    @property
    def ends(self) -> datetime | None:
        """Time of the last event."""
        return max((datetime.fromisoformat(one.last) for one in self.segments if one.last), default=None)

    @property
    def counts(self) -> dict[str, Any]:
        """Rows of all lots: ``rows``, ``kept``, ``duplicates``, ``capped``, and ``quarantined`` by reason."""
        names = ("rows", "kept", "duplicates", "capped")
        sums = {name: sum(getattr(segment, name) for segment in self.segments) for name in names}
        return sums | {"quarantined": _added(segment.quarantined for segment in self.segments)}

    def folder(self, segment: Segment) -> Path:
        """Where a segment's files lie."""
        return self.root / EVENTS / segment.name

    def parts(self) -> list[tuple[int, dict[int, Path]]]:
        """Each bucket that has rows, with its file in each segment by the segment's number, oldest first."""
        found: dict[int, dict[int, Path]] = {}
        for segment in self.segments:
            for path in data_files(self.folder(segment)):
                match = _PART.fullmatch(path.name)
                if match is not None:
                    found.setdefault(int(match[1]), {})[segment.number] = path
        return sorted(found.items())

    @property
    def is_scattered(self) -> bool:
        """Whether merging pays: many segments, or later ones that together hold half of what the oldest does."""
        young = sum(segment.kept for segment in self.segments[1:])
        return len(self.segments) > MOST_SEGMENTS or 2 * young > self.segments[0].kept

    def with_segment(self, segment: Segment) -> Self:
        """The log with a further segment; `commit` makes it the one that is there."""
        return replace(self, segments=(*self.segments, segment))

    def merged(self, *, kept: int, duplicates: int, capped: int) -> Self:
        """The log with one segment instead of all; `commit` makes it the one that is there.

        Args:
            kept: Rows of the one segment.
            duplicates: Rows of a segment that were equal to one of another.
            capped: Rows beyond the cap of a day that only the segments together reached.
        """
        counts, columns = self.counts, self.columns
        ends = [None if time is None else time.isoformat() for time in (self.begins, self.ends)]
        one = Segment(
            number=next_number(self.root),
            lots=tuple(sorted(self.lots)),
            rows=counts["rows"],
            kept=kept,
            duplicates=counts["duplicates"] + duplicates,
            capped=counts["capped"] + capped,
            quarantined=counts["quarantined"],
            first=ends[0],
            last=ends[1],
            sources=self.sources,
            columns=columns,
        )
        return replace(self, segments=(one,))

    def commit(self, folder: Path, before: EventLog | None) -> None:
        """Make this the log that is there, the files of its last segment taken from a staging folder.

        Args:
            folder: That of `staging.staged` for the log; its folders ``events`` and ``quarantine`` are renamed in.
            before: The log that this one was made from, or takes the place of.

        Raises:
            ConcurrentRunError: Another log is there by now.
        """
        if EventLog.read(self.root) != before:
            raise ConcurrentRunError(
                f"the event log under {str(self.root)!r} was changed by another run.", hint="run again."
            )
        sync_tree(folder)
        for table in (QUARANTINE, EVENTS):
            if data_files(folder / table) or table == EVENTS:
                (self.root / table).mkdir(parents=True, exist_ok=True)
                (folder / table).rename(self.root / table / self.segments[-1].name)
        tree = {
            "format_version": FORMAT_VERSION,
            "stage": "events",
            "written_at": publication_time().isoformat(),
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "buckets": self.buckets,
            "user_type": self.user_type,
            "segments": [asdict(segment) for segment in self.segments],
        }
        text = json.dumps(tree, indent=1, sort_keys=True, default=str)
        replace_text(self.root / EVENTS / MANIFEST, text + "\n")
        _remove_all_but(self.root, [self] if before is None else [self, before])


def content_fingerprint(sources: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """What `EventLog.fingerprint` of a log of these files would be."""
    return fingerprint("events", dict(sources), dict(settings))


def next_number(root: Path) -> int:
    """A number above those of all segments that are, were or might become part of the log."""
    log = EventLog.read(root)
    numbers = [int(match[1]) for path in _entries(root) if (match := _NAME.fullmatch(path.name))]
    return 1 + max([*numbers, *(log.lots if log else ())], default=0)


def _remove_all_but(root: Path, logs: Sequence[EventLog]) -> None:
    """Remove what none of the logs names."""
    segments = [segment for log in logs for segment in log.segments]
    lots = {_name(lot) for segment in segments for lot in segment.lots}
    named = {EVENTS: {MANIFEST, *(segment.name for segment in segments)}, QUARANTINE: lots}
    for path in _entries(root):
        if path.name in named[path.parent.name]:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _name(number: int) -> str:
    return f"segment-{number:05d}"


def _entries(root: Path) -> Sequence[Path]:
    folders = [root / table for table in (EVENTS, QUARANTINE)]
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            sums[name] = sums.get(name, 0) + number
    return sums

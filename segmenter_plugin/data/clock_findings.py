"""What an audit of the clocks finds, and the table that it was found in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from segmenter_plugin.columns import Columns

Level = Literal["leak", "note"]


@dataclass(frozen=True)
class Place:
    """Which table a batch is of.

    Attributes:
        table: Its path below the root, ``behaviour/cutoff=20240101T000000Z``, or its address.
        cutoff: What its rows are true as of; None where each row has a time of its own.
        user: Name of the column of user ids.
    """

    table: str
    cutoff: datetime | None
    user: str = Columns.user_id


@dataclass(frozen=True)
class Finding:
    """Rows that break a rule.

    Attributes:
        check: Name of the check.
        table: As `Place.table`.
        cutoff: As `Place.cutoff`.
        rows: How many.
        message: What is wrong with them.
        level: ``leak``, or ``note`` for what is allowed but worth knowing.
        user: One of them; None where the finding is not about users.
        values: What that row holds; times are ISO 8601.
    """

    check: str
    table: str
    cutoff: datetime | None
    rows: int
    message: str
    level: Level = "leak"
    user: int | str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        cutoff = None if self.cutoff is None else self.cutoff.isoformat()
        return vars(self) | {"cutoff": cutoff, "values": dict(self.values)}


@dataclass(frozen=True)
class Checked:
    """What one check met in a table, or in part of one.

    Attributes:
        check: Its name.
        table: As `Place.table`.
        rows: How many were looked at.
        findings: At most one of each message.
    """

    check: str
    table: str
    rows: int
    findings: tuple[Finding, ...] = ()


def merged(parts: Iterable[Checked]) -> list[Checked]:
    """Results by check and table, rows added up; of findings with one message the first example stays."""
    rows: dict[tuple[str, str], int] = {}
    findings: dict[tuple[str, str], dict[str, Finding]] = {}
    for part in parts:
        key = part.check, part.table
        rows[key] = rows.get(key, 0) + part.rows
        known = findings.setdefault(key, {})
        for one in part.findings:
            before = known.get(one.message)
            known[one.message] = one if before is None else replace(before, rows=before.rows + one.rows)
    return [Checked(*key, count, tuple(findings[key].values())) for key, count in rows.items()]

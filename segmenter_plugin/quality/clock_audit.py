"""The third clock, checked on what artifacts and evaluations tell of themselves; and an audit's findings as a table.

| check | it finds |
|---|---|
| ``artifact_trained_through`` | weights that say they know less, or more, than they were trained on |
| ``evaluation_after_training`` | an evaluation at a cutoff that its weights, or its baselines, have seen past |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segmenter_plugin.data.clock_findings import Checked, Finding

ARTIFACT, EVALUATION = "artifact_trained_through", "evaluation_after_training"


@dataclass(frozen=True)
class ArtifactClock:
    """What one artifact was trained on, as its own record and the tables beside it tell.

    Attributes:
        name: Its path below the root.
        said: The ``trained_through`` of its manifest, and of its own file; the same, or one of them was changed.
        cutoffs: That it was trained on.
        window_ends: Of its label windows that were over; none after pretraining.
        start: ``trained_through`` of the weights that it started from; None where there are none.
        is_known: Whether the tables and weights that it was trained on are still there. Where they have been
            replaced, `cutoffs`, `window_ends` and `start` hold what is known all the same.
    """

    name: str
    said: tuple[datetime, ...]
    cutoffs: tuple[datetime, ...]
    window_ends: tuple[datetime, ...]
    start: datetime | None
    is_known: bool

    @property
    def expected(self) -> datetime | None:
        """The latest time that any weight has seen, as far as is known; None where nothing is."""
        start = [] if self.start is None else [self.start]
        return max([*self.cutoffs, *self.window_ends, *start], default=None)


@dataclass(frozen=True)
class EvaluationClock:
    """What one evaluation judged, and when.

    Attributes:
        name: Its path below the root.
        cutoff: As of when.
        said: The ``trained_through`` of its manifest and of its metrics.
        weights: What the artifact that it judged, and the scores that it read, say; empty where they are gone.
        baselines: Ends of the label windows that the baselines were fitted on.
    """

    name: str
    cutoff: datetime
    said: tuple[datetime, ...]
    weights: tuple[datetime, ...]
    baselines: tuple[datetime, ...]


def check_artifact(clock: ArtifactClock) -> Checked:
    """Whether an artifact's ``trained_through`` is the end of the last window that it was trained on."""
    expected, said = clock.expected, sorted(clock.said)
    findings = []
    if said[0] != said[-1]:
        values = {"earliest": said[0].isoformat(), "latest": said[-1].isoformat()}
        message = "the manifest and the artifact name different times"
        findings.append(Finding(ARTIFACT, clock.name, None, 1, message, values=values))
    if expected is not None:
        values = {"trained_through": said[0].isoformat(), "trained_on_events_through": expected.isoformat()}
        if said[0] < expected:
            message = "the weights have seen later events than trained_through says"
            findings.append(Finding(ARTIFACT, clock.name, None, 1, message, values=values))
        elif said[0] > expected and clock.is_known:
            message = "trained_through is later than anything that the weights were trained on"
            findings.append(Finding(ARTIFACT, clock.name, None, 1, message, values=values))
    return Checked(ARTIFACT, clock.name, 1, tuple(findings))


def check_evaluation(clock: EvaluationClock) -> Checked:
    """Whether nothing that an evaluation judged, or compared with, has seen what it was judged by."""
    messages: dict[str, datetime] = {}
    for time in (*clock.said, *clock.weights):
        if time > clock.cutoff:
            messages["judged at a cutoff that the weights have seen past"] = time
    for time in clock.weights:
        if time not in clock.said:
            messages["the weights say another trained_through than the evaluation does"] = time
    if len(set(clock.said)) > 1:
        messages["the manifest and the metrics name different times"] = max(clock.said)
    for time in clock.baselines:
        if time > clock.cutoff:
            messages["label windows that the baselines were fitted on end after the cutoff"] = time
    cutoff = clock.cutoff.isoformat()
    findings = [
        Finding(EVALUATION, clock.name, clock.cutoff, 1, message, values={"time": time.isoformat(), "cutoff": cutoff})
        for message, time in messages.items()
    ]
    return Checked(EVALUATION, clock.name, 1, tuple(findings))


def findings_of(results: Iterable[Checked], level: str) -> list[Finding]:
    """All findings of one level, by check and table."""
    found = [finding for result in results for finding in result.findings if finding.level == level]
    return sorted(found, key=lambda finding: (finding.check, finding.table, finding.message))


def summary(results: Sequence[Checked]) -> list[dict[str, Any]]:
    """One row a check: ``check``, ``tables``, ``rows`` looked at, and how many ``leaks`` and ``notes``, in rows."""
    lines = []
    for check in dict.fromkeys(sorted(result.check for result in results)):
        own = [result for result in results if result.check == check]
        counts = {level: sum(finding.rows for finding in findings_of(own, level[:-1])) for level in ("leaks", "notes")}
        lines.append({"check": check, "tables": len(own), "rows": sum(result.rows for result in own)} | counts)
    return lines

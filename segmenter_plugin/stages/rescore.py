"""Which users are scored anew where an earlier cutoff's scores stand: those who changed, and those scored long ago.

A partition of such scores holds these users only. The others' rows at earlier cutoffs stay valid, as whoever reads
features takes a user's newest row at or before a time. Files of scores are called as those of behaviour that they were
made from, one a bucket of users, so that each is held against its namesakes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from segmenter_plugin.clock import parse_time
from segmenter_plugin.config import Config
from segmenter_plugin.data.behaviour_changes import Flags, changed_rows, users_among, users_of
from segmenter_plugin.data.partition import data_files, fingerprint, read_manifest, require_manifest
from segmenter_plugin.errors import ConfigError, CutoffError, MissingStageError
from segmenter_plugin.schemas import trend_names
from segmenter_plugin.stages.layout import Layout

#: Key of a scores manifest: what a partition that holds some of the users only goes on from.
RESCORED = "rescored"
_MADE_FROM = ("changed_since", "base", "max_age_days")


def score_fingerprint(
    config: Config, behaviour: str, model_version: str, rescored: Mapping[str, Any] | None = None
) -> str:
    """Derivation hash of a partition of scores.

    Args:
        config: `[[tasks]]` counts.
        behaviour: Fingerprint of what was scored.
        model_version: By which weights.
        rescored: Of a partition that holds some users only: `Picked.made_from`, further keys are left out.
    """
    inputs = {"behaviour": behaviour, "model_version": model_version}
    tasks = [task.model_dump(mode="json") for task in config.tasks]
    more = {} if rescored is None else {RESCORED: {name: rescored[name] for name in _MADE_FROM}}
    return fingerprint("score", inputs, {"tasks": tasks} | more)


@dataclass(frozen=True)
class Since:
    """What scoring goes on from.

    Args:
        cutoff: An earlier cutoff whose scores and behaviour are there.
        max_age_days: A user whose last scores are older is scored again, changed or not.
    """

    cutoff: datetime
    max_age_days: int

    def check(self, config: Config, cutoff: datetime) -> None:
        """Refuse a time that is not before the cutoff, and an age at which rows are no longer served.

        Raises:
            CutoffError: `cutoff` is not after ours.
            ConfigError: Rows expire before they would be scored again.
        """
        if cutoff <= self.cutoff:
            raise CutoffError(
                f"--changed-since {self.cutoff.isoformat()} is not before the cutoff {cutoff.isoformat()}.",
                hint="name the cutoff that was scored before, or leave --changed-since out.",
            )
        ttl_days = config.store.ttl_days
        if ttl_days and self.max_age_days >= ttl_days:
            raise ConfigError(
                f"--max-age-days {self.max_age_days} is not below [store] ttl_days = {ttl_days}: rows of users who are "
                "not scored again would expire.",
                hint="score more often, or set ttl_days = 0.",
            )


@dataclass
class Picked:
    """Which rows of a cutoff's behaviour need scores.

    Attributes:
        before: Files of the earlier cutoff's behaviour, by name.
        scored: Partitions of scores that are not too old, their files by name.
        passed: From the earlier cutoff to this one.
        shared: Columns of behaviour that other users' events move.
        made_from: What the fingerprint of the new scores depends on.
        users: How many rows there were.
        changed: Of them, how many of users who are new or changed.
        aged: How many of others whose last scores are too old.
    """

    before: dict[str, Path]
    scored: Sequence[dict[str, Path]]
    passed: timedelta
    shared: Sequence[str]
    made_from: dict[str, Any]
    users: int = 0
    changed: int = 0
    aged: int = 0

    @classmethod
    def of(cls, config: Config, cutoff: datetime, since: Since, model_version: str) -> Picked:
        """Look at what there is.

        Raises:
            CutoffError, ConfigError: See `Since.check`.
            MissingStageError: The earlier cutoff has no behaviour, or no scores by these weights of it as it is now.
        """
        since.check(config, cutoff)
        layout = Layout.of(config)
        chain = _chain(config, layout, since.cutoff, model_version, cutoff - timedelta(days=since.max_age_days))
        base = require_manifest(layout.scores(since.cutoff), _command("score", since.cutoff))
        return cls(
            before=_by_name(layout.behaviour(since.cutoff)),
            scored=[_by_name(layout.scores(time)) for time in chain],
            passed=cutoff - since.cutoff,
            shared=trend_names(config),
            made_from={
                "changed_since": since.cutoff.isoformat(),
                "base": base["fingerprint"],
                "max_age_days": since.max_age_days,
            },
        )

    def rows(self, path: Path) -> Flags:
        """(N,) which rows of a behaviour file to score; counts them."""
        changed = changed_rows(self.before.get(path.name), path, self.passed, self.shared)
        files = [files[path.name] for files in self.scored if path.name in files]
        is_aged = ~changed & ~users_among(users_of(path), files)
        self.users += len(changed)
        self.changed += int(changed.sum())
        self.aged += int(is_aged.sum())
        return changed | is_aged

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: what it went on from, and the counts."""
        return self.made_from | {"users": self.users, "changed": self.changed, "aged": self.aged}


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in data_files(folder)}


def _command(verb: str, cutoff: datetime) -> str:
    return f"segmenter {verb} --cutoff {cutoff:%Y-%m-%dT%H:%M:%S+00:00}"


def _chain(config: Config, layout: Layout, since: datetime, model_version: str, oldest: datetime) -> list[datetime]:
    """Cutoffs whose scores stand, the newest first; back to one that holds every user, or to `oldest`."""
    built = require_manifest(layout.behaviour(since), _command("build", since))["fingerprint"]
    manifest = require_manifest(layout.scores(since), _command("score", since))
    if manifest["fingerprint"] != score_fingerprint(config, built, model_version, manifest.get(RESCORED)):
        raise _broken(since, "was scored with other weights, or from other behaviour than there is now")
    found = []
    time = since
    while time >= oldest:
        found.append(time)
        if RESCORED not in manifest:
            break
        time, base = parse_time(manifest[RESCORED]["changed_since"]), manifest[RESCORED]["base"]
        earlier = read_manifest(layout.scores(time))
        if time >= oldest and (earlier is None or earlier["fingerprint"] != base):
            raise _broken(since, f"goes on from scores of {time.isoformat()} that have changed or are gone")
        manifest = earlier or manifest
    return found


def _broken(since: datetime, what: str) -> MissingStageError:
    return MissingStageError(
        f"the cutoff {since.isoformat()} {what}, so not every user's scores stand.",
        hint=f"score it whole: `{_command('score', since)}`; or score the new cutoff without --changed-since.",
    )

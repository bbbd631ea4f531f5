"""Every error that a user of this package can meet.

Tree:

    SegmenterError               exit code 1
    ├── UserError                exit code 2: the caller can mend it
    │   ├── ConfigError          the configuration is malformed or contradicts itself
    │   ├── EventsError          the events cannot be read, or hold nothing usable
    │   ├── CutoffError          a time that the data does not cover, or that is ambiguous
    │   ├── SchemaError          a table lacks a column, or holds it with another type
    │   ├── ArtifactError        a model directory is absent, damaged or does not fit
    │   ├── FormatVersionError   an output was written by a newer format than this version reads
    │   ├── JavaError            no Java runtime that Spark can use
    │   ├── MissingStageError    an earlier stage has not been run for this cutoff
    │   └── StoreError           the feature store refuses, or holds something else than expected
    ├── ConcurrentRunError       another run is writing the same output
    ├── OutputError              an output cannot be written: the disk is full
    ├── TrainingError            training ran but gave nothing usable (NaN loss, one class)
    ├── LeakageError             something from after the cutoff would have been used
    └── GateError                exit code 3: a quality gate stopped the run

A message says what is wrong, the value, and what is allowed; the hint says what to do next.
"""

from __future__ import annotations


class SegmenterError(Exception):
    """Root of all errors of this package.

    Args:
        message: What is wrong, with the offending value and what is allowed.
        hint: What to do next; printed on its own line after ``Hint:``.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\nHint: {hint}")


class UserError(SegmenterError):
    """The caller gave something wrong and can mend it."""

    exit_code = 2


class ConfigError(UserError):
    """The configuration is malformed or contradicts itself."""


class EventsError(UserError):
    """The events cannot be read, lack a column, or hold nothing usable."""


class CutoffError(UserError):
    """A time that the data does not cover, or that names no zone."""


class SchemaError(UserError):
    """A table lacks a column, or holds it with another type."""


class ArtifactError(UserError):
    """A model directory is absent, damaged, or does not fit the data."""


class FormatVersionError(UserError):
    """An output was written by a newer format than this version reads."""


class JavaError(UserError):
    """There is no Java runtime that Spark can use."""


class MissingStageError(UserError):
    """An earlier stage has not been run for this cutoff."""


class StoreError(UserError):
    """The feature store refuses, or holds something else than expected."""


class ConcurrentRunError(SegmenterError):
    """Another run is writing the same output; nothing is wrong with what was given."""


class OutputError(SegmenterError):
    """An output cannot be written; what was there before stays."""


class TrainingError(SegmenterError):
    """Training ran but gave nothing usable."""


class LeakageError(SegmenterError):
    """Something from after the cutoff would have been used."""


class GateError(SegmenterError):
    """A quality gate stopped the run; what was online before stays."""

    exit_code = 3

"""A guess about the owner's events, and the commented segmenter.toml that it makes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Literal

from segmenter_plugin.columns import PURCHASE, Columns

_MONTH_DAYS, _YEAR_DAYS = 28, 365
#: Days of events -> days to predict: a window short enough that several fit, one after the other.
_PREDICTION_DAYS = ((168, 14), (56, 7), (21, 3), (0, 1))
_MOST_CUTOFFS = 4


@dataclass(frozen=True)
class Guess:
    """What the events seem to hold.

    Attributes:
        path, format: Where and how the events lie.
        columns: Our column -> the owner's.
        categorical, numeric: Further columns, under the owner's names.
        types: Our event type -> the owner's names of it, most frequent first.
        constant_event_type: The type of all rows, where no column tells.
        timezone: Zone of naive times, else None.
        timestamp_unit: Unit of numeric times, else None.
        price_is: "unit" or "line", None without a price.
        first, last: Time range in UTC without stray rows (naive times taken as UTC).
        bounds: Times beyond which rows are stray (a wrong clock, a default date), or None where none are.
        facts: Key or column -> what the sample showed.
        checks: Key or column -> why to look at it again.
        sampled_rows, row_count: Rows looked at; rows there are, where known.
    """

    path: str
    format: Literal["parquet", "csv"]
    columns: dict[str, str]
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    types: dict[str, tuple[str, ...]]
    constant_event_type: str | None
    timezone: str | None
    timestamp_unit: str | None
    price_is: str | None
    first: datetime
    last: datetime
    bounds: tuple[datetime, datetime] | None
    facts: dict[str, str]
    checks: dict[str, str]
    sampled_rows: int
    row_count: int | None

    @property
    def days(self) -> float:
        """Length of the time range, in days."""
        return (self.last - self.first) / timedelta(days=1)

    @property
    def prediction_days(self) -> int:
        """Length of the prediction window that fits."""
        return next(days for least, days in _PREDICTION_DAYS if self.days >= least)

    @property
    def value_days(self) -> int:
        """Length of the window of the money that fits: money needs longer to show."""
        return 2 * self.prediction_days if self.days >= _YEAR_DAYS / 2 else self.prediction_days

    @property
    def label_days(self) -> int:
        """Days after a cutoff that all labels need."""
        return self.value_days if self.has_value else self.prediction_days

    @property
    def has_value(self) -> bool:
        """Whether money can be predicted."""
        return PURCHASE in self.types and Columns.price in self.columns

    @property
    def evaluation_cutoff(self) -> datetime:
        """Latest midnight whose labels are known."""
        return _midnight(self.last - timedelta(days=self.label_days))

    @property
    def training_cutoffs(self) -> list[datetime]:
        """Midnights before, ascending, whose labels are over at the next one; the earliest has history before it."""
        step = timedelta(days=self.label_days)
        history = self.first + max(timedelta(days=self.days / 4), timedelta(days=1))
        found = [self.evaluation_cutoff - number * step for number in range(1, _MOST_CUTOFFS + 1)]
        return sorted(cutoff for cutoff in found if cutoff >= history)

    @property
    def observation_days(self) -> int:
        """How far back features look: a year, or what there is before the evaluation cutoff."""
        before = int((self.evaluation_cutoff - self.first) / timedelta(days=1)) + 1
        return max(1, min(_YEAR_DAYS, before))

    @property
    def activity_days(self) -> list[int]:
        """Windows of the aggregates."""
        wanted = (7, _MONTH_DAYS, 90) if self.days >= 2 * _MONTH_DAYS else (1, 3, 7)
        return [days for days in wanted if days <= self.observation_days] or [self.observation_days]


def render_config(guess: Guess) -> str:
    """The guess as a segmenter.toml that `load_config` accepts; what is unsure carries ``# check:``."""
    of = "" if guess.row_count is None else f" of {guess.row_count:,}"
    seen = f"{guess.sampled_rows:,}{of} rows from {guess.first:%Y-%m-%d} to {guess.last:%Y-%m-%d}"
    head = [
        f"# Written by `segmenter init`, which looked at {seen}.",
        "# Lines marked `check:` are guesses to look at. Keys that are left out keep their defaults.",
        "",
    ]
    sections = [_events(guess), _columns(guess), _types(guess), _windows(guess), _tasks(guess), _training(guess)]
    sections.append(_store(guess))
    return "\n".join(head) + "\n".join("\n".join(section) + "\n" for section in sections)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _line(guess: Guess, key: str, value: str, comment: str = "") -> str:
    """One ``key = value``, with what is known and what to check about it."""
    notes = [f"check: {guess.checks[key]}" if key in guess.checks else "", comment]
    text = "; ".join(note for note in notes if note)
    return f"{key} = {value}" + (f"  # {text}" if text else "")


def _text(value: str) -> str:
    # JSON's basic strings are TOML's, but for DEL, which JSON leaves bare.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(values: list[str] | tuple[str, ...]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"


def _time_text(guess: Guess, moment: datetime) -> str:
    """A midnight as a date in the events' zone, or with its offset where they have none of their own."""
    return _text(f"{moment:%Y-%m-%d}" if guess.timezone is not None else f"{moment:%Y-%m-%dT%H:%M:%S}+00:00")


def _events(guess: Guess) -> list[str]:
    lines = ["[events]", _line(guess, "path", _text(guess.path)), _line(guess, "format", _text(guess.format))]
    if guess.timezone is not None:
        note = "check: the times name no zone; say which one they are meant in"
        lines.append(_line(guess, "timezone", _text(guess.timezone), note))
    if guess.timestamp_unit is not None:
        lines.append(_line(guess, "timestamp_unit", _text(guess.timestamp_unit), "since 1970 in UTC"))
    if guess.constant_event_type is not None:
        lines.append(_line(guess, "constant_event_type", _text(guess.constant_event_type), "of every row"))
    if guess.price_is is not None:
        meaning = {"unit": "the price of one; times the quantity", "line": "the price of the whole row"}
        lines.append(_line(guess, "price_is", _text(guess.price_is), meaning[guess.price_is]))
    if guess.bounds is not None:
        note = f"check: {guess.facts['stray']} and go to quarantine"
        lines.append(_line(guess, "earliest_timestamp", _time_text(guess, _midnight(guess.bounds[0])), note))
        after = _midnight(guess.bounds[1]) + timedelta(days=1)
        lines.append(_line(guess, "latest_timestamp", _time_text(guess, after)))
    return lines


def _columns(guess: Guess) -> list[str]:
    lines = ["[events.columns]", "# ours = yours"]
    order = [name for name in _COLUMN_ORDER if name in guess.columns]
    lines += [_line(guess, name, _text(guess.columns[name]), guess.facts.get(name, "")) for name in order]
    if guess.categorical:
        lines.append(_line(guess, "categorical", _list(guess.categorical), "further columns, by value"))
    if guess.numeric:
        lines.append(_line(guess, "numeric", _list(guess.numeric), "further columns, as numbers"))
    return lines


_COLUMN_ORDER = (
    Columns.user_id,
    Columns.item_id,
    Columns.event_type,
    Columns.event_timestamp,
    Columns.event_id,
    Columns.order_id,
    Columns.session_id,
    Columns.category,
    Columns.brand,
    Columns.price,
    Columns.quantity,
    Columns.text,
)


def _types(guess: Guess) -> list[str]:
    lines = ["[events.types]", "# ours = yours; purchase brings money in, return takes it back"]
    if "types" in guess.checks:
        lines.append(f"# check: {guess.checks['types']}")
    for name, owners in guess.types.items():
        negative = name == "return" and guess.constant_event_type is not None
        lines.append(f"{_key(name)} = {_list(owners)}" + ("  # also: rows of negative quantity" if negative else ""))
    return lines


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else _text(name)


def _windows(guess: Guess) -> list[str]:
    return [
        "[windows]",
        f"observation_days = {guess.observation_days}  # how far back features look",
        f"activity_days = {guess.activity_days}  # windows of counts and sums within",
    ]


def _tasks(guess: Guess) -> list[str]:
    if PURCHASE in guess.types:
        lines = ["[[tasks]]", 'name = "purchase"', 'kind = "binary"', f"prediction_days = {guess.prediction_days}"]
    else:
        rarest = list(guess.types)[-1]
        lines = ["[[tasks]]", f"name = {_text(_task_name(rarest))}", 'kind = "binary"']
        lines += [f"event_type = {_text(rarest)}  # check: is this what you want to know of a user?"]
        lines += [f"prediction_days = {guess.prediction_days}"]
    if guess.has_value:
        lines += ["", "[[tasks]]", 'name = "spend"', 'kind = "value"', f"prediction_days = {guess.value_days}"]
    return lines


def _task_name(event_type: str) -> str:
    name = "".join(mark if mark.isascii() and mark.isalnum() else "_" for mark in event_type.lower())
    return name if name[:1].isalpha() else f"event_{name}"


def _training(guess: Guess) -> list[str]:
    cutoffs = [_time_text(guess, cutoff) for cutoff in guess.training_cutoffs]
    lines = ["[training]"]
    if not cutoffs:
        lines.append("# check: too few days for a training cutoff with history before and labels after it")
    lines += [
        "# The labels of each cutoff are over at the next one, and those of the last before the evaluation begins.",
        f"cutoffs = [{', '.join(cutoffs)}]",
    ]
    return [*lines, f"evaluation_cutoff = {_time_text(guess, guess.evaluation_cutoff)}"]


def _store(guess: Guess) -> list[str]:
    name = PurePath(guess.path.split("*", maxsplit=1)[0]).name.split(".")[0] or "events"
    return ["[store]", f"root = {_text(f'runs/{name}')}  # all outputs lie here"]

"""The configuration: one frozen tree, read from one TOML file; unknown keys are errors.

`segmenter.toml` at the top of the project shows every key with a comment.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from segmenter_plugin.clock import parse_time, zone
from segmenter_plugin.columns import PURCHASE, Columns
from segmenter_plugin.contract import ContractConfig
from segmenter_plugin.errors import ConfigError, SegmenterError
from segmenter_plugin.gating import GatesConfig
from segmenter_plugin.learning import (
    EncoderConfig,
    FinetuneConfig,
    PretrainConfig,
    ScoresConfig,
    TimeText,
    TrainingConfig,
)
from segmenter_plugin.segmenting import SegmentsConfig
from segmenter_plugin.storage import StoreConfig
from segmenter_plugin.tasks import TaskConfig

#: What activity counts besides event types.
_COUNTED = ("event", "order", "session", "active_day")


class Section(BaseModel):
    """Root of all sections: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EventColumnsConfig(Section):
    """The owner's column names, by ours. The first four are required (`event_type` unless it is constant)."""

    user_id: str
    item_id: str
    event_timestamp: str
    event_type: str | None = None
    event_id: str | None = None
    order_id: str | None = None
    session_id: str | None = None
    category: str | None = None
    brand: str | None = None
    price: str | None = None
    quantity: str | None = None
    text: str | None = None
    #: Further categorical and numeric columns; they keep the owner's names.
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()

    @property
    def mapped(self) -> dict[str, str]:
        """Our name -> the owner's name, for all columns that are present."""
        named = {ours: theirs for ours, theirs in self if isinstance(theirs, str)}
        return named | {name: name for name in (*self.categorical, *self.numeric)}

    @model_validator(mode="after")
    def _extras_are_distinct(self) -> Self:
        own = {name for name, value in vars(Columns).items() if isinstance(value, str) and not name.startswith("_")}
        extras = [*self.categorical, *self.numeric]
        own |= {"purchase_amount", "order_amount"}  # their means are aggregates of ours
        clashes = sorted({name for name in extras if name in own or extras.count(name) > 1})
        if clashes:
            raise ValueError(
                f"categorical and numeric hold {clashes}, which repeat or are names of ours; map or drop them"
            )
        return self


class EventsConfig(Section):
    """Where the events are and what their columns mean."""

    path: str | None = None
    table: str | None = None
    #: parquet and csv are read as this package does it; any other is a format of Spark's reader, with its options.
    format: Annotated[str, Field(pattern=r"^[A-Za-z][\w.\-]*$")] = "parquet"
    options: dict[str, str] = {}
    columns: EventColumnsConfig
    #: Our event type -> the owner's names of it; `purchase` brings money in, `return` takes it back.
    types: dict[str, tuple[str, ...]] = Field(default={PURCHASE: (PURCHASE,)})
    constant_event_type: str | None = None
    unknown_type: Literal["quarantine", "keep"] = "quarantine"
    timezone: str | None = None
    timestamp_unit: Literal["s", "ms", "us"] | None = None
    price_is: Literal["unit", "line"] = "unit"
    currency_digits: Annotated[int, Field(ge=0, le=6)] = 2
    earliest_timestamp: TimeText = "1990-01-01T00:00:00+00:00"
    latest_timestamp: TimeText | None = None
    complete_through: TimeText | None = None
    #: Of one user's different rows of a UTC day the first so many stay: who has more is a bot.
    max_events_per_day: PositiveInt | None = 5000

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError(
                "give either path (a file, folder or glob) or table (a Spark table), not both and not neither"
            )
        if self.options and (self.table is not None or self.format in ("parquet", "csv")):
            raise ValueError(
                f"options = {self.options} are for a path in a format of Spark's own reader, "
                "not for a table, parquet or csv"
            )
        if (self.columns.event_type is None) == (self.constant_event_type is None):
            raise ValueError("give either columns.event_type or constant_event_type, not both and not neither")
        names = [name for owners in self.types.values() for name in owners]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"types maps {repeated} to more than one event type")
        if self.constant_event_type is not None and self.constant_event_type not in self.types:
            raise ValueError(
                f"constant_event_type = {self.constant_event_type!r} is not among types {sorted(self.types)}"
            )
        self._check_type_names()
        if self.timezone is not None:
            zone(self.timezone)
        return self

    def _check_type_names(self) -> None:
        """Event types name columns such as ``view_count_7d``, beside those of `_COUNTED`."""
        malformed = sorted(name for name in self.types if not re.fullmatch(r"[a-z][a-z0-9_]*", name))
        if malformed:
            raise ValueError(f"types has the names {malformed}; ours are lower case letters, digits and underscores")
        reserved = sorted(set(self.types) & set(_COUNTED))
        if reserved:
            raise ValueError(f"types has the names {reserved}, which activity counts anyway; choose others")


class WindowsConfig(Section):
    """How far back a feature may look."""

    observation_days: PositiveInt = 365
    activity_days: tuple[PositiveInt, ...] = (1, 7, 28, 90)
    #: Columns of whose values it is known how popular they are, and whether they become so (`data.value_traffic`).
    trend_columns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if list(self.activity_days) != sorted(set(self.activity_days)) or not self.activity_days:
            raise ValueError(
                f"activity_days = {list(self.activity_days)} must be ascending, without repeats, not empty"
            )
        if self.activity_days[-1] > self.observation_days:
            raise ValueError(
                f"activity_days holds {self.activity_days[-1]}, longer than observation_days = {self.observation_days}"
            )
        return self


class SequencesConfig(Section):
    """What the encoder reads of one user."""

    length: Annotated[int, Field(ge=2, le=8192)] = 128


class Config(Section):
    """The whole configuration of one shop."""

    events: EventsConfig
    contract: ContractConfig = ContractConfig()
    windows: WindowsConfig = WindowsConfig()
    tasks: tuple[TaskConfig, ...] = ()
    sequences: SequencesConfig = SequencesConfig()
    training: TrainingConfig = TrainingConfig()
    encoder: EncoderConfig = EncoderConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    scores: ScoresConfig = ScoresConfig()
    segments: SegmentsConfig = SegmentsConfig()
    gates: GatesConfig = GatesConfig()
    store: StoreConfig = StoreConfig()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        columns = [task.label_column for task in self.tasks]
        if len(set(columns)) < len(columns):
            raise ValueError(f"two [[tasks]] derive the same column: {sorted(columns)}; give them different names")
        for task in self.tasks:
            self._check_task(task)
        self._check_task_names("finetune.task_weights", self.finetune.task_weights, self.tasks)
        scored = [task for task in self.tasks if task.kind in ("binary", "value")]
        self._check_task_names("scores.value_weights", self.scores.value_weights, scored)
        self._check_times()
        self._check_trends()
        return self

    @staticmethod
    def _check_task_names(key: str, weights: Mapping[str, float], tasks: Sequence[TaskConfig]) -> None:
        unknown = sorted(set(weights) - {task.name for task in tasks})
        if unknown:
            raise ValueError(f"{key} names {unknown}; it may name {sorted(task.name for task in tasks)} of [[tasks]]")

    def _check_times(self) -> None:
        cutoffs = self.training_cutoffs
        if len(set(cutoffs)) < len(cutoffs):
            raise ValueError(f"training.cutoffs repeats a time: {list(self.training.cutoffs)}")
        evaluation = self.evaluation_cutoff
        if evaluation is not None:
            late = [cutoff for cutoff in cutoffs if self.labels_end(cutoff) > evaluation]
            if late:
                raise ValueError(
                    f"label windows of the training cutoffs {[f'{cutoff:%Y-%m-%d}' for cutoff in late]} end after "
                    f"training.evaluation_cutoff = {self.training.evaluation_cutoff!r}, so the weights would have seen "
                    "what they are judged on; drop these cutoffs or evaluate later"
                )
        earliest, latest = self.time(self.events.earliest_timestamp), self.events.latest_timestamp
        if latest is not None and self.time(latest) <= earliest:
            raise ValueError(f"events.latest_timestamp = {latest!r} is not after events.earliest_timestamp")

    def _check_task(self, task: TaskConfig) -> None:
        if self.events.unknown_type == "quarantine":
            missing = sorted(set(task.event_types) - set(self.events.types))
            if missing:
                raise ValueError(
                    f"task {task.name!r} needs event types {missing}, which are not among {sorted(self.events.types)}"
                )
        if task.kind == "value" and self.events.columns.price is None:
            raise ValueError(f"task {task.name!r} predicts money, but [events.columns] maps no price")
        targets = self._things()
        if task.target is not None and task.target not in targets:
            raise ValueError(
                f"task {task.name!r} has target = {task.target!r}; allowed are the mapped columns {sorted(targets)}"
            )

    def _things(self) -> set[str]:
        """Columns that say what an event was about."""
        columns = self.events.columns
        mapped = {name for name in (Columns.item_id, Columns.category, Columns.brand) if name in columns.mapped}
        return mapped | set(columns.categorical)

    def _check_trends(self) -> None:
        named = self.windows.trend_columns
        if set(named) - self._things():
            raise ValueError(
                f"windows.trend_columns = {list(named)}; allowed are the mapped columns {sorted(self._things())}"
            )
        kinds = [name.removesuffix("_id") for name in named]
        taken = {f"{kind}_{statistic}" for kind in kinds for statistic in ("trend", "popularity")}
        clashes = taken & set(self.events.columns.numeric)
        if clashes or len(set(kinds)) < len(kinds):
            raise ValueError(
                f"windows.trend_columns = {list(named)} derive the same column twice, or as the numeric columns "
                f"{sorted(clashes)} do; drop one of them"
            )

    def time(self, value: str | datetime) -> datetime:
        """A time in UTC; a naive one is meant in the events' zone."""
        return parse_time(value, self.events.timezone)

    @property
    def training_cutoffs(self) -> tuple[datetime, ...]:
        """The cutoffs of `[training]`, ascending, in UTC."""
        return tuple(sorted(self.time(text) for text in self.training.cutoffs))

    @property
    def evaluation_cutoff(self) -> datetime | None:
        """The cutoff of `training.evaluation_cutoff`, in UTC."""
        text = self.training.evaluation_cutoff
        return None if text is None else self.time(text)

    def labels_end(self, cutoff: datetime) -> datetime:
        """When the last label window of a cutoff is over; the cutoff itself where there is no task."""
        return max((task.window(cutoff)[1] for task in self.tasks), default=cutoff)

    @property
    def root_path(self) -> Path:
        """Folder that all outputs lie under."""
        return Path(self.store.root)


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read and check a configuration.

    Args:
        path: A TOML file. Relative paths inside it are taken from its own folder.
        overrides: ``section.key=value`` texts; the value is TOML, or a bare string.

    Raises:
        ConfigError: The file is absent or not TOML, a key is unknown, or values contradict each other.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration file {str(path)!r}.",
            hint="`segmenter init --events PATH` writes one; or name yours with --config.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} is not valid TOML: {error}.", hint="mend the line it names.") from error
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, folder=path.parent)


def parse_config(tree: dict[str, Any], folder: Path = Path()) -> Config:
    """Check a tree as TOML gives it; relative paths are taken from `folder`.

    Raises:
        ConfigError: A key is unknown, a value has the wrong type, or values contradict each other.
    """
    for section, key in (("events", "path"), ("segments", "names"), ("store", "root"), ("store", "feature_repo")):
        if section == "store":
            defaults = StoreConfig()
            tree = tree | {
                "store": {"root": defaults.root, "feature_repo": defaults.feature_repo} | tree.get("store", {})
            }
        value = tree.get(section, {}).get(key) if isinstance(tree.get(section, {}), dict) else None
        if isinstance(value, str) and "://" not in value:
            tree = tree | {section: tree[section] | {key: str((folder / value).absolute())}}
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _config_error(error) from error
    except SegmenterError as error:
        raise ConfigError(error.message, hint=error.hint) from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or len(parts) < 2 or not all(parts):
        raise ConfigError(
            f"--set {override!r} is not of the form section.key=value.", hint="for example --set encoder.preset=base"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(
                f"--set {override!r}: {part!r} is not a section.", hint="lists such as [[tasks]] stand in the file."
            )
    tree[parts[-1]] = value


def _config_error(error: ValidationError) -> ConfigError:
    """All problems of one validation in one message, with the nearest known key for each unknown one."""
    lines, hints = [], []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "the configuration"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where} is not a key.")
            near = _nearest_key(problem["loc"])
            hints.append(f"did you mean {near!r}?" if near else "segmenter.toml in the project shows every key.")
        else:
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}.")
    fallback = "segmenter.toml in the project shows every key with a comment."
    return ConfigError(" ".join(lines), hint=hints[0] if hints else fallback)


def _nearest_key(location: tuple[int | str, ...]) -> str | None:
    model: Any = Config
    for part in location[:-1]:
        if isinstance(part, str) and hasattr(model, "model_fields") and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            model = TaskConfig if part == "tasks" else annotation
    matches = difflib.get_close_matches(str(location[-1]), list(getattr(model, "model_fields", {})), n=1)
    return matches[0] if matches else None

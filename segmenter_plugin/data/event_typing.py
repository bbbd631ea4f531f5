"""The owner's columns under our names and types; what cannot fit is refused before any row is read."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config, EventsConfig
from segmenter_plugin.data.coded_text import one_array
from segmenter_plugin.data.event_numbers import Numbers, holds_numbers, is_text, read_numbers
from segmenter_plugin.data.event_reasons import Flags
from segmenter_plugin.data.event_times import Times, check_time_type, read_times
from segmenter_plugin.errors import EventsError

_TEXTS = (Columns.item_id, Columns.event_id, Columns.order_id, Columns.session_id, Columns.category, Columns.brand)
_CODED = pa.dictionary(pa.int32(), pa.string())

#: Codes of event types that are none of ours.
TYPE_MISSING, TYPE_UNKNOWN = -1, -2


@dataclass(frozen=True)
class EventTypes:
    """One column of event types.

    Attributes:
        codes: (N,) place of each row's type among the names, or one of `TYPE_MISSING` and `TYPE_UNKNOWN`.
        names: (K,) different names of ours.
    """

    codes: npt.NDArray[np.int32]
    names: list[str]

    def are(self, name: str) -> Flags:
        """(N,) which rows are of a type of ours."""
        if name not in self.names:
            return np.zeros(len(self.codes), np.bool_)
        return self.codes == self.names.index(name)


@dataclass(frozen=True)
class TypedRows:
    """N rows of the owner's, typed.

    Attributes:
        users: (N,) string or int64, null where empty.
        times: (N,) instants, and what is wrong with them.
        types: (N,) event types.
        texts: Our names -> (N,) string or dictionary<int32, string>, null where empty.
        numbers: Our names, `price` and `quantity` among them -> (N,).
    """

    users: pa.ChunkedArray
    times: Times
    types: EventTypes
    texts: dict[str, pa.ChunkedArray]
    numbers: dict[str, Numbers]

    @classmethod
    def of(cls, rows: pa.Table | pa.RecordBatch, config: Config) -> Self:
        """Type rows that `check_columns` lets pass."""
        events, table = config.events, pa.table(rows)
        columns = {ours: table[theirs] for ours, theirs in events.columns.mapped.items()}
        if events.constant_event_type is None:
            types = event_types(columns[Columns.event_type], events)
        else:
            names = list(events.types)
            code = names.index(events.constant_event_type)
            types = EventTypes(np.full(table.num_rows, code, np.int32), names)
        return cls(
            users=user_ids(columns[Columns.user_id]),
            times=read_times(one_array(columns[Columns.event_timestamp]), events),
            types=types,
            texts={name: as_text(columns[name]) for name in text_columns(config)},
            numbers={name: read_numbers(one_array(columns[name])) for name in _number_names(config)},
        )

    def __len__(self) -> int:
        return len(self.types.codes)

    def is_refund(self, config: Config) -> Flags:
        """(N,) which rows take money back: a return, or a purchase of negative quantity where there are returns."""
        found = self.types.are(RETURN)
        quantity = self.numbers.get(Columns.quantity)
        if quantity is None or RETURN not in config.events.types:
            return found
        is_negative = quantity.values < 0
        return found | (self.types.are(PURCHASE) & is_negative) if is_negative.any() else found


def text_columns(config: Config) -> list[str]:
    """Identifiers, categories and text, by our names."""
    columns = config.events.columns
    names = [name for name in (*_TEXTS, Columns.text) if name in columns.mapped]
    return [*names, *columns.categorical]


def _number_names(config: Config) -> list[str]:
    columns = config.events.columns
    return [name for name in (Columns.price, Columns.quantity, *columns.numeric) if name in columns.mapped]


def check_columns(schema: pa.Schema, config: Config) -> None:
    """Refuse events that lack a mapped column, or have one of a type that cannot hold what it should.

    Raises:
        EventsError: Names the column, and the nearest one there is, or the types that are allowed.
    """
    mapped = config.events.columns.mapped
    for ours, theirs in mapped.items():
        if schema.names.count(theirs) == 1:
            continue
        near = difflib.get_close_matches(theirs, schema.names, n=1, cutoff=0.5)
        entry = f"[events.columns] {ours} = {theirs!r}"
        raise EventsError(
            f"the events lack the column {theirs!r} ({entry}); they have {sorted(schema.names)}.",
            hint=f"did you mean {near[0]!r}?" if near else f"map {ours} to one of them, or leave it out if optional.",
        )
    check_time_type(schema.field(mapped[Columns.event_timestamp]).type, mapped[Columns.event_timestamp], config.events)
    texts = [*text_columns(config), *([Columns.event_type] if Columns.event_type in mapped else [])]
    numbers = _number_names(config)
    _check_types(schema, {Columns.user_id: mapped[Columns.user_id]}, _holds_users, "whole numbers or text")
    allowed = "text, whole numbers, booleans or dates"
    _check_types(schema, {name: mapped[name] for name in texts}, _holds_labels, allowed)
    allowed = "numbers, or text that holds numbers"
    _check_types(schema, {name: mapped[name] for name in numbers}, holds_numbers, allowed)


def user_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The user: int64 from whole numbers, else text; null where empty."""
    return column.cast(pa.int64()) if _is_whole(column.type) else _without_empty(column.cast(pa.string()))


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """One column as text, or as a dictionary of text if it is one; null where empty."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        coded = column if kind == _CODED else column.cast(_CODED)
        if all(chunk.dictionary.index("").as_py() < 0 for chunk in coded.chunks):
            return coded
    if pa.types.is_decimal(kind):
        column = column.cast(pa.int64())
    return _without_empty(column if kind == pa.string() else column.cast(pa.string()))


def event_types(column: pa.ChunkedArray, config: EventsConfig) -> EventTypes:
    """Our names of the owner's event types."""
    text = as_text(column)
    coded = one_array(text if pa.types.is_dictionary(text.type) else text.dictionary_encode())
    owners: list[str | None] = coded.dictionary.to_pylist()
    ours = {owner: name for name, entries in config.types.items() for owner in entries}
    names = list(config.types)
    if config.unknown_type == "keep":
        ours = {owner: owner for owner in owners if owner is not None} | ours
        names = list(dict.fromkeys([*names, *ours.values()]))
    places = {name: place for place, name in enumerate(names)}
    known = [places[ours[owner]] if owner in ours else TYPE_UNKNOWN for owner in owners]
    known = [TYPE_MISSING if owner is None else code for owner, code in zip(owners, known, strict=True)]
    # Null is the last place, which -1 means.
    codes = np.array([*known, TYPE_MISSING], np.int32)
    return EventTypes(codes[coded.indices.fill_null(-1).to_numpy()], names)


def _without_empty(text: pa.ChunkedArray) -> pa.ChunkedArray:
    is_empty = pc.equal(pc.binary_length(text), 0)
    return pc.if_else(is_empty, None, text) if pc.any(is_empty).as_py() else text


def _check_types(
    schema: pa.Schema, columns: dict[str, str], holds: Callable[[pa.DataType], bool], allowed: str
) -> None:
    for ours, theirs in columns.items():
        kind = schema.field(theirs).type
        if not holds(kind):
            raise EventsError(
                f"column {theirs!r} ({ours}) has type {kind}; allowed are {allowed}.",
                hint=f"cast it where the events are written, or map another column to {ours}.",
            )


def _is_whole(kind: pa.DataType) -> bool:
    """Whether a type's values are whole numbers of 64 bits."""
    if pa.types.is_decimal(kind):
        return bool(kind.scale == 0 and kind.precision < 19)
    return bool(pa.types.is_integer(kind) and not pa.types.is_uint64(kind))


def _holds_users(kind: pa.DataType) -> bool:
    return _is_whole(kind) or is_text(kind) or bool(pa.types.is_null(kind))


def _holds_labels(kind: pa.DataType) -> bool:
    return _holds_users(kind) or bool(pa.types.is_boolean(kind) or pa.types.is_date(kind))

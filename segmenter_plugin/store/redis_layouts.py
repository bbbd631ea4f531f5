"""Where a view's rows are in Redis, as commands: Feast's own layout and ours.

Feast's (``stock``) is one hash an entity with the features of all its views. Key: the serialised entity key and the
project. Fields: ``_ts:<view>`` with the event_timestamp, and for each feature the murmur hash of ``<view>:<feature>``
with the ``Value`` message. Source: ``feast/infra/online_stores/redis.py`` (0.67) and docs/specs/online_store_format.md
of Feast. Ours (``packed``) is one string an entity and view, see `packed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from feast.infra.online_stores.helpers import _mmh3

from segmenter_plugin.store.lookups import FetchedView
from segmenter_plugin.store.packed import TAIL, pack_rows, row_reader, time_of
from segmenter_plugin.store.redis_errors import checked
from segmenter_plugin.store.redis_times import TimeMemo
from segmenter_plugin.store.resp import Argument, Command, bulk
from segmenter_plugin.store.rows import EncodedRows
from segmenter_plugin.store.wire import encode_times

#: Users of one piece of a lookup: the commands fit the buffers between us and Redis, and no ``MGET`` keeps others
#: waiting for long.
USERS_PER_PIECE = 500

_TEXT: frozenset[type] = frozenset({bytes})
_TEXT_OR_NOTHING: frozenset[type] = frozenset({bytes, type(None)})
_LISTS = frozenset({list})

#: Commands, and how many replies they have.
Piece = tuple[bytes, int]


class Layout(Protocol):
    """Commands for one view's rows."""

    #: What the commands that write are answered with.
    written: frozenset[type]

    def field(self, feature: str) -> bytes:
        """What a feature is called within a row."""

    def key(self, entity_key: bytes) -> bytes:
        """Where the row of an entity is."""

    def asking(self, keys: pa.Array) -> Command:
        """Ask (N,) entity keys which event_timestamp is stored."""

    def answered(self, replies: Sequence[Any]) -> np.ndarray:
        """(N,) int64 nanoseconds of the answers, `ABSENT` where there is no row."""

    def writing(self, rows: EncodedRows) -> list[Command]:
        """Write rows."""

    def lookup(self, keys: Sequence[bytes], features: Sequence[str]) -> Iterator[Piece]:
        """Read rows, in pieces."""

    def found(self, replies: Sequence[Any], features: Sequence[str]) -> FetchedView:
        """What the replies to all pieces hold."""


def _field(name: str, feature: str) -> bytes:
    return _mmh3(f"{name}:{feature}")


class HashLayout:
    """One view in Feast's layout.

    Args:
        project: Of Feast.
        name: Of the view, as stored.
        ttl_s: Seconds after which Redis drops a hash that is not written again; None: never.
    """

    written: frozenset[type] = frozenset({int})

    def __init__(self, project: str, name: str, ttl_s: int | None = None) -> None:
        self._project = project.encode()
        self._name = name
        self.time_field = f"_ts:{name}".encode()
        self._ttl_s = ttl_s
        self._times = TimeMemo()
        self._frames: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def field(self, feature: str) -> bytes:
        """What a feature is called within a hash."""
        return _field(self._name, feature)

    def fields(self, features: Sequence[str]) -> list[bytes]:
        """Fields of features, and last that of the event_timestamp."""
        return [*map(self.field, features), self.time_field]

    def key(self, entity_key: bytes) -> bytes:
        """Where the hash of an entity is."""
        return entity_key + self._project

    def asking(self, keys: pa.Array) -> Command:
        """As `Layout`."""
        return [b"HGET", (keys, self._project), self.time_field]

    def answered(self, replies: Sequence[Any]) -> np.ndarray:
        """As `Layout`."""
        return self._times.nanos(checked(replies, _TEXT_OR_NOTHING))

    def writing(self, rows: EncodedRows) -> list[Command]:
        """As `Layout`."""
        key = (rows.keys, self._project)
        cells: list[Argument] = []
        for feature, column in rows.values.items():
            cells += [self.field(feature), (column,)]
        commands: list[Command] = [[b"HSET", key, self.time_field, (encode_times(rows.event_times),), *cells]]
        if self._ttl_s:
            commands.append([b"EXPIRE", key, b"%d" % self._ttl_s])
        return commands

    def lookup(self, keys: Sequence[bytes], features: Sequence[str]) -> Iterator[Piece]:
        """As `Layout`: one ``HMGET`` a key."""
        start, end = self._frame(tuple(features))
        for asked in _pieces(keys):
            yield _framed(asked, start, len(self._project), end), len(asked)

    def _frame(self, features: tuple[str, ...]) -> tuple[bytes, bytes]:
        """What stands before and after each key of a lookup."""
        frame = self._frames.get(features)
        if frame is None:
            fields = self.fields(features)
            start = b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2)
            frame = self._frames[features] = (start, self._project + b"\r\n" + b"".join(map(bulk, fields)))
        return frame

    def found(self, replies: Sequence[Any], features: Sequence[str]) -> FetchedView:
        """As `Layout`."""
        return _by_column(checked(replies, _LISTS), len(features))


class PackedLayout:
    """One view in the packed layout.

    Args:
        project: Of Feast.
        name: Of the view, as stored.
        ttl_s: Seconds after which Redis drops a row; None: never.
    """

    written: frozenset[type] = _TEXT

    def __init__(self, project: str, name: str, ttl_s: int | None = None) -> None:
        self.suffix = project.encode() + b"\0" + name.encode()
        self._name = name
        self._ttl_s = ttl_s
        self._times = TimeMemo()

    def field(self, feature: str) -> bytes:
        """What a feature is called within a row, as in Feast's layout."""
        return _field(self._name, feature)

    def key(self, entity_key: bytes) -> bytes:
        """Where the row of an entity is."""
        return entity_key + self.suffix

    def asking(self, keys: pa.Array) -> Command:
        """As `Layout`."""
        return [b"GETRANGE", (keys, self.suffix), b"-%d" % TAIL, b"-1"]

    def answered(self, replies: Sequence[Any]) -> np.ndarray:
        """As `Layout`."""
        return self._times.nanos(map(time_of, checked(replies, _TEXT)))

    def writing(self, rows: EncodedRows) -> list[Command]:
        """As `Layout`."""
        cells = {self.field(feature): column for feature, column in rows.values.items()}
        expiry: list[Argument] = [b"EX", b"%d" % self._ttl_s] if self._ttl_s else []
        return [[b"SET", (rows.keys, self.suffix), pack_rows(cells, rows.event_times), *expiry]]

    def lookup(self, keys: Sequence[bytes], features: Sequence[str]) -> Iterator[Piece]:  # noqa: ARG002 - rows come whole
        """As `Layout`: one ``MGET``."""
        for asked in _pieces(keys):
            start = b"*%d\r\n$4\r\nMGET\r\n" % (len(asked) + 1)
            yield start + _framed(asked, b"", len(self.suffix), self.suffix + b"\r\n"), 1

    def found(self, replies: Sequence[Any], features: Sequence[str]) -> FetchedView:
        """As `Layout`."""
        values = [value for reply in checked(replies, _LISTS) for value in reply]
        fields = tuple(self.field(feature) for feature in features)
        return _by_column(row_reader(fields).read(values), len(features))


#: By the names that the configuration gives them.
LAYOUTS: dict[str, type[HashLayout | PackedLayout]] = {"stock": HashLayout, "packed": PackedLayout}


@lru_cache(maxsize=1_024)
def layout_for_lookups(kind: str, project: str, name: str) -> HashLayout | PackedLayout:
    """The layout of a view as a reader needs it, made once: a lookup of one user takes no longer than that would."""
    return LAYOUTS[kind](project, name)


def _pieces(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for first in range(0, len(keys), USERS_PER_PIECE):
        yield keys[first : first + USERS_PER_PIECE]


def _framed(keys: Sequence[bytes], start: bytes, suffix_size: int, end: bytes) -> bytes:
    """Between `start` and `end` each of the keys, as an argument to which `end` adds `suffix_size` bytes."""
    sizes = set(map(len, keys))
    starts = {size: start + b"$%d\r\n" % (size + suffix_size) for size in sizes}
    if len(sizes) == 1:  # integers, and texts of one length
        (start,) = starts.values()
        return start + (end + start).join(keys) + end
    return b"".join([part for key in keys for part in (starts[len(key)], key, end)])


def _by_column(rows: Sequence[Sequence[bytes | None]], features: int) -> FetchedView:
    columns = list(zip(*rows, strict=True)) or [()] * (features + 1)
    return FetchedView(columns[:-1], columns[-1])

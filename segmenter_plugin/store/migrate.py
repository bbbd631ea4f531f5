"""Moves online rows between the two layouts of our Redis store, the cells' bytes as they are.

Without an hour in which reads fail: migrate with `keep_old`, switch ``layout`` in feature_store.yaml and restart the
readers and writers, then migrate again without it, which moves what was written meanwhile and deletes the old rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.infra.online_stores.helpers import compute_versioned_name

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.lookups import FetchedView, StoreRestarted
from segmenter_plugin.store.redis import ArrowRedisOnlineStore
from segmenter_plugin.store.redis_errors import checked, explained
from segmenter_plugin.store.redis_keys import walk
from segmenter_plugin.store.redis_layouts import HashLayout, PackedLayout
from segmenter_plugin.store.redis_times import TimeMemo, if_newer
from segmenter_plugin.store.rows import EncodedRows

logger = logging.getLogger(__name__)

ATTEMPTS = 3

# Deletes a row only if it still is what has been moved, in one step of the server.
_DELETE_HASH_ROW = b"""
local count = #ARGV / 2
local fields = {unpack(ARGV, 1, count)}
local now = redis.call('HMGET', KEYS[1], unpack(fields))
for i = 1, count do
  if now[i] ~= ARGV[count + i] then return 0 end
end
redis.call('HDEL', KEYS[1], unpack(fields))
return 1
"""
_DELETE_STRING = b"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])"

_NUMBERS = frozenset({int})


@dataclass(frozen=True)
class MovedView:
    """What was done for one view.

    Args:
        view: Its name.
        rows: How many the old layout held.
        moved: How many of them went into the new one; the others were there already, as new or newer.
        deleted: How many were deleted from the old one; a row that changed meanwhile stays for the next run.
    """

    view: str
    rows: int = 0
    moved: int = 0
    deleted: int = 0


class _Source(Protocol):
    """The layout that rows come from."""

    @property
    def suffix(self) -> bytes:
        """How its keys end."""

    def reading(self, key: bytes) -> Sequence[bytes]:
        """Command that reads a row."""

    def found(self, replies: list[Any]) -> FetchedView:
        """What the commands brought."""

    def deleting(self, key: bytes, reply: Any) -> Sequence[bytes]:
        """Command that deletes a row if it still is what was read."""


class _Hashes:
    def __init__(self, layout: HashLayout, features: Sequence[str]) -> None:
        self._layout, self._features, self._fields = layout, features, layout.fields(features)
        self.suffix = layout.key(b"")

    def reading(self, key: bytes) -> Sequence[bytes]:
        return [b"HMGET", key, *self._fields]

    def found(self, replies: list[Any]) -> FetchedView:
        return self._layout.found(replies, self._features)

    def deleting(self, key: bytes, reply: Any) -> Sequence[bytes]:
        cells = {field: cell for field, cell in zip(self._fields, reply, strict=True) if cell is not None}
        return [b"EVAL", _DELETE_HASH_ROW, b"1", key, *cells, *cells.values()]


class _Strings:
    def __init__(self, layout: PackedLayout, features: Sequence[str]) -> None:
        self._layout, self._features = layout, features
        self.suffix = layout.suffix

    def reading(self, key: bytes) -> Sequence[bytes]:
        return [b"GET", key]

    def found(self, replies: list[Any]) -> FetchedView:
        return self._layout.found([replies], self._features)

    def deleting(self, key: bytes, reply: Any) -> Sequence[bytes]:
        return [b"EVAL", _DELETE_STRING, b"1", key, reply]


def migrate_layout(
    store: FeatureStore, views: Sequence[str], to: Literal["packed", "stock"], *, keep_old: bool = False
) -> list[MovedView]:
    """Move rows of views to the other layout; a run that was interrupted is simply run again.

    A row that the new layout holds already, as new or newer, stays. Rows get the expiry that ``key_ttl_seconds`` gives
    to rows written now.

    Args:
        store: Of a project with our Redis store, whichever ``layout`` it is set to.
        views: Registered names.
        to: The layout to move to.
        keep_old: Leave the rows where they were as well.

    Raises:
        StoreError: The store is another one, or Redis refuses.
    """
    online = store._get_provider().online_store  # noqa: SLF001 - Feast offers no other way to it
    if not isinstance(online, ArrowRedisOnlineStore):
        raise StoreError(
            f"the online store of project {store.project!r} is {type(online).__name__}, which has one layout only.",
            hint="set online_store type: segmenter_plugin.store.redis.ArrowRedisOnlineStore in feature_store.yaml.",
        )
    moved = []
    for name in views:
        moved.append(_migrate(store, online, store.get_feature_view(name), to, keep_old=keep_old))
        logger.info("moved online rows: %s", asdict(moved[-1]))
    return moved


def _migrate(
    store: FeatureStore, online: ArrowRedisOnlineStore, view: FeatureView, to: str, *, keep_old: bool
) -> MovedView:
    settings = store.config.online_store
    name = compute_versioned_name(view, store.config.registry.enable_online_feature_view_versioning)
    hashes = HashLayout(store.project, name, settings.key_ttl_seconds)
    strings = PackedLayout(store.project, name, settings.key_ttl_seconds)
    features = tuple(feature.name for feature in view.features)
    source: _Source = _Hashes(hashes, features) if to == "packed" else _Strings(strings, features)
    for attempt in range(1, ATTEMPTS + 1):
        moved = MovedView(name)
        try:
            with (
                explained(settings.connection_string.partition(",")[0]),
                online.layout_writer(store.config, strings if to == "packed" else hashes, if_newer) as writer,
            ):
                client = online._get_client(settings)  # noqa: SLF001 - as above
                for entity_keys in walk(client, view.join_keys, source.suffix):
                    keys = [key + source.suffix for key in entity_keys]
                    replies = _run(client, map(source.reading, keys))
                    written = [writer.write(part) for part in _rows(entity_keys, features, source.found(replies))]
                    there = [pair for pair in zip(keys, replies, strict=True) if _holds_row(pair[1])]
                    deletions = () if keep_old else [source.deleting(*pair) for pair in there]
                    moved = replace(
                        moved,
                        rows=moved.rows + len(there),
                        moved=moved.moved + sum(written),
                        deleted=moved.deleted + sum(checked(_run(client, deletions), _NUMBERS)),
                    )
                writer.finish()
        except StoreRestarted:
            logger.warning("Redis restarted; walking over %s again, attempt %d of %d", name, attempt, ATTEMPTS)
        else:
            return moved
    raise StoreError(f"Redis restarted {ATTEMPTS} times.", hint="see its log; then run the same again.")


def _holds_row(reply: Any) -> bool:
    """Whether a reply is a string, or fields the last of which, the time, is there."""
    return reply is not None and (isinstance(reply, bytes) or reply[-1] is not None)


def _run(client: Any, commands: Any) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for name, *arguments in commands:
            pipe.execute_command(name.decode(), *arguments)
        return pipe.execute() if len(pipe) else []


def _rows(keys: Sequence[bytes], features: Sequence[str], found: FetchedView) -> Iterator[EncodedRows]:
    """Rows of the same features together: one that was written before a feature was added lacks it."""
    groups: dict[tuple[bool, ...], dict[bytes, tuple[bytes | None, ...]]] = {}
    for key, time, *cells in zip(keys, found.event_times, *found.cells, strict=True):
        if time is not None:
            has = tuple(cell is not None for cell in cells)
            groups.setdefault(has, {})[key] = (time, *cells)  # a walk may meet a key twice
    nanos = TimeMemo()
    for has, group in groups.items():
        times, *columns = zip(*group.values(), strict=True)
        values = {
            feature: pa.array(column, pa.binary())
            for feature, column, is_there in zip(features, columns, has, strict=True)
            if is_there
        }
        yield EncodedRows(pa.array(group, pa.binary()), values, np.asarray(nanos.nanos(times)), None)

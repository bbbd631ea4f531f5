"""Walks the keys of a project in Redis: one entity's, exactly, in batches."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key_prefix

#: Keys of one round trip.
BATCH_KEYS = 1_000

_GLOB = re.compile(rb"([*?\[\]\\^])")
_UINT32 = struct.Struct("<I")


def entity_key_size(key: bytes) -> int | None:
    """Bytes of the serialised entity key that `key` starts with; None where it starts with none."""
    if len(key) < _UINT32.size:
        return None
    (count,) = _UINT32.unpack_from(key)
    place = _UINT32.size
    for _ in range(2 * count):  # each name and each value: its type, its length, its bytes
        if place + 2 * _UINT32.size > len(key):
            return None
        (size,) = _UINT32.unpack_from(key, place + _UINT32.size)
        place += 2 * _UINT32.size + size
    return place if place <= len(key) else None


def walk(client: Any, join_keys: Sequence[str], suffix: bytes) -> Iterator[list[bytes]]:
    """Entity keys in batches, of the Redis keys that are one with these join keys and then `suffix`.

    A key that is there from beginning to end of the walk is met at least once; some are met twice.

    Args:
        client: Of redis-py, of one server or of a cluster.
        join_keys: Of the entity.
        suffix: As `HashLayout` or `PackedLayout` ends its keys.
    """
    prefix = serialize_entity_key_prefix(list(join_keys))
    pattern = _GLOB.sub(rb"\\\1", prefix) + b"*" + _GLOB.sub(rb"\\\1", suffix)
    # The pattern also matches a project whose name ends like ours, and an entity with more join keys.
    met = (key for key in client.scan_iter(match=pattern, count=BATCH_KEYS) if key.startswith(prefix))
    own = (key[: -len(suffix)] for key in met if entity_key_size(key) == len(key) - len(suffix))
    while batch := list(islice(own, BATCH_KEYS)):
        yield batch


def delete_packed(client: Any, project: str, join_keys: Sequence[str], view: str | None = None) -> int:
    """Delete packed rows of an entity.

    Args:
        client: Of redis-py.
        project: Of Feast.
        join_keys: Of the entity.
        view: Name as stored; None: rows of all views.

    Returns:
        How many there were.
    """
    start = project.encode() + b"\0"
    prefix = serialize_entity_key_prefix(list(join_keys))
    end = b"*" if view is None else _GLOB.sub(rb"\\\1", view.encode())
    pattern = _GLOB.sub(rb"\\\1", prefix) + b"*" + _GLOB.sub(rb"\\\1", start) + end
    deleted = 0
    met = (key for key in client.scan_iter(match=pattern, count=BATCH_KEYS) if _is_packed(key, start, view))
    while batch := list(islice(met, BATCH_KEYS)):
        with client.pipeline(transaction=False) as pipe:
            for key in batch:
                pipe.delete(key)
            deleted += sum(pipe.execute())
    return deleted


def _is_packed(key: bytes, start: bytes, view: str | None) -> bool:
    size = entity_key_size(key)
    if size is None or not key[size:].startswith(start):
        return False
    return view is None or key[size + len(start) :] == view.encode()

"""Feast's response message out of stored bytes: the cells are messages already, so they are put in as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segmenter_plugin.store.decode import Cells, varint

_VALUES, _STATUSES, _EVENT_TIMESTAMPS = b"\x0a", b"\x12", b"\x1a"


def fill_vector(vector: Any, cells: Cells, statuses: Sequence[int], event_times: Sequence[bytes | None]) -> None:
    """Fill a ``GetOnlineFeaturesResponse.FeatureVector``.

    Args:
        vector: Empty.
        cells: (N,) ``Value`` messages; None is the empty one.
        statuses: (N,) values of ``FieldStatus``.
        event_times: (N,) ``Timestamp`` messages; None is the epoch.
    """
    packed = bytes(statuses)  # each below 128, so a varint is its byte
    parts = [*_repeated(_VALUES, cells), _STATUSES, varint(len(packed)), packed]
    vector.ParseFromString(b"".join([*parts, *_repeated(_EVENT_TIMESTAMPS, event_times)]))


def _repeated(tag: bytes, messages: Sequence[bytes | None]) -> list[bytes]:
    held = [message or b"" for message in messages]
    heads = {length: tag + varint(length) for length in set(map(len, held))}
    return [part for message in held for part in (heads[len(message)], message)]

"""Reads rows of several views from a Redis server, in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.connection import ConnectionPool

from segmenter_plugin.store.lookups import FetchedView, ViewLookup
from segmenter_plugin.store.redis_errors import UNREACHABLE
from segmenter_plugin.store.redis_layouts import Layout, Piece
from segmenter_plugin.store.resp import Channel, borrowed

#: What is sent at once: it fits the buffers between us and Redis while replies to the last lot are unread.
_LOT_BYTES = 49_152

#: A lookup and the layout of its view.
Question = tuple[Layout, ViewLookup]


def fetch(pool: ConnectionPool, questions: Sequence[Question]) -> list[FetchedView]:
    """Read rows over one connection; a second one where the first turns out to be broken.

    Raises:
        StoreError: Redis refuses, or a row is damaged.
        Exception: One of `UNREACHABLE`.
    """
    pieces = [[*layout.lookup(asked.keys, asked.features)] for layout, asked in questions]
    commands = [piece for own in pieces for piece in own]
    try:
        replies = _ask(pool, commands)
    except UNREACHABLE:
        replies = _ask(pool, commands)
    found, start = [], 0
    for (layout, asked), own in zip(questions, pieces, strict=True):
        end = start + sum(count for _, count in own)
        found.append(layout.found(replies[start:end], asked.features))
        start = end
    return found


def _ask(pool: ConnectionPool, pieces: Sequence[Piece]) -> list[Any]:
    with borrowed(pool) as channel:
        lots = [*_lots(pieces)]
        replies: list[Any] = []
        _send(channel, lots, 0)
        for i, (_, count) in enumerate(lots):
            _send(channel, lots, i + 1)
            replies += channel.receive(count)
        return replies


def _send(channel: Channel, lots: Sequence[Piece], i: int) -> None:
    if i < len(lots):
        channel.send(lots[i][0])


def _lots(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Small pieces together, so that a lookup in many views is one packet."""
    commands, count = b"", 0
    for more, replies in pieces:
        if commands and len(commands) + len(more) > _LOT_BYTES:
            yield commands, count
            commands, count = b"", 0
        commands, count = commands + more, count + replies
    if commands:
        yield commands, count

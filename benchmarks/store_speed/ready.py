"""Rows laid out beforehand, as Feast would store them: what the floors send.

One row is written with Feast's own messages; all others differ from it in the digits of the user id and in the floats,
at places that never move. So a matrix of bytes with those places filled in is every row, without our encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from store_speed import world


@dataclass(frozen=True)
class Template:
    """The pieces of one row, and what stands in them.

    Args:
        key: Redis key, which is the serialised entity key and then the project.
        fields: Redis hash fields with their values, the timestamp first.
    """

    key: bytes
    fields: dict[bytes, bytes]


def template_of(dim: int, project: str) -> Template:
    """A row of user ``u0000000``, embedding ``0.5, 1.5, ...`` and floats ``-1, -2, -3``, by Feast's own code."""
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.timestamp_pb2 import Timestamp

    def value(**content: Any) -> bytes:
        return bytes(Value(**content).SerializeToString())

    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val="u0000000")])
    embedding = Value()
    embedding.float_list_val.val.extend(marks(dim)[:dim].tolist())
    cells = {"embedding": embedding.SerializeToString()}
    cells |= {name: value(float_val=-1.0 - place) for place, name in enumerate(world.FLOATS)}
    cells["segment"] = value(string_val="s00")
    at = Timestamp()
    at.FromDatetime(world.CUTOFF)
    fields = {f"_ts:{world.VIEW}".encode(): at.SerializeToString()}
    fields |= {_mmh3(f"{world.VIEW}:{name}"): cell for name, cell in cells.items()}
    return Template(_redis_key(project, key, entity_key_serialization_version=3), fields)


def marks(dim: int) -> np.ndarray:
    """Floats that are found again in the bytes of a template: (D + 3,)."""
    return np.concatenate([np.arange(dim, dtype=np.float32) + np.float32(0.5), [-1.0, -2.0, -3.0]]).astype(np.float32)


def filled(row: bytes, numbers: np.ndarray, dim: int) -> np.ndarray:
    """Copies of a template's bytes, user ids and floats put in.

    Args:
        row: Bytes that hold the marks, L of them.
        numbers: (N, D + 3) float32.
        dim: D.

    Returns:
        (N, L) uint8.
    """
    matrix = np.tile(np.frombuffer(row, np.uint8), (len(numbers), 1))
    digits = np.array([user.encode() for user in world.user_ids(0, len(numbers))]).view(np.uint8)
    places = [(row.find(b"u0000000"), digits.reshape(len(numbers), 8))]
    known, given = marks(dim), np.ascontiguousarray(numbers).view(np.uint8)
    places.append((row.find(known[:dim].tobytes()), given[:, : dim * 4]))
    places += [
        (row.find(known[column : column + 1].tobytes()), given[:, column * 4 : column * 4 + 4])
        for column in range(dim, dim + 3)
    ]
    for start, content in places:
        if start >= 0:
            matrix[:, start : start + content.shape[1]] = content
    return matrix


def numbers_of(rows: int, dim: int) -> np.ndarray:
    """(N, D + 3) float32 to put in."""
    return np.random.default_rng(0).standard_normal((rows, dim + 3), dtype=np.float32)


def resp_of(template: Template) -> bytes:
    """One ``HSET`` as it goes over the wire."""
    words = [b"HSET", template.key, *(word for field in template.fields.items() for word in field)]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

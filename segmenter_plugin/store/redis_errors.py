"""What Redis answers when it does not do as asked, and what to do then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import hiredis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from segmenter_plugin.errors import StoreError


class UnavailableError(Exception):
    """Redis answers, but not yet as a server that takes commands; asking again on a new connection may help."""


#: Errors that trying again does not mend, although redis-py counts them among those of the connection.
LOGIN_REFUSED = (AuthenticationError, AuthorizationError)

#: Errors after which the same is tried again on a new connection.
UNREACHABLE = (
    OSError,
    RedisConnectionError,
    RedisTimeoutError,
    InvalidResponse,
    hiredis.ProtocolError,
    UnavailableError,
)

#: First words of error replies that pass: a restart or a failover is under way.
PASSING = frozenset({"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNBLOCKED"})

#: First words that redis-py takes off its own errors.
_WORDS: dict[type[Exception], str] = {
    OutOfMemoryError: "OOM",
    NoPermissionError: "NOPERM",
    ReadOnlyError: "READONLY",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    TryAgainError: "TRYAGAIN",
}

_CREDENTIALS = "put username=…,password=… of a user of that server into the connection_string of feature_store.yaml."
_HINTS = {
    "OOM": "raise maxmemory, or make room, then run the same again: rows that are online already are only rewritten.",
    "NOAUTH": _CREDENTIALS,
    "WRONGPASS": _CREDENTIALS,
    "NOPERM": "the user needs +info +hget +hset +hmget +expire +scan +del +hdel; the packed layout +getrange +get "
    "+set +mget as well.",
    "WRONGTYPE": "another program keeps something else under these keys; give Feast a database (db=…) of its own.",
    "MISCONF": "Redis cannot write its snapshot, see its log; mend that, then run the same again.",
    "MOVED": "the server is a node of a cluster: set redis_type: redis_cluster.",
    "ASK": "the server is a node of a cluster: set redis_type: redis_cluster.",
}
_ANY = "see the log of the Redis server; run the same again once that is mended: it starts over where needed."


def _message(error: Exception) -> str:
    word = _WORDS.get(type(error))
    return str(error) if word is None or str(error).startswith(word) else f"{word} {error}"


def refused(error: Exception) -> StoreError:
    """What a user sees of an error reply."""
    message = _message(error)
    return StoreError(f"Redis refused: {message}", hint=_HINTS.get(message.partition(" ")[0], _ANY))


def raise_reply(error: Exception) -> NoReturn:
    """Raise an error reply as what it means.

    Raises:
        UnavailableError: It passes.
        StoreError: It does not.
    """
    message = _message(error)
    if message.partition(" ")[0] in PASSING or isinstance(error, UNREACHABLE):
        raise UnavailableError(message)
    raise refused(error)


def checked(replies: Sequence[Any], kinds: frozenset[type]) -> Sequence[Any]:
    """The replies, which are of the given types.

    Raises:
        StoreError: An error reply that another attempt does not mend.
        UnavailableError: Another error reply, or no answer to such a command: replies and commands are out of step.
    """
    found = set(map(type, replies)) - kinds
    for kind in found:
        error = next((reply for reply in replies if type(reply) is kind), None)
        if isinstance(error, Exception):
            raise_reply(error)
        raise UnavailableError(f"an answer of the type {kind.__name__} came for another command")
    return replies


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn what redis-py and the socket raise into an error of ours; `UNREACHABLE` ones too.

    Args:
        address: Of the server, to name it.
    """
    try:
        yield
    except LOGIN_REFUSED as error:
        raise StoreError(f"Redis at {address} refuses the login: {error}", hint=_CREDENTIALS) from error
    except UNREACHABLE as error:
        raise unreachable(address, error) from error
    except ResponseError as error:
        raise refused(error) from error
    except RedisError as error:
        raise StoreError(f"Redis at {address}: {error}", hint=_ANY) from error


def unreachable(address: str, error: Exception, waited_s: float | None = None) -> StoreError:
    """What a user sees when Redis cannot be reached, or talks nonsense."""
    waited = "" if waited_s is None else f", {waited_s:.0f} s long"
    return StoreError(
        f"Redis at {address} does not answer{waited}: {error}",
        hint="start it, or mend the connection_string of feature_store.yaml; then run the same again.",
    )

"""Several processes that train one model, as ``torchrun`` or ``accelerate launch`` start them."""

from __future__ import annotations

from typing import TypeVar

import torch
from accelerate import PartialState
from torch import distributed

Value = TypeVar("Value")


def join_processes() -> None:
    """Wait for the other processes of this run, if it has any; all must call it."""
    PartialState(cpu=not torch.cuda.is_available())
    wait_for_all()


def process_count() -> int:
    """How many train together."""
    return distributed.get_world_size() if _several() else 1


def process_number() -> int:
    """From 0."""
    return distributed.get_rank() if _several() else 0


def is_first() -> bool:
    """Whether this is the process that writes."""
    return process_number() == 0


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    if _several():
        distributed.barrier()


def of_first(value: Value) -> Value:
    """The first process's value, in all of them."""
    if not _several():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()

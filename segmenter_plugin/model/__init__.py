"""The encoder: torch and transformers live here and nowhere else.

Legend of shapes, used in every docstring of this room:
    B  users in a batch
    T  events of the longest of them; with the context token in front, the backbone sees T + 1 positions
    H  width of the backbone
    D  size of the embedding that a user gets
    F  numbers an event (values and indicators)
    C  numbers of the context (aggregates and indicators)
    M  masked or predicted events of a batch
    S  slices of sequences, some to a user
    R  states that predict events, each any number of them
    P  pieces that numbers are cut into
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.model.finetuning import finetune_encoder
    from segmenter_plugin.model.pretraining import pretrain_encoder
    from segmenter_plugin.model.scoring import score_batches

_HOMES = {
    "UserEncoder": "artifact",
    "finetune_encoder": "finetuning",
    "pretrain_encoder": "pretraining",
    "score_batches": "scoring",
}

__all__ = ["UserEncoder", "finetune_encoder", "pretrain_encoder", "score_batches"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

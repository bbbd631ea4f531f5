"""Sequences one after the other instead of padded: every position that is computed is a real one.

Only attention has to know where a sequence ends. On a GPU that is flash attention for variable lengths
(`torch.nn.attention.varlen`; Dao 2023, arXiv 2307.08691); elsewhere, and in single precision, queries and keys are
padded for the attention alone, which gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.tensors import TensorBatch

#: Backbones that take positions and hand sequence ends through to their attention; others are padded.
PACKABLE = frozenset({"modernbert", "llama"})
ATTENTION = "segmenter_packed"
#: The longest sequence is told to the kernel and the compiler in steps of so many positions.
_LENGTH_STEP = 64


@dataclass(frozen=True)
class Packed:
    """B users' sequences, E events in all, each behind its context token.

    Attributes:
        batch: The events as one sequence, (1, E) each; context as ever, (B, C).
        ends: Where each user's positions begin and the last one's end, (B + 1,), int32.
        longest: Positions of the longest sequence, rounded up.
    """

    batch: TensorBatch
    ends: Tensor
    longest: int


def is_packable(encoder: SequenceEncoder) -> bool:
    """Whether this torch has the kernel, and the kernel takes the backbone's attention."""
    config = encoder.backbone.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.model_type in PACKABLE and size % 8 == 0 and size <= 256 and _has_kernel()


@cache
def _has_kernel() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415
    except ImportError:
        return False
    # The first versions knew neither local attention nor a scale.
    return {"scale", "window_size"} <= set(signature(varlen_attn).parameters)


def pack(sequences: RaggedSequences, rows: npt.NDArray[np.int64]) -> Packed:
    """The users at `rows`, (B,), on the CPU."""
    lengths = sequences.lengths[rows]
    starts = np.cumsum(sequences.lengths)[rows] - lengths
    before = np.cumsum(lengths) - lengths
    source = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))

    def flat(values: npt.NDArray[Any], dtype: type[np.generic]) -> Tensor:
        return torch.from_numpy(values[source].astype(dtype, copy=False))[None]

    batch = TensorBatch(
        categorical={name: flat(values, np.int64) for name, values in sequences.categorical.items()},
        numeric=flat(sequences.numeric, np.float32),
        gaps=flat(sequences.gaps, np.float32),
        ages=flat(sequences.ages, np.float32),
        hours=flat(sequences.hours, np.int64),
        weekdays=flat(sequences.weekdays, np.int64),
        mask=torch.ones(1, len(source), dtype=torch.bool),
        context=torch.from_numpy(sequences.context[rows]),
    )
    ends = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int32)
    longest = -(-int(lengths.max(initial=0) + 1) // _LENGTH_STEP) * _LENGTH_STEP
    return Packed(batch, torch.from_numpy(ends), longest)


def packed_embedding(encoder: SequenceEncoder, packed: Packed) -> Tensor:
    """What the encoder gives, (B, D); its backbone must be one of `PACKABLE` and have `ATTENTION` set."""
    tokens, user, place = _tokens(encoder, packed)
    states: Tensor = encoder.backbone(
        inputs_embeds=tokens[None],
        position_ids=place[None],
        cu_seq_lens_q=packed.ends,
        cu_seq_lens_k=packed.ends,
        max_length_q=packed.longest,
        max_length_k=packed.longest,
    ).last_hidden_state[0]
    return encoder.summary(_pool(states, packed.ends, user, place), packed.batch["context"])


def _tokens(encoder: SequenceEncoder, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
    """All positions in order, (P, H), whose each is, (P,), and its place in its sequence, (P,)."""
    context = packed.batch["context"]
    first = encoder.no_context + encoder.token(context)
    events = encoder.events(packed.batch)[0]
    ends, count = packed.ends.long(), len(context) + len(events)
    user = torch.repeat_interleave(torch.arange(len(context), device=ends.device), ends.diff(), output_size=count)
    position = torch.arange(count, device=ends.device)
    place = position - ends[user]
    # Before a position lie its own and all earlier users' context tokens.
    source = torch.where(place == 0, user, len(context) + position - user - 1)
    return torch.cat([first, events.to(first.dtype)])[source], user, place


def _pool(states: Tensor, ends: Tensor, user: Tensor, place: Tensor) -> Tensor:
    """Context token's state, mean of the events' states, and the newest event's state: (B, 3H)."""
    starts, stops = ends[:-1].long(), ends[1:].long()
    events = torch.where(place[:, None] > 0, states, 0.0).float()
    sums = events.new_zeros(len(starts), states.shape[1]).index_add_(0, user, events)
    mean = sums / (stops - starts - 1).clamp_min(1)[:, None]
    return torch.cat([states[starts].float(), mean, states[stops - 1].float()], dim=1)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - transformers' signature
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each sequence, as transformers' `AttentionInterface` calls it.

    Args:
        module: The attention layer; tells whether it is causal and how many queries share a key.
        query: (1, heads, P, size).
        key: (1, key heads, P, size).
        value: As `key`.
        attention_mask: None.
        scaling: Of the products.
        sliding_window: Places that a position sees to either side, itself included.
        cu_seq_lens_q: See `Packed.ends`.
        max_length_q: See `Packed.longest`.

    Returns:
        (1, P, heads, size).
    """
    shared = query.shape[1] // key.shape[1]
    flat = [
        tensor[0].repeat_interleave(repeats, dim=0).transpose(0, 1)
        for tensor, repeats in ((query, 1), (key, shared), (value, shared))
    ]
    reach = -1 if sliding_window is None else sliding_window - 1
    window = (reach, 0 if getattr(module, "is_causal", False) else reach)
    attend = _flash if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) else _padded
    return attend(*flat, ends=cu_seq_lens_q, longest=max_length_q, scale=scaling, window=window)[None], None


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    ends: Tensor,
    longest: int,
    scale: float | None,
    window: tuple[int, int],
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - young, and of use on a GPU alone

    attended = varlen_attn(
        query.contiguous(), key.contiguous(), value.contiguous(), ends, ends, longest, longest,
        scale=scale, window_size=window,
    )  # fmt: skip
    if not isinstance(attended, Tensor):
        raise TypeError(type(attended))
    return attended


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    ends: Tensor,
    longest: int,
    scale: float | None,
    window: tuple[int, int],
) -> Tensor:
    ends = ends.long()
    count = len(ends) - 1
    user = torch.repeat_interleave(torch.arange(count, device=ends.device), ends.diff(), output_size=len(query))
    place = torch.arange(len(query), device=ends.device) - ends[user]

    def padded(flat: Tensor) -> Tensor:
        filled = flat.new_zeros(count, longest, *flat.shape[1:])
        filled[user, place] = flat
        return filled.transpose(1, 2)

    at = torch.arange(longest, device=ends.device)
    distance = at[None, :] - at[:, None]
    left, right = window
    seen = torch.ones_like(distance, dtype=torch.bool)
    if left >= 0:
        seen &= distance >= -left
    if right >= 0:
        seen &= distance <= right
    mask = seen & (at < ends.diff()[:, None])[:, None, None, :]
    # A padded query may see nothing; what it gives is not read.
    attended = functional.scaled_dot_product_attention(
        padded(query), padded(key), padded(value), attn_mask=mask, scale=scale
    )
    return attended.transpose(1, 2)[user, place]


AttentionInterface.register(ATTENTION, packed_attention)

"""How users go through the encoder when nothing is learnt: padded on a CPU, packed and in bfloat16 on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.model.buckets import CPU_POSITIONS, GPU_POSITIONS, Ints, by_positions, by_tokens
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.packing import ATTENTION, Packed, is_packable, pack, packed_embedding
from segmenter_plugin.model.tensors import TensorBatch, to_tensors

logger = logging.getLogger(__name__)


class Inference(Protocol):
    """One way through the encoder. `prepare` may run in another thread than `embed`."""

    def batches(self, lengths: Ints) -> Iterator[Ints]:
        """Rows that go through together."""

    def prepare(self, sequences: RaggedSequences, rows: Ints) -> Any:
        """The users at `rows` as `embed` takes them: in memory from which a GPU copies by itself."""

    def embed(self, prepared: Any) -> Tensor:
        """(B, D), on the encoder's device."""


class PaddedInference:
    """Users of like length, padded to the longest of them.

    Args:
        encoder: In evaluation mode.
        positions: Of a batch.
    """

    def __init__(self, encoder: SequenceEncoder, positions: int) -> None:
        self._encoder, self._positions = encoder, positions
        self._device = device_of(encoder)

    def batches(self, lengths: Ints) -> Iterator[Ints]:
        """See `by_positions`."""
        return by_positions(lengths, self._positions)

    def prepare(self, sequences: RaggedSequences, rows: Ints) -> TensorBatch:
        """Padded, and pinned for a GPU."""
        padded = to_tensors(sequences.pad(rows))
        return _each(padded, Tensor.pin_memory) if self._device.type == "cuda" else padded

    def embed(self, prepared: TensorBatch) -> Tensor:
        """Through the encoder's own forward."""
        with _precision(self._device):
            embedding: Tensor = self._encoder(_moved(prepared, self._device)).embedding
        return embedding


class PackedInference:
    """Sequences one after the other, without padding.

    Args:
        encoder: In evaluation mode; its backbone is one of `packing.PACKABLE`.
        positions: Of a batch.
        forward: `packed_embedding`, or that compiled.
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        positions: int,
        forward: Callable[[SequenceEncoder, Packed], Tensor] = packed_embedding,
    ) -> None:
        self._encoder, self._positions, self._forward = encoder, positions, forward
        self._device = device_of(encoder)

    def batches(self, lengths: Ints) -> Iterator[Ints]:
        """See `by_tokens`."""
        return by_tokens(lengths, self._positions)

    def prepare(self, sequences: RaggedSequences, rows: Ints) -> Packed:
        """Packed, and pinned for a GPU."""
        packed = pack(sequences, rows)
        if self._device.type != "cuda":
            return packed
        return Packed(_each(packed.batch, Tensor.pin_memory), packed.ends.pin_memory(), packed.longest)

    def embed(self, prepared: Packed) -> Tensor:
        """Through the encoder's parts; what cannot be compiled is computed as it is, and told once."""
        packed = Packed(
            _moved(prepared.batch, self._device), prepared.ends.to(self._device, non_blocking=True), prepared.longest
        )
        with _attention(self._encoder, ATTENTION), _precision(self._device):
            try:
                return self._forward(self._encoder, packed)
            except torch._dynamo.exc.TorchDynamoException as error:  # noqa: SLF001 - torch has no public name for it
                logger.warning("scoring: not compiled, and slower for it: %s", str(error).partition("\n")[0])
                self._forward = packed_embedding
                return self._forward(self._encoder, packed)


def inference_of(encoder: SequenceEncoder) -> Inference:
    """The fastest way there is where the encoder lies.

    Args:
        encoder: On a GPU that has bfloat16 sequences are packed and the forward is compiled, if the backbone
            `is_packable`; all else is padded.
    """
    if device_of(encoder).type != "cuda":
        return PaddedInference(encoder, CPU_POSITIONS)
    if torch.cuda.is_bf16_supported() and is_packable(encoder):
        return PackedInference(encoder, GPU_POSITIONS, _compiled())
    return PaddedInference(encoder, GPU_POSITIONS)


def device_of(encoder: SequenceEncoder) -> torch.device:
    """Where the weights lie."""
    return next(encoder.parameters()).device


@contextmanager
def evaluating(*modules: torch.nn.Module | None) -> Iterator[None]:
    """No dropout and no gradients in the block; each module gets its mode back."""
    modes = [(module, module.training) for module in modules if module is not None]
    for module, _ in modes:
        module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.train(training)


@cache
def _compiled() -> Callable[[SequenceEncoder, Packed], Tensor]:
    """One for the whole process: a file of users more is no reason to compile again."""
    compiled: Callable[[SequenceEncoder, Packed], Tensor] = torch.compile(packed_embedding, dynamic=True)
    return compiled


@contextmanager
def _attention(encoder: SequenceEncoder, name: str) -> Iterator[None]:
    before = encoder.backbone.config._attn_implementation  # noqa: SLF001 - the setter checks what is known already
    encoder.backbone.set_attn_implementation(name)
    try:
        yield
    finally:
        encoder.backbone.set_attn_implementation(before)


def _precision(device: torch.device) -> AbstractContextManager[Any]:
    # On a CPU bfloat16 is slower than single precision.
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def _moved(batch: TensorBatch, device: torch.device) -> TensorBatch:
    return _each(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _each(batch: TensorBatch, change: Callable[[Tensor], Tensor]) -> TensorBatch:
    return TensorBatch(
        categorical={name: change(values) for name, values in batch["categorical"].items()},
        numeric=change(batch["numeric"]),
        gaps=change(batch["gaps"]),
        ages=change(batch["ages"]),
        hours=change(batch["hours"]),
        weekdays=change(batch["weekdays"]),
        mask=change(batch["mask"]),
        context=change(batch["context"]),
    )

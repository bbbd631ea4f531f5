"""Which weights of an encoder stay as they are while the others train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.encoder import SequenceEncoder


@contextmanager
def frozen_below(encoder: SequenceEncoder, layers: int) -> Iterator[None]:
    """Hold the backbone's first layers, and all that its input passes before them, while the block runs.

    Args:
        encoder: Its backbone may be of any architecture that has one list of layers.
        layers: How many; 0 holds nothing.

    Raises:
        ConfigError: The backbone has fewer, or no list of layers.
    """
    held = [weight for module in _below(encoder, layers) for weight in module.parameters() if weight.requires_grad]
    if layers and encoder.no_context.requires_grad:
        held.append(encoder.no_context)
    for weight in held:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in held:
            weight.requires_grad_(True)


def _below(encoder: SequenceEncoder, layers: int) -> list[nn.Module]:
    if not layers:
        return []
    child, stack = _layers(encoder.backbone)
    if layers > len(stack):
        raise ConfigError(
            f"finetune.frozen_layers = {layers}; the backbone has {len(stack)} layers.",
            hint="0 trains all of it; epochs = 0 trains the heads alone.",
        )
    before = []
    # Modules are registered in the order in which the input passes them: embeddings, then layers, then the last norm.
    for name, module in encoder.backbone.named_children():
        if name == child:
            break
        before.append(module)
    return [encoder.events, encoder.token, *before, *stack[:layers]]


def _layers(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """The backbone's layers, and the name of the child that holds them (or is them)."""
    count = getattr(backbone.config, "num_hidden_layers", None)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name.partition(".")[0], module
    raise ConfigError(
        f"finetune.frozen_layers cannot be used: {type(backbone).__name__} has no list of {count} layers.",
        hint="set it to 0, or take another backbone.",
    )

"""Behaviour embeddings, value scores and segments as Feast features.

Importing this package loads neither torch, pyspark nor feast: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Columns": "segmenter_plugin.columns",
    "Config": "segmenter_plugin.config",
    "load_config": "segmenter_plugin.config",
    "SegmenterError": "segmenter_plugin.errors",
    "UserEncoder": "segmenter_plugin.model",
    "user_value_views": "segmenter_plugin.store",
}

__all__ = ["Columns", "Config", "SegmenterError", "UserEncoder", "__version__", "load_config", "user_value_views"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__

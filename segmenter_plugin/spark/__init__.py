"""spark: the only home of pyspark, which is imported when a name is first used."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {"open_session": "segmenter_plugin.spark.session", "read_features": "segmenter_plugin.spark.features"}

__all__ = ["open_session", "read_features"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)

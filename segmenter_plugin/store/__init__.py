"""Layer 4, the only home of feast: declarations, publishing, materialising, retrieval.

Publishing needs no feast, and importing feast takes seconds, so the public names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "OnlineMatrix": "segmenter_plugin.store.retrieve",
    "UserValueViews": "segmenter_plugin.store.views",
    "online_frame": "segmenter_plugin.store.retrieve",
    "online_matrix": "segmenter_plugin.store.retrieve",
    "online_table": "segmenter_plugin.store.retrieve",
    "training_frame": "segmenter_plugin.store.training",
    "user_value_views": "segmenter_plugin.store.views",
    "views_from_config": "segmenter_plugin.store.views",
}

__all__ = [
    "OnlineMatrix",
    "UserValueViews",
    "online_frame",
    "online_matrix",
    "online_table",
    "training_frame",
    "user_value_views",
    "views_from_config",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__

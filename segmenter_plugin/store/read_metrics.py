"""What Feast's servers count of a lookup, counted in the same places."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from segmenter_plugin.store.lookups import FetchedView


@cache
def _feast_metrics() -> ModuleType | None:
    try:
        from feast import metrics  # noqa: PLC0415 - needs packages that only a server has
    except ImportError:
        return None
    return metrics


def reads_are_counted() -> bool:
    """Whether a metrics server runs in this process; it may be started at any time."""
    metrics = _feast_metrics()
    return metrics is not None and bool(metrics._config.online_features)  # noqa: SLF001 - replaced when a server starts


def count_seconds(seconds: float) -> None:
    """Record how long the store took."""
    metrics = _feast_metrics()
    if metrics is not None:
        metrics.track_online_store_read(seconds)


def count_rows(view: str, fetched: FetchedView) -> None:
    """Record how many values were there, and how many not."""
    metrics = _feast_metrics()
    if metrics is not None:
        missing = sum(list(cells).count(None) for cells in fetched.cells)
        metrics.track_feature_statuses(view, sum(map(len, fetched.cells)) - missing, missing)

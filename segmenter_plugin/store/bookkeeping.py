"""Feast's own bookkeeping around a materialisation whose rows are written elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feast import FeatureStore, FeatureView
from feast.infra.common.materialization_job import MaterializationJob, MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.registry.base_registry import BaseRegistry

#: Writes one view's newest rows of the window from the first to the second time, both included.
WriteView = Callable[[FeatureView, datetime, datetime], None]


def materialize_elsewhere(
    store: FeatureStore, views: Sequence[str], start: datetime, end: datetime, write: WriteView
) -> None:
    """Materialise views through `write`, and let the registry know as if Feast had done it.

    Feast marks each view as materialising, adds the window to its intervals after `write` (so that
    ``materialize-incremental`` goes on from there), puts it back as it was where `write` raises, and renews the
    services that are computed ahead. Each view is recorded by itself: running again does what an error left out.

    Args:
        store: Its provider keeps the engine that is put in for this.
        views: Registered names.
        start: First event_timestamp.
        end: Last one, included.
        write: Called once a view.
    """
    provider = store._get_provider()  # noqa: SLF001 - the one seam between Feast's bookkeeping and the work
    # Not the property, which would set up the engine that is not going to be used.
    before = provider._batch_engine  # noqa: SLF001
    provider._batch_engine = _ElsewhereEngine(  # noqa: SLF001
        repo_config=store.config, offline_store=provider.offline_store, online_store=provider.online_store, write=write
    )
    try:
        # Feast prints what it does; standard output is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            store.materialize(start, end, feature_views=list(views))
    finally:
        provider._batch_engine = before  # noqa: SLF001


class _ElsewhereEngine(ComputeEngine):  # type: ignore[misc]  # feast is untyped
    """Hands each view to a function."""

    def __init__(self, *, write: WriteView, **stores: Any) -> None:
        super().__init__(**stores)
        self._write = write

    def update(self, *_: Any, **__: Any) -> None:
        """There is nothing to set up."""

    def teardown_infra(self, *_: Any, **__: Any) -> None:
        """There is nothing to take down."""

    def _materialize_one(self, registry: BaseRegistry, task: MaterializationTask, **_: Any) -> MaterializationJob:  # noqa: ARG002 - Feast's signature
        self._write(task.feature_view, task.start_time, task.end_time)
        return _Done(task)


@dataclass
class _Done(MaterializationJob):  # type: ignore[misc]  # feast is untyped
    """What the function has returned from is over: an error was raised, not kept."""

    task: MaterializationTask

    def status(self) -> MaterializationJobStatus:
        return MaterializationJobStatus.SUCCEEDED

    def error(self) -> None:
        return None

    def should_be_retried(self) -> bool:
        return False

    def job_id(self) -> str:
        return f"{self.task.feature_view.name}-{self.task.start_time}-{self.task.end_time}"

    def url(self) -> None:
        return None

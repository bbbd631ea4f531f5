"""Feast's local compute engine, materialising Arrow record batches instead of one message a value.

Two passes over the source: which row is each user's newest, then those rows, encoded on one thread while the ones
before are written by another. Memory is a few batches and at most 64 bytes a user.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from pydantic import PositiveInt, ValidationError

from segmenter_plugin.data.read_ahead import read_ahead
from segmenter_plugin.errors import ConfigError, StoreError
from segmenter_plugin.store.coverage import NotCovered, latest_rows
from segmenter_plugin.store.latest import LatestRows, Progress
from segmenter_plugin.store.online import StoreRestarted
from segmenter_plugin.store.rows import encode_rows
from segmenter_plugin.store.verdicts import require_verdicts

logger = logging.getLogger(__name__)

#: Encoded batches that wait for the writer.
_DEPTH = 2
#: How often a view is written before a server that keeps losing rows is given up.
_ATTEMPTS = 5


class ArrowComputeEngineConfig(FeastConfigBaseModel):  # type: ignore[misc]  # feast has no types
    """``batch_engine: {type: segmenter_plugin.store.engine.ArrowComputeEngine}``.

    Args:
        batch_rows: Rows that are encoded and written at once; takes the place of ``online_write_batch_size``.
        strict_stock: Let the online store decide by Feast's own rule which rows it overwrites.
        require_verdict: Refuse rows of our views that `segmenter gate` has not let through, see `store.verdicts`.
        backend: Of Feast's engine, where that takes over.
    """

    type: Literal["segmenter_plugin.store.engine.ArrowComputeEngine"] = (
        "segmenter_plugin.store.engine.ArrowComputeEngine"
    )
    batch_rows: PositiveInt = 16_384
    strict_stock: bool = False
    require_verdict: bool = False
    backend: str | None = None


@dataclass
class _Counts:
    read: int = 0
    users: int = 0
    written: int = 0
    was_restarted: bool = False


class ArrowComputeEngine(LocalComputeEngine):  # type: ignore[misc]  # feast has no types
    """Materialises plain views of Parquet files, or of what Feast's DuckDB store reads, into our online stores.

    Everything else goes to Feast's local engine, with a line in the log that says why.

    Args:
        repo_config: Of the repository.
        offline_store: Of the repository.
        online_store: Of the repository.
        **options: Fields of `ArrowComputeEngineConfig`.

    Raises:
        ConfigError: An option is unknown or has a wrong value.
    """

    def __init__(self, *, repo_config: Any, offline_store: Any, online_store: Any, **options: Any) -> None:
        try:
            self._options = ArrowComputeEngineConfig(**options)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ConfigError(
                f"batch_engine in feature_store.yaml: {faults}.",
                hint=f"the options are {', '.join(ArrowComputeEngineConfig.model_fields)}.",
            ) from error
        #: What this process has brought online, which a restart may take away again.
        self._written: dict[str, MaterializationTask] = {}
        self._restarts = 0
        super().__init__(
            backend=self._options.backend,
            repo_config=repo_config,
            offline_store=offline_store,
            online_store=online_store,
        )

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        job_id = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            if self._options.require_verdict:
                # Before Feast's engine can take over: whoever writes, the rows are the same.
                require_verdicts(task.feature_view, self.repo_config.repo_path, (task.start_time, task.end_time))
            self._materialize_with_earlier(task)
        except NotCovered as reason:
            logger.warning("%s: left to Feast's local engine, because %s.", task.feature_view.name, reason)
            return super()._materialize_one(registry, task, **kwargs)
        except Exception as error:  # noqa: BLE001 (Feast raises it again)
            return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)

    def _materialize_with_earlier(self, task: MaterializationTask) -> None:
        """Materialise a view, and once more those before it where the server lost them meanwhile."""
        due = {task.feature_view.name: task}
        while due:
            name, current = due.popitem()
            if self._materialize(current):
                due = self._written | due
                due.pop(name, None)
                self._restarts += 1
                if self._restarts > _ATTEMPTS:
                    raise _keeps_restarting(name)
            self._written[name] = current
        self._restarts = 0

    def _materialize(self, task: MaterializationTask) -> bool:
        """Materialise one view; whether the server was restarted since the view before it."""
        started = time.perf_counter()
        rows = latest_rows(task, self.repo_config, self.offline_store, self.online_store)
        with _progress(task, rows.rows, "choose") as progress:
            users = rows.choose(progress)
        counts = _Counts()
        if users != 0:
            with _progress(task, users, "write") as progress:
                counts = self._write_until_kept(task.feature_view, rows, progress)
        seconds = time.perf_counter() - started
        logger.info(
            "%s: %d rows read, %d users, %d written, %d older than what is online, %.1f s, %.0f rows/s.",
            task.feature_view.name,
            counts.users if rows.rows is None else rows.rows,
            counts.users,
            counts.written,
            counts.users - counts.written,
            seconds,
            counts.users / max(seconds, 1e-9),
        )
        return counts.was_restarted

    def _write_until_kept(self, view: FeatureView, rows: LatestRows, progress: Progress) -> _Counts:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                counts = self._write(view, rows, progress)
            except StoreRestarted:
                logger.warning("%s: the server lost rows; all of it is written again (attempt %d).", view.name, attempt)
            else:
                counts.was_restarted = attempt > 1
                return counts
        raise _keeps_restarting(view.name)

    def _write(self, view: FeatureView, rows: LatestRows, progress: Progress) -> _Counts:
        counts = _Counts()
        encoded = (encode_rows(batch, view) for batch in rows.batches(self._options.batch_rows))
        with (
            self.online_store.writer(self.repo_config, view, strict_stock=self._options.strict_stock) as writer,
            read_ahead(encoded, _DEPTH) as ready,
        ):
            for batch in ready:
                counts.written += writer.write(batch)
                counts.users += len(batch)
                progress(len(batch))
            writer.finish()
        return counts


def _keeps_restarting(name: str) -> StoreError:
    return StoreError(
        f"the online store lost acknowledged rows {_ATTEMPTS} times in a row, the last time of the view {name!r}.",
        hint="find out why the server keeps restarting (memory limit, liveness probe), then materialise again.",
    )


@contextmanager
def _progress(task: MaterializationTask, total: int | None, what: str) -> Iterator[Progress]:
    """Feast's progress bar, where it wants one."""
    if task.tqdm_builder is None:
        yield lambda _: None
        return
    with task.tqdm_builder(total) as bar:
        bar.set_description(what)
        yield bar.update

"""Move published rows into the online store, through Feast's own command line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.errors import MissingStageError, UserError

logger = logging.getLogger(__name__)


def materialize(config: Config, cutoffs: Sequence[datetime]) -> dict[str, Any]:
    """Materialise the views of our service, as ``feast materialize`` does it.

    Declaring the views is left to their owner: ``feast apply`` deletes what a repository lacks, so this never runs it.
    A view that a killed run left in the state MATERIALIZING is materialised again.

    Args:
        config: The shop; ``[store] feature_repo`` names the repository.
        cutoffs: Already published.

    Returns:
        ``views``, and ``start`` and ``end`` of the window of event_timestamps, both included.

    Raises:
        MissingStageError: A cutoff has not been published.
        StoreError: The service is not declared, or Feast ended with an error.
        GateError: The repository requires verdicts, and one of a view's partitions lacks it; nothing is written.
    """
    from segmenter_plugin.store.executor import requires_verdict
    from segmenter_plugin.store.publications import publications_of
    from segmenter_plugin.store.repository import (
        materialization_window,
        open_store,
        require_service,
        run_feast,
        view_names,
    )
    from segmenter_plugin.store.verdicts import require_verdicts

    if not cutoffs:
        raise UserError("no cutoff was given, so there is nothing to materialise.", hint="name one with --cutoff.")
    names, repo = FeatureNames.of(config), Path(config.store.feature_repo)
    store = open_store(repo)
    served = set(view_names(require_service(store, names.service)))
    folders = [folder for folder in names.folders if names.registered(folder) in served]
    there = {folder: publications_of(config, folder).cutoffs() for folder in folders}
    for folder, its_cutoffs in there.items():
        for cutoff in sorted(set(cutoffs) - set(its_cutoffs)):
            raise MissingStageError(
                f"'{folder}/{cutoff_key(cutoff)}' has not been built.",
                hint=f"run `segmenter publish --cutoff {cutoff:%Y-%m-%dT%H:%M:%SZ}` first.",
            )
    views = [names.registered(folder) for folder in folders]
    published = [cutoff for its_cutoffs in there.values() for cutoff in its_cutoffs]
    covered = [interval for view in views for interval in store.get_feature_view(view).materialization_intervals]
    start, end = materialization_window(cutoffs, published, covered)
    if requires_verdict(store):
        # Feast would refuse each view by itself, in the middle of its run and with its own exit code.
        for view in views:
            require_verdicts(store.get_feature_view(view), store.config.repo_path, (start, end))
    logger.info("materialising %s from %s to %s", ", ".join(views), start.isoformat(), end.isoformat())
    chosen = [part for view in views for part in ("--views", view)]
    run_feast(repo, ["materialize", start.isoformat(), end.isoformat(), *chosen])
    return {"views": views, "start": start.isoformat(), "end": end.isoformat()}

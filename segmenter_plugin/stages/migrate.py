"""Move online rows between the layouts of our Redis store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames


def migrate_online(config: Config, to: Literal["packed", "stock"], *, keep_old: bool = False) -> dict[str, Any]:
    """Move the rows of our service's views.

    Args:
        config: The shop; ``[store] feature_repo`` names the repository.
        to: The layout to move to.
        keep_old: Leave the rows where they were as well, while readers still look there.

    Returns:
        ``to``; ``views``: rows found, moved and deleted of each; ``tables``: the same as a table.

    Raises:
        StoreError: The service is not declared, or the online store is not our Redis store.
    """
    from segmenter_plugin.store.migrate import migrate_layout
    from segmenter_plugin.store.repository import open_store, require_service, view_names

    store = open_store(Path(config.store.feature_repo))
    views = view_names(require_service(store, FeatureNames.of(config).service))
    moved = [asdict(view) for view in migrate_layout(store, views, to, keep_old=keep_old)]
    return {"to": to, "views": moved, "tables": {f"Online rows moved to the {to} layout": moved}}

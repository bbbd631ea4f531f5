"""Read what a ranking model would get: a user's features online, and as of a moment in the past."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames

logger = logging.getLogger(__name__)

#: Values of an embedding that a table shows.
SHOWN_VALUES = 3


def lookup(config: Config, user_ids: Sequence[int | str], service: str | None = None) -> dict[str, Any]:
    """Read users from the online store.

    Args:
        config: The shop; ``[store] feature_repo`` names the repository.
        user_ids: As the events have them; a text of digits will do for an integer.
        service: A feature service; by default ours.

    Returns:
        ``service``; ``rows``: one JSON-able dict a user, in the order asked, with the join key and the features;
        ``missing_users``: those that no view holds, whose features are all None; ``tables``: the rows in short.

    Raises:
        UserError: An id has not the type of the join key.
        StoreError: The service is not declared, or nothing has been materialised.
    """
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.retrieve import FOUND, online_table

    service = service or FeatureNames.of(config).service
    table = online_table(open_store(Path(config.store.feature_repo)), service, user_ids)
    join_key = table.column_names[0]
    found = table.column(FOUND).to_pylist()
    rows = _jsonable(table.drop_columns([FOUND]).to_pylist())
    missing = [row[join_key] for row, is_found in zip(rows, found, strict=True) if not is_found]
    logger.info("%s: %d users found, %d not", service, len(rows) - len(missing), len(missing))
    short = [
        {join_key: row[join_key], FOUND: "yes" if is_found else "no"} | _short(config, row)
        for row, is_found in zip(rows, found, strict=True)
    ]
    title = f"Online features of {service}, in short"
    return {"service": service, "rows": rows, "missing_users": missing, "tables": {title: short}}


def point_in_time(
    config: Config, moments: Iterable[tuple[int | str, datetime]], service: str | None = None
) -> dict[str, Any]:
    """Features as they were known at moments in the past, as a ranking model is trained on them.

    Args:
        config: The shop.
        moments: (user, time) pairs; times with a zone.
        service: A feature service; by default ours.

    Returns:
        ``service``; ``rows``: one JSON-able dict a moment, in the order asked, features None where nothing was
        published yet; ``tables``: the rows in short.

    Raises:
        LeakageError: A row comes from weights that had seen events after its moment.
        UserError: An id has not the type of the join key.
        StoreError: The service is not declared.
    """
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.training import frame_rows, moments_frame, training_frame

    service = service or FeatureNames.of(config).service
    store = open_store(Path(config.store.feature_repo))
    asked = moments_frame(store, service, moments)
    rows = _jsonable(frame_rows(training_frame(store, service, asked)))
    join_key = asked.columns[0]
    shown = [f"{time:%Y-%m-%d %H:%M}" for time in asked[Columns.event_timestamp]]
    short = [
        {join_key: row[join_key], Columns.event_timestamp: time} | _short(config, row)
        for row, time in zip(rows, shown, strict=True)
    ]
    return {"service": service, "rows": rows, "tables": {f"Point-in-time features of {service}, in short": short}}


def _short(config: Config, row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit a screen: what ranks users, the segment's name and the start of the embedding."""
    ranking = [task.score_columns[0] for task in config.tasks if task.rates_a_user]
    shown = {name: row[name] for name in (*ranking, Columns.value_score, Columns.segment_name) if name in row}
    embedding = row.get(Columns.embedding)
    if embedding is None:
        return shown
    return shown | {Columns.embedding: " ".join(f"{value:.2f}" for value in embedding[:SHOWN_VALUES]) + " …"}


def _jsonable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows
    ]

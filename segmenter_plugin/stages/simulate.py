"""`segmenter simulate`: the events of a shop whose truth is known, with a configuration that fits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segmenter_plugin.clock import parse_time
from segmenter_plugin.data.shop import EVENTS_FOLDER, TRUTH_FILE
from segmenter_plugin.data.shop import simulate as simulated_shop
from segmenter_plugin.stages.init import write_config

#: Folder of the shop under the one that was named: it is replaced as a whole when other numbers are given.
SHOP_FOLDER = "shop"


def simulate(users: int, days: int, out: Path, *, start: str, seed: int) -> dict[str, Any]:
    """Write ``shop/events/*.parquet``, ``shop/truth.parquet`` and, where there is none, ``segmenter.toml``.

    Args:
        users: How many users, bots among them.
        days: How many days of events from `start`.
        out: Folder to write.
        start: First day, UTC.
        seed: Same seed, same shop, however many users follow.

    Raises:
        ConfigError: A number is out of range.
        CutoffError: `start` is not a time.
    """
    shop = simulated_shop(users, days, seed, parse_time(start, "UTC")).write(out / SHOP_FOLDER)
    events, config = shop / EVENTS_FOLDER, out / "segmenter.toml"
    result = {"events": str(events), "truth": str(shop / TRUTH_FILE), "config": str(config)}
    if not config.exists():
        result |= write_config(str(events), config)
    return result

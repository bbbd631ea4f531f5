"""The data sets: whose events, which cutoffs are scored, and how users are folded."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from quality_bench.rows import refuse_leaks
from segmenter_plugin.clock import parse_time
from segmenter_plugin.config import Config, load_config
from segmenter_plugin.data.complete_journey import write_events
from segmenter_plugin.data.shop import simulate
from segmenter_plugin.stages.build import build

logger = logging.getLogger(__name__)

_HERE = Path(__file__).parent
SHOP_USERS, SHOP_DAYS, SHOP_SEED = 20_000, 220, 11


@dataclass(frozen=True)
class BenchSet:
    """Events with a configuration, built.

    Attributes:
        name: In file names and records.
        config: Its root holds all tables of the set.
        scoring: Cutoffs that are judged, pooled; all later than every training label.
        folds: Of users, for cross-fitting; few where users are many.
    """

    name: str
    config: Config
    scoring: tuple[datetime, ...]
    folds: int

    def built(self) -> BenchSet:
        """The same, its tables made where they are not current.

        Raises:
            LeakageError: A training label's window reaches beyond the first scoring cutoff.
        """
        refuse_leaks(self.config, self.scoring)
        build(self.config, [*self.config.training_cutoffs, *self.scoring])
        return self


def complete_journey(root: Path, overrides: Sequence[str] = ()) -> BenchSet:
    """The Complete Journey: 1 October, November and December, pooled."""
    folder = root / "complete_journey"
    write_events(folder / "raw")
    config = _config(folder, "complete_journey.toml", overrides)
    cutoffs = tuple(config.time(day) for day in ("2017-10-01", "2017-11-01", "2017-12-01"))
    return BenchSet("complete_journey", config, cutoffs, folds=4)


def taobao(root: Path, events: Path, overrides: Sequence[str] = ()) -> BenchSet:
    """The Taobao clicks, judged on their last three days."""
    folder = root / "taobao"
    config = _config(folder, "taobao.toml", (f"events.path={os.path.relpath(events, folder)}", *overrides))
    return BenchSet("taobao", config, (config.time("2017-12-01T00:00:00+08:00"),), folds=5)


def simulated_shop(root: Path, overrides: Sequence[str] = ()) -> BenchSet:
    """The simulated shop, one later cutoff."""
    folder = root / "simulated_shop"
    folder.mkdir(parents=True, exist_ok=True)
    simulate(SHOP_USERS, SHOP_DAYS, SHOP_SEED, parse_time("2024-01-01", "UTC")).write(folder / "shop")
    config = _config(folder, "simulated_shop.toml", overrides)
    return BenchSet("simulated_shop", config, (config.time("2024-07-01T00:00:00Z"),), folds=2)


def own(root: Path, path: Path, overrides: Sequence[str] = ()) -> BenchSet:
    """Anybody's configuration: its training cutoffs, judged at its evaluation cutoff; outputs go under `root`."""
    config = load_config(path, (f"store.root={(root / path.stem).absolute()}", *overrides))
    if config.evaluation_cutoff is None:
        raise SystemExit(f"{path} has no [training] evaluation_cutoff, so there is nothing to judge at.")
    return BenchSet(path.stem, config, (config.evaluation_cutoff,), folds=4)


def _config(folder: Path, name: str, overrides: Sequence[str]) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    text = (_HERE / name).read_text(encoding="utf-8")
    place = folder / "segmenter.toml"
    if not place.is_file() or place.read_text(encoding="utf-8") != text:
        place.write_text(text, encoding="utf-8")
    return load_config(place, tuple(overrides))

"""`segmenter demo`: the whole way, on real purchases, in a Feast project of its own."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from segmenter_plugin.config import Config, load_config
from segmenter_plugin.data.complete_journey import write_events
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.stages.feature_repo import CONFIG_NAME, copy_feature_repo
from segmenter_plugin.stages.layout import Layout

logger = logging.getLogger(__name__)

#: Households of a small run: enough for both classes at every cutoff, few enough for a minute.
SMALL_HOUSEHOLDS = 400
#: A second cutoff that the weights had not seen either, so that a training frame has a history to choose from.
EARLIER = timedelta(days=14)
LOOKED_UP = 5


def demo(root: Path, *, small: bool = False) -> dict[str, Any]:
    """Run all stages on The Complete Journey; each skips itself when nothing changed.

    Args:
        root: Folder of the run: raw events, every output, the Feast repo, ``segmenter.toml`` and ``report.json``.
        small: Take 400 households instead of all.

    Returns:
        Everything that is printed; also written to ``report.json``.

    Raises:
        EventsError: The data package is not installed.
    """
    from segmenter_plugin.stages.build import build
    from segmenter_plugin.stages.materialize import materialize
    from segmenter_plugin.stages.pipeline import judge
    from segmenter_plugin.stages.train import finetune, pretrain

    root.mkdir(parents=True, exist_ok=True)
    steps = _Steps()
    steps.run("events", "The Complete Journey, as a shop's lake", lambda: _prepare(root, small=small))
    config = load_config(root / CONFIG_NAME)
    judged_at = _evaluation_cutoff(config)
    served = [judged_at - EARLIER, judged_at]
    cutoffs = sorted({*config.training_cutoffs, *served})
    steps.run("build", f"Spark: clean events, {len(cutoffs)} cutoffs", lambda: build(config, cutoffs))
    steps.run("pretrain", "masked events", lambda: pretrain(config))
    steps.run("finetune", "purchase and spend", lambda: finetune(config))
    steps.run("judge", "encoder beside baselines, on later time", lambda: judge(config, judged_at))
    steps.run("publish", "score, segment, publish, gate", lambda: _publish(config, served))
    steps.run("feast", "feast apply, feast materialize", lambda: _feast(config, lambda: materialize(config, served)))
    steps.run("read", "what a ranking model gets", lambda: _read(config, judged_at))
    return _report(root, steps, judged_at)


class _Steps:
    """Runs the steps one after the other and keeps what each gave and how long it took."""

    titles = ("events", "build", "pretrain", "finetune", "judge", "publish", "feast", "read")

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.tables: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def run(self, name: str, about: str, step: Callable[[], dict[str, Any]]) -> None:
        logger.info("[%d/%d] %s: %s", self.titles.index(name) + 1, len(self.titles), name, about)
        started = time.monotonic()
        result = step()
        self.seconds[name] = round(time.monotonic() - started, 1)
        for part in (result, *(value for value in result.values() if isinstance(value, dict))):
            self.tables |= part.pop("tables", {})
        self.results[name] = result


def _prepare(root: Path, *, small: bool) -> dict[str, Any]:
    """Raw events, configuration and Feast repo; a configuration that is there is the user's own and stays."""
    events = write_events(root / "raw", households=SMALL_HOUSEHOLDS if small else None)
    if (root / CONFIG_NAME).exists():
        logger.info("using the configuration that is there: %s", root / CONFIG_NAME)
    else:
        shutil.copyfile(Path(__file__).with_name("demo.toml"), root / CONFIG_NAME)
    repo = copy_feature_repo(root / "feature_repo")
    return {"events": str(events), "config": str(root / CONFIG_NAME), "feature_repo": str(repo)}


def _evaluation_cutoff(config: Config) -> datetime:
    cutoff = config.evaluation_cutoff
    if cutoff is None:
        raise ConfigError(
            "the demo's configuration has no [training] evaluation_cutoff.",
            hint="remove segmenter.toml from the run's folder; the demo writes it anew.",
        )
    return cutoff


def _publish(config: Config, cutoffs: list[datetime]) -> dict[str, Any]:
    from segmenter_plugin.stages.gate import gate, require_passed
    from segmenter_plugin.stages.pipeline import score_and_publish

    result = score_and_publish(config, cutoffs)
    result["gate"] = gate(config, cutoffs)
    require_passed(result["gate"])
    return result


def _feast(config: Config, materialize: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Declare the demo's own views, then materialise."""
    from segmenter_plugin.store.repository import run_feast

    run_feast(Path(config.store.feature_repo), ["apply"])
    return materialize()


def _read(config: Config, cutoff: datetime) -> dict[str, Any]:
    """Five households online, and a point-in-time frame at three times around two published cutoffs."""
    from segmenter_plugin.stages.lookup import lookup, point_in_time

    users = _users_across_values(config, cutoff)
    times = [cutoff - EARLIER - timedelta(days=4), cutoff - timedelta(days=4), cutoff + timedelta(days=4)]
    online, frame = lookup(config, users), point_in_time(config, [(user, at) for user in users[:2] for at in times])
    return {"online": online, "training_frame": frame}


def _users_across_values(config: Config, cutoff: datetime) -> list[str]:
    """Ids spread evenly over the order of expected spend, so that the table shows the whole range."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from segmenter_plugin.data.partition import data_files

    expected = next(name for task in config.tasks for name in task.score_columns)
    table = pq.read_table(data_files(Layout.of(config).scores(cutoff)), columns=["user_id", expected])
    order = pc.sort_indices(table, [(expected, "ascending"), ("user_id", "ascending")])
    users = table["user_id"].take(order).to_pylist()
    return [str(users[(len(users) - 1) * step // (LOOKED_UP - 1)]) for step in range(LOOKED_UP)]


def _report(root: Path, steps: _Steps, cutoff: datetime) -> dict[str, Any]:
    config = f"--config {root / 'segmenter.toml'}"
    report = steps.results | {
        "seconds": steps.seconds,
        "seconds_total": round(sum(steps.seconds.values()), 1),
        "run_folder": str(root),
        "tables": steps.tables,
        "next": [
            f"segmenter lookup {config} 1 2 3",
            f"segmenter export {config} --cutoff {cutoff:%Y-%m-%d} --format npy",
            f"open {Path(steps.results['judge']['evaluate']['path']) / 'curves.png'}",
            f"tensorboard --logdir {root / 'training'}",
            f"edit {root / 'segmenter.toml'} (another task, say) and run `segmenter demo` again",
            "segmenter init --events YOUR_EVENTS.parquet",
        ],
    }
    aside = root / ".report.json.new"
    aside.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    aside.replace(root / "report.json")
    return report

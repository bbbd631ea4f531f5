"""A published shop and our own feature repo beside it, with the stores and the engine of this package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import shop_tables
import yaml

from segmenter_plugin.config import Config
from segmenter_plugin.stages.publish import publish

PROJECT = Path(__file__).parents[1]

ENGINE = {"type": "segmenter_plugin.store.engine.ArrowComputeEngine"}
ONLINE = ("sqlite", "stock", "packed")
OFFLINE = {"type": "segmenter_plugin.store.offline.PublishedDuckDBOfflineStore"}
SQLITE = {"type": "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore", "path": "data/online.db"}


@contextmanager
def online_store(kind: str) -> Iterator[dict[str, Any]]:
    """Settings of ``sqlite``, or of ``stock`` or ``packed`` Redis on a server that runs for so long."""
    if kind == "sqlite":
        yield SQLITE
        return
    from redis_world import redis_server

    with redis_server() as server:
        yield {
            "type": "segmenter_plugin.store.redis.ArrowRedisOnlineStore",
            "connection_string": server.address,
            "layout": kind,
        }


@dataclass(frozen=True)
class Served:
    """One shop: its configuration, its users, the cutoff that is published, and what was written."""

    config: Config
    users: list[Any]
    cutoff: datetime
    written: dict[str, pa.Table]

    @property
    def repo(self) -> Path:
        return Path(self.config.store.feature_repo)

    @property
    def store(self) -> Any:
        """Opened anew, so that what other processes registered is seen."""
        from segmenter_plugin.store.repository import open_store

        return open_store(self.repo)

    def feast(self, *arguments: str, **environment: str) -> str:
        """Run Feast's command line in the repo; its output, both streams."""
        command = [sys.executable, "-P", "-m", "feast.cli.cli", *arguments]
        environment = os.environ | environment
        done = subprocess.run(
            command,
            cwd=self.repo,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def declared(self) -> Any:
        """Our views of this shop, for a test that applies them in its own process."""
        from segmenter_plugin.store.sources import published_source
        from segmenter_plugin.store.views import views_from_config

        return views_from_config(
            self.config, source=lambda view: published_source(self.config, view), user_type=pa.string()
        )

    def rewrite(self, seed: int, created_at: str | None = None) -> dict[str, pa.Table]:
        """Publish other rows of the same users and cutoff."""
        kind = self.written["scores"].schema.field("user_id").type
        written = shop_tables.write_shop(self.config, self.cutoff, users=self.users, user_type=kind, seed=seed)
        publish(self.config, [self.cutoff], created_at=created_at)
        return written


def published_shop(root: Path, cutoff: datetime, online_store: dict[str, Any], count: int = 12, **store: Any) -> Served:
    """Publish one cutoff and copy our feature repo beside it, with its stores replaced; nothing is applied yet.

    Args:
        root: An empty folder.
        cutoff: To publish.
        online_store: That section of feature_store.yaml.
        count: Users; the ids are strings.
        store: Keys of ``[store]``.
    """
    config = shop_tables.shop_config(root, **store)
    repo = Path(config.store.feature_repo)
    shutil.copytree(PROJECT / "feature_repo", repo, ignore=shutil.ignore_patterns("data", "__pycache__"))
    settings = yaml.safe_load((repo / "feature_store.yaml").read_text())
    settings |= {"online_store": online_store, "offline_store": OFFLINE, "batch_engine": ENGINE}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    users = shop_tables.users_of(count, pa.string())
    written = shop_tables.write_shop(config, cutoff, users=users, user_type=pa.string())
    publish(config, [cutoff])
    return Served(config, users, cutoff, written)

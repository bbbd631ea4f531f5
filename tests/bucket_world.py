"""moto's S3 server in its own process, as deltalake holds the interpreter's lock while it asks, and its buckets."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: Credentials and region, from where each library looks for them.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "moto",
    "AWS_SECRET_ACCESS_KEY": "moto",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_endpoint() -> Iterator[tuple[str, pytest.MonkeyPatch]]:
    """The address of a server, with credentials for it in the environment, which more may be put into."""
    with pytest.MonkeyPatch.context() as patch, s3_server() as address:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield address, patch


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address, ``http://127.0.0.1:port``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        assert process.poll() is None, "moto's server ended"
        time.sleep(0.1)
    raise TimeoutError("moto's server does not answer")


def client(endpoint: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


def keys(endpoint: str, bucket: str, prefix: str = "") -> list[str]:
    """All keys of a bucket that begin so."""
    pages = client(endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

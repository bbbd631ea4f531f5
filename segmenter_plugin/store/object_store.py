"""Published rows put into a bucket: what makes them count is one conditional PUT.

Files are put under names never used, then ``manifest-<n+1>.json`` if absent, ``n`` being the newest before the first
of them. Of several publishers one puts it; the others find it there and take their files away.

What neither manifest ``n`` nor ``n+1`` names, and lay there when ``n`` was looked for, belongs to nobody: whoever put
it looked for the newest manifest before that, so the number it would take is at most ``n+1`` and is taken. Manifests
are never removed, as a number that is free again would let such a publisher win.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmenter_plugin.data.object_rows import (
    MARKER,
    ObjectFolder,
    manifest_name,
    partition_as_of_now,
    read_json,
)
from segmenter_plugin.data.partition import completed, manifest_text
from segmenter_plugin.data.staging import staged
from segmenter_plugin.errors import ConcurrentRunError, OutputError, StoreError

logger = logging.getLogger(__name__)

#: Most keys of one request that deletes.
_KEYS_AT_ONCE = 1000
#: How often a PUT is tried that meets another one under way, which Amazon answers with 409.
_ATTEMPTS = 5
_ALREADY_THERE, _UNDER_WAY = 412, 409


@dataclass(frozen=True)
class _Bucket:
    """What is asked of boto3; paths are ``bucket/key`` as pyarrow has them."""

    client: Any

    @classmethod
    def open(cls, endpoint: str | None) -> _Bucket:
        try:
            import boto3  # noqa: PLC0415 - an extra that most do without
        except ModuleNotFoundError as error:
            raise StoreError(
                "publishing to [store] published needs the package 'boto3'.", hint='pip install "segmenter-plugin[s3]".'
            ) from error
        return cls(boto3.client("s3", endpoint_url=endpoint))

    def upload(self, file: Path, path: str) -> None:
        """A whole file appears, or none."""
        self.client.upload_file(str(file), *path.split("/", 1))

    def put_if_absent(self, path: str, text: str) -> bool:
        """Whether it was absent; False also where the answer to the first try was lost, and that one had put it."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - comes with boto3

        bucket, key = path.split("/", 1)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.client.put_object(Bucket=bucket, Key=key, Body=text.encode(), IfNoneMatch="*")
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == _ALREADY_THERE:
                    return False
                if status != _UNDER_WAY or attempt == _ATTEMPTS:
                    raise
            else:
                return True
        return False

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files; those that are not there count as removed."""
        for start in range(0, len(paths), _KEYS_AT_ONCE):
            keys = [{"Key": path.split("/", 1)[1]} for path in paths[start : start + _KEYS_AT_ONCE]]
            self.client.delete_objects(Bucket=paths[0].split("/", 1)[0], Delete={"Objects": keys, "Quiet": True})


@contextmanager
def new_object_partition(
    view: ObjectFolder, folder: Path, root: Path, manifest: dict[str, Any], endpoint: str | None = None
) -> Iterator[Path]:
    """As `data.partition.new_published`, for rows that lie in a bucket.

    Args:
        view: The view's folder there.
        folder: Where the partition would lie under the root; its name is the partition's, and its lock holds here too.
        root: The store's root, where the files are written first.
        manifest: See `data.partition.new_partition`.
        endpoint: See `ObjectFolder.of`.

    Raises:
        ConcurrentRunError: Another run is writing the same partition, here or on another machine.
        OutputError: The disk is full, or the bucket refuses or cannot be reached.
        StoreError: boto3 is not installed, or the store puts in spite of what is there.
    """
    bucket = _Bucket.open(endpoint)
    place = f"{view.path}/{folder.name}"
    with _unreachable_named(place), staged(folder, root) as staging:
        before = partition_as_of_now(view, folder.name)
        yield staging.folder
        written = sorted(path for path in staging.folder.iterdir() if path.is_file())
        whole = completed(staging, manifest) | {"id": staging.id}
        _mark(bucket, view)
        names = [f"{path.stem}-{staging.id}{path.suffix}" for path in written]
        paths = [f"{place}/{name}" for name in names]
        with _taken_away_unless_whole(bucket, paths):
            for file, path in zip(written, paths, strict=True):
                bucket.upload(file, path)
        number = before.number + 1
        whole |= {"files": names, "number": number}
        _commit(bucket, view, f"{place}/{manifest_name(number)}", whole, paths)
        dead = [str(info.path) for info in (*before.files, *before.others)]
        with _logged(f"{place}: replaced files were not removed; the next publish of this cutoff removes them"):
            bucket.remove(dead)


def _mark(bucket: _Bucket, view: ObjectFolder) -> None:
    """Have the view's folder read by its manifests; and see that the store heeds a condition at all."""
    path, text = f"{view.path}/{MARKER}", "{}\n"
    if bucket.put_if_absent(path, text) and bucket.put_if_absent(path, text):
        raise StoreError(
            f"the store of {path!r} puts a file with `If-None-Match: *` although one is there, so two publishers would "
            "not see each other.",
            hint='use a store that heeds it, or [store] table_format = "delta" with a lock of your own.',
        )


def _commit(bucket: _Bucket, view: ObjectFolder, path: str, manifest: dict[str, Any], files: Sequence[str]) -> None:
    """Let the files count, or take them away where another publisher's do.

    An error is passed on with the files left where they are: the manifest may have been put.
    """
    if bucket.put_if_absent(path, manifest_text(manifest)):
        return
    winner = read_json(view.filesystem, path)
    if winner["id"] == manifest["id"]:
        return
    with _logged("files that do not count were not removed; the next publish of this cutoff removes them"):
        bucket.remove(files)
    raise ConcurrentRunError(
        f"{path!r} was put by another run, at {winner.get('written_at')}; one run at a time may publish a cutoff.",
        hint="its rows count, and these were taken away; if they shall count, run `segmenter publish` again.",
    )


@contextmanager
def _taken_away_unless_whole(bucket: _Bucket, paths: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what failed first is told; the next publish removes what stays
            bucket.remove(paths)
        raise


@contextmanager
def _logged(message: str) -> Iterator[None]:
    """Pass over what fails after the rows count."""
    try:
        yield
    except Exception:
        logger.warning(message, exc_info=True)


@contextmanager
def _unreachable_named(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not _is_of_the_bucket(error):
            raise
        raise OutputError(
            f"'s3://{place}' cannot be written: {error}",
            hint="see that the bucket exists, and that credentials, region and [store] published_endpoint are right; "
            "then run again.",
        ) from error


def _is_of_the_bucket(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in {"boto3", "botocore"} or "AWS Error" in str(error)

"""Which files in a bucket the configuration's events are; read by Arrow, so without Hadoop's jars for it.

Credentials, region and ``AWS_ENDPOINT_URL`` come from the environment, the executors' too.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from pyarrow import fs

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.data.remote_glob import STARS, remote_glob, split_glob
from segmenter_plugin.errors import EventsError

_SCHEME = "s3://"
_ENDINGS = (".parquet", ".pq", ".parq")


def bucket_files(config: EventsConfig) -> dict[str, str] | None:
    """Address of each Parquet file that `[events] path` names -> its size and time, which tell whether it changed.

    None where it names no place in a bucket, or files of a format that Spark's own reader reads there.

    Raises:
        EventsError: The path names no file, or the bucket cannot be listed.
    """
    if config.path is None or not config.path.startswith(_SCHEME) or config.format != "parquet":
        return None
    try:
        infos = _infos(config.path)
    except OSError as error:
        raise EventsError(
            f"[events] path = {config.path!r} cannot be listed: {error}",
            hint="see that the bucket exists, and that credentials and region are right.",
        ) from error
    if not infos:
        raise EventsError(
            f"[events] path = {config.path!r} names no parquet file.",
            hint="give a file, a folder of them, or a glob such as s3://bucket/events/*.parquet.",
        )
    return {f"{_SCHEME}{info.path}": f"{info.size}-{info.mtime_ns}" for info in infos}


def _infos(address: str) -> list[fs.FileInfo]:
    # Only the part without stars is an address: a ? would begin its options.
    fixed, rest = split_glob(address.removeprefix(_SCHEME))
    filesystem, root = fs.FileSystem.from_uri(f"{_SCHEME}{fixed}")
    pattern = f"{root}/{rest}" if rest else root
    found = remote_glob(filesystem, pattern) if STARS.search(rest) else filesystem.get_file_info([pattern])
    files = [inner for info in found for inner in _below(filesystem, info)]
    return sorted({info.path: info for info in files}.values(), key=lambda info: info.path)


def _below(filesystem: fs.FileSystem, info: fs.FileInfo) -> list[fs.FileInfo]:
    if info.type != fs.FileType.Directory:
        return [info] if info.type == fs.FileType.File else []
    inner = filesystem.get_file_info(fs.FileSelector(info.path, recursive=True))
    named = [one for one in inner if one.type == fs.FileType.File and one.path.lower().endswith(_ENDINGS)]
    # Spark skips these too: what a writer has not finished, and checksums.
    return [one for one in named if not _is_hidden(PurePosixPath(one.path).relative_to(info.path))]


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part[0] in "._" for part in path.parts)

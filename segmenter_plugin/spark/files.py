"""Which files of this machine the configuration's events are; asked before Spark is started, so without pyspark."""

from __future__ import annotations

import glob
from pathlib import Path
from urllib.parse import urlparse

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.errors import EventsError

_ENDINGS = {"parquet": (".parquet", ".pq", ".parq"), "csv": (".csv", ".csv.gz", ".tsv", ".txt")}


def local_files(config: EventsConfig) -> list[Path] | None:
    """Files on this machine that `[events] path` names, in name order.

    None where it lies elsewhere or is a table, and of formats of which only Spark's reader knows what their files are.

    Raises:
        EventsError: The path names no file.
    """
    if config.path is None or _is_remote(config.path) or config.format not in _ENDINGS:
        return None
    named = [Path(name) for name in glob.glob(local_name(config.path), recursive=True)]
    named = [Path(local_name(config.path))] if Path(local_name(config.path)).exists() else named
    files: list[Path] = []
    for path in named:
        files += _files_below(path, config.format) if path.is_dir() else [path]
    if not files:
        raise EventsError(
            f"[events] path = {config.path!r} names no {config.format} file.",
            hint="give a file, a folder of them, or a glob such as events/*.parquet; relative paths start at the "
            "configuration's own folder.",
        )
    return sorted(set(files))


def _is_remote(path: str) -> bool:
    return "://" in path and urlparse(path).scheme != "file"


def local_name(path: str) -> str:
    """A path without the scheme ``file:``."""
    return urlparse(path).path if path.startswith("file:") else path


def _files_below(folder: Path, kind: str) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(_ENDINGS[kind]))
    # Spark skips these too: what a writer has not finished, and checksums.
    return [path for path in below if not any(part[0] in "._" for part in path.relative_to(folder).parts)]

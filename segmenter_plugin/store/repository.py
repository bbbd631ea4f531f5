"""A Feast repository as we meet it: opened, asked what it knows, driven through Feast's own command line."""

from __future__ import annotations

import atexit
import functools
import gc
import logging
import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from feast import FeatureService, FeatureStore
from feast.errors import FeatureServiceNotFoundException

from segmenter_plugin.errors import StoreError

logger = logging.getLogger(__name__)

#: Lines of a failed command that go into the error.
LAST_LINES = 12

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

#: Written on each run of Feast 0.67, and of no use to the reader: a warning against what we have tested, a warning that
#: a glob is not a file, ibis 12 on DuckDB 2.0, and DuckDB's list of objects that are alive when the interpreter ends.
_NOISE = re.compile(
    r"`serve_features_while_materializing` is enabled but|Could not validate FileSource path '[^']*\*"
    r"|fetch_arrow_table\(\)|^nanobind:|^- (leaked |\.\.\. skipped)|^See https://nanobind"
)


def open_store(repo: Path) -> FeatureStore:
    """The feature store of a repository.

    Raises:
        StoreError: There is no ``feature_store.yaml``.
    """
    if not (repo / "feature_store.yaml").is_file():
        raise StoreError(
            f"{str(repo)!r} is no Feast repository: it holds no feature_store.yaml.",
            hint="point [store] feature_repo at yours.",
        )
    _release_duckdb_at_exit()
    with _without_noise("feast.repo_config"):
        store = FeatureStore(repo_path=str(repo))
        _ = store.registry  # read on first use, and the warning comes then
    return store


@contextmanager
def _without_noise(logger_name: str) -> Iterator[None]:
    theirs = logging.getLogger(logger_name)

    def is_of_use(record: logging.LogRecord) -> bool:
        return not _NOISE.search(record.getMessage())

    theirs.addFilter(is_of_use)
    try:
        yield
    finally:
        theirs.removeFilter(is_of_use)


@functools.cache
def _release_duckdb_at_exit() -> None:
    """Feast leaves ibis' connection open, and DuckDB 2.0 prints a page about it when the interpreter ends."""
    atexit.register(_release_duckdb)


def _release_duckdb() -> None:
    ibis = sys.modules.get("ibis")
    if ibis is not None:
        ibis.options.default_backend = None
        gc.collect()


def require_service(store: FeatureStore, name: str) -> FeatureService:
    """A registered feature service.

    Raises:
        StoreError: The registry does not hold it.
    """
    try:
        return store.get_feature_service(name)
    except FeatureServiceNotFoundException as error:
        known = sorted(service.name for service in store.list_feature_services())
        raise StoreError(
            f"the feature service {name!r} is not in the registry of project {store.project!r}; it holds {known}.",
            hint="run `feast apply` in our feature_repo; in a repository of your own, "
            "store.apply(user_value_views(...).objects(), partial=True), which deletes nothing.",
        ) from error


def view_names(service: FeatureService) -> list[str]:
    """Registered names of the views that a service reads rows of; an on-demand view has none."""
    return [projection.name for projection in service.feature_view_projections if projection.batch_source is not None]


def join_key_of(store: FeatureStore, service: FeatureService) -> str:
    """The one join key of a service's views.

    Raises:
        StoreError: There are several.
    """
    views = [store.get_feature_view(name) for name in view_names(service)]
    keys = sorted({column.name for view in views for column in view.entity_columns})
    if len(keys) != 1:
        raise StoreError(
            f"the service {service.name!r} reads views with the join keys {keys}; one is supported here.",
            hint="name a service of ours, or ask Feast directly.",
        )
    return keys[0]


def materialization_window(
    cutoffs: Iterable[datetime], published: Iterable[datetime], covered: Iterable[tuple[datetime, datetime]]
) -> tuple[datetime, datetime]:
    """First and last event_timestamp to materialise, both included.

    Feast writes each user's newest row of the window over what is online, also over a newer one (SQLite; Redis skips
    it). So an older cutoff materialised again takes along the newer ones that went online before; a cutoff that was
    published but held back from serving stays out.

    Args:
        cutoffs: To be materialised; at least one.
        published: All published cutoffs.
        covered: Intervals that have been materialised, as the registry has them.
    """
    first, last = min(cutoffs), max(cutoffs)
    intervals = list(covered)
    online = [time for time in published if any(start <= time <= end for start, end in intervals)]
    return first, max([last, *online])


def run_feast(repo: Path, arguments: Sequence[str]) -> None:
    """Run a command of Feast's command line in a repository, its output passed on as log lines.

    Args:
        repo: Folder with the ``feature_store.yaml``.
        arguments: For example ``["apply"]``.

    Raises:
        StoreError: It ended with an error; the message holds its last lines.
    """
    # The module of the `feast` script, run by this interpreter: a script on PATH could belong to another environment.
    # -P keeps the repository from shadowing installed modules, as the script does.
    command = [sys.executable, "-u", "-P", "-m", "feast.cli.cli", *arguments]
    last: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        command,
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            text = _COLOURS.sub("", line).strip()
            if text and not _NOISE.search(text):
                last.append(text)
                # Feast's sentences are for people; the definitions it prints between them are not.
                logger.log(logging.INFO if text[0].isupper() else logging.DEBUG, "feast: %s", text)
    if process.returncode:
        shown = shlex.join(["feast", *arguments])
        raise StoreError(
            f"`{shown}` in {str(repo)!r} ended with exit code {process.returncode}: " + " | ".join(last),
            hint="mend what the last line names; nothing that was online before is lost. Then run it again.",
        )

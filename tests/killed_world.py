"""Commands that are killed with SIGKILL, what is visible afterwards, and the page that says what came of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.data.event_log import EventLog
from segmenter_plugin.data.partition import MANIFEST, data_files
from segmenter_plugin.data.staging import STAGING

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "faults.md"
TABLES = ("behaviour", "labels", "scores", "segments")


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", "from segmenter_plugin.cli import main; main()", "-q", *arguments]


def run(folder: Path, *arguments: str) -> None:
    """Run `segmenter` to its end."""
    done = subprocess.run(_command(arguments), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def killed(folder: Path, seconds: float, *arguments: str) -> bool:
    """Whether `segmenter` was killed before it ended; its whole process group dies, Spark's JVM too."""
    process = subprocess.Popen(
        _command(arguments),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def check_whole(root: Path) -> None:
    """What a manifest names is there and can be read."""
    for manifest in manifests(root):
        files = data_files(manifest.parent)
        assert files, f"{manifest.parent} is visible and empty"
        for path in files:
            pq.read_metadata(path)
    log = EventLog.read(root)
    for path in [] if log is None else [path for _, parts in log.parts() for path in parts.values()]:
        pq.read_metadata(path)
    if log is not None:
        rows = sum(pq.read_metadata(path).num_rows for _, parts in log.parts() for path in parts.values())
        assert rows == log.counts["kept"]


def manifests(root: Path) -> list[Path]:
    """Of partitions; a version's folder has one of its own, and a name that no other run repeats."""
    found = [path for name in TABLES for path in (root / name).rglob(MANIFEST)]
    return sorted(path for path in found if path.parent.name[:2] != "v-")


def tables(root: Path) -> dict[str, pa.Table]:
    """Content of the event log and of every partition, in an order of rows that does not depend on files."""
    found = {
        str(manifest.parent.relative_to(root)): pa.concat_tables(
            [pq.ParquetFile(path).read() for path in data_files(manifest.parent)]
        )
        for manifest in manifests(root)
    }
    log = EventLog.read(root)
    if log is not None:
        files = [path for _, parts in log.parts() for path in parts.values()]
        found["events"] = pa.concat_tables([pq.read_table(path) for path in files], promote_options="permissive")
    return {name: _in_order(table) for name, table in found.items()}


def _in_order(table: pa.Table) -> pa.Table:
    plain = [pa.types.is_dictionary(field.type) for field in table.schema]
    fields = [
        field.with_type(field.type.value_type) if is_coded else field
        for field, is_coded in zip(table.schema, plain, strict=True)
    ]
    keys = [(field.name, "ascending") for field in fields if not pa.types.is_nested(field.type)]
    return table.cast(pa.schema(fields)).sort_by(keys).combine_chunks()


def files_of(root: Path) -> list[str]:
    """All files under a root, without the parts of their names that differ from run to run."""
    paths = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return sorted(re.sub(r"segment-\d+|v-[0-9a-f]+", "*", path) for path in paths)


def staged(root: Path) -> list[str]:
    """What is left in the staging folder."""
    return sorted(path.name for path in (root / STAGING).iterdir()) if (root / STAGING).is_dir() else []


def write_section(title: str, lines: Sequence[str]) -> None:
    """Put a section into the page of results, in place of the one of that title."""
    text = RESULT.read_text(encoding="utf-8") if RESULT.exists() else ""
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, flags=re.MULTILINE))
    sections[title] = "\n".join(lines)
    body = "\n".join(f"## {name}\n\n{content.strip()}\n" for name, content in sorted(sections.items()))
    RESULT.write_text(f"# Killed and started again\n\n`make faults`\n\n{body}", encoding="utf-8")

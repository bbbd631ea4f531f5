"""Results of a benchmark's runs, kept so that it goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

Run = TypeVar("Run")


class Results(Generic[Run]):
    """Results in a file of JSON lines, by run; a result may say under ``failed`` why there is none.

    Args:
        path: The file.
        run: A frozen dataclass that names one measurement.
    """

    def __init__(self, path: Path, run: type[Run]) -> None:
        self._path = path
        self._found: dict[Run, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self._found[run(**record["run"])] = record["result"]

    def __contains__(self, run: Run) -> bool:
        """Whether it need not be made again: failed runs are."""
        return run in self.succeeded

    @property
    def succeeded(self) -> dict[Run, dict[str, Any]]:
        """Results of the runs that ended well."""
        return {run: result for run, result in self._found.items() if not result.get("failed")}

    def add(self, run: Run, result: dict[str, Any]) -> None:
        """Keep a result."""
        self._found[run] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": asdict(run), "result": result}) + "\n")

    def failures(self) -> dict[Run, str]:
        """Runs that ended in an error."""
        return {run: result["failed"] for run, result in self._found.items() if result.get("failed")}

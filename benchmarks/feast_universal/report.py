"""Outcomes of Feast's universal tests, one column a store: JUnit files to a Markdown page.

python report.py FOLDER_OF_XML PAGE REVISION_OF_TESTS CONTESTANT ...
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

OUTCOMES = ("passed", "failed", "skipped")


def outcome_of(case: ET.Element) -> str:
    """How a test ended; an error in a fixture is a failure."""
    found = {child.tag for child in case}
    if found & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in found else "passed"


def name_of(case: ET.Element) -> str:
    """Name of a test without the store that it ran against, so that stores stand side by side."""
    name = re.sub(r"LOCAL:File:[^:\]]+:python_fs:(\w+)", r"python_fs:\1", case.get("name", ""))
    return f"{case.get('classname', '').removeprefix('tests.integration.')}::{name}"


def read(path: Path) -> dict[str, str]:
    """Outcome of each test of one run."""
    outcomes: dict[str, str] = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 (written by pytest a moment ago)
        name, outcome = name_of(case), outcome_of(case)
        # A test that passes and whose teardown fails is written twice.
        outcomes[name] = "failed" if "failed" in (outcome, outcomes.get(name)) else outcome
    return outcomes


def page(runs: dict[str, dict[str, str]], revision: str) -> str:
    """The whole page."""
    counts = {store: Counter(outcomes.values()) for store, outcomes in runs.items()}
    about = (
        f"`benchmarks/feast_universal.sh PATH_TO_FEAST_CHECKOUT`: Feast {version('feast')}, tests of its revision "
        f"{revision}. Stores named `stock` are Feast's own with its local engine, `arrow` are ours with our engine, on "
        "the same machine. A test that asks for a store that is not among these (DynamoDB, Postgres, ...) is skipped."
    )
    lines = [
        "# Feast's own universal tests",
        "",
        about,
        "",
        "| store | " + " | ".join(OUTCOMES) + " |",
        "|---|" + "---|" * len(OUTCOMES),
        *(f"| {store} | " + " | ".join(str(counts[store][key]) for key in OUTCOMES) + " |" for store in runs),
        "",
    ]
    names = sorted({name for outcomes in runs.values() for name in outcomes})
    failing = [name for name in names if any(outcomes.get(name) == "failed" for outcomes in runs.values())]
    if failing:
        lines += ["## Failed somewhere", "", "| test | " + " | ".join(runs) + " |", "|---|" + "---|" * len(runs)]
        lines += [
            f"| {name} | " + " | ".join(outcomes.get(name, "") for outcomes in runs.values()) + " |" for name in failing
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Read the runs, write the page and print it."""
    folder, target, revision, *contestants = sys.argv[1:]
    runs = {name: read(path) for name in contestants if (path := Path(folder) / f"{name}.xml").is_file()}
    text = page(runs, revision)
    Path(target).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

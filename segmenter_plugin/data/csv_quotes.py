"""Where the quotes of a CSV file do not pair up: looked for once rows are refused, so that a message names the line."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

#: A search ends after so much text.
_MOST_BYTES = 1 << 30


def odd_quotes(files: Iterable[Path]) -> str | None:
    """The first line with an odd number of quotes, as a sentence; None where none is found in the first gigabyte.

    A value may hold no line break, as the files are read line by line.

    Args:
        files: CSV files, plain or compressed by gzip (``.gz``).
    """
    seen = 0
    for path in files:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.count(b'"') % 2:
                    return f"line {number} of {str(path)!r} has an odd number of quotes."
                seen += len(line)
                if seen > _MOST_BYTES:
                    return None
    return None

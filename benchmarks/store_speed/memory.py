"""Resident memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")


def _kilobytes(field: str) -> int:
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])


def resident_mb() -> float:
    """What is resident now, MB."""
    return _kilobytes("VmRSS") / 1024


def forget_peak() -> None:
    """Start the high-water mark again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The high-water mark, MB."""
    return _kilobytes("VmHWM") / 1024

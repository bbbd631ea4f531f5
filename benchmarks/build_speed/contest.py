"""One contestant in a process of its own: `python -m build_speed.contest NAME EVENTS SOURCE OUT`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from build_speed import world

#: Contestants with a module of their own, whose `build` writes one cutoff.
PEERS = {"native": "native", "duckdb": "duck", "polars": "polars_build", "lifestream": "lifestream", "floor": "floor"}
OURS = ("ours", "ours_reader", "ours_eight", "yesterday", "increment", "rebuild")


def run(name: str, events: int, source: Path, out: Path) -> None:
    """Do what is measured."""
    if name in PEERS:
        importlib.import_module(f"build_speed.{PEERS[name]}").build(source, out, events, world.CUTOFF)
        return
    from build_speed import ours

    if name == "empty":
        ours.empty()
    elif name == "increment":
        ours.increment(source, out, events)
    elif name == "ours_reader":
        ours.through_reader(source, out, events, [world.CUTOFF])
    else:
        cutoffs = {"ours_eight": list(world.CUTOFFS), "yesterday": [world.YESTERDAY], "rebuild": [world.TODAY]}
        ours.plain_files(source, out, events, cutoffs.get(name, [world.CUTOFF]))


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))

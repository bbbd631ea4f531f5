"""A Python environment of its own for the peers that the package does not need: Polars and pytorch-lifestream.

pytorch-lifestream comes without its dependencies (its preprocessing needs few of them), and in 0.6.0: the wheel of
0.7.0 lacks a folder that its Spark preprocessor imports.
"""

from __future__ import annotations

from pathlib import Path

import environments

_OWN = ("polars", "pymonad", "dask[dataframe]", "distributed")
_ALONE = ("pytorch-lifestream==0.6.0",)


def python_of(folder: Path) -> str:
    """The environment's interpreter; installs it on first use."""
    return environments.python_of(folder, _OWN, _ALONE)

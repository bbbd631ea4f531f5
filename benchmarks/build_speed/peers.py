"""A Python environment of its own for the peers that the package does not need: Polars and pytorch-lifestream.

It sees the project's own environment too. pytorch-lifestream comes without its dependencies (its preprocessing needs
few of them), and in 0.6.0: the wheel of 0.7.0 lacks a folder that its Spark preprocessor imports.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

_OWN = ("polars", "pymonad", "dask[dataframe]", "distributed")
_ALONE = ("pytorch-lifestream==0.6.0",)


def python_of(folder: Path) -> str:
    """The environment's interpreter; installs it on first use."""
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        lib = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        ours = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (folder / lib / "zz_project.pth").write_text(ours, encoding="utf-8")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *_OWN], check=True)
        subprocess.run([*pip, "--no-deps", *_ALONE], check=True)
        (folder / ".ready").touch()
    return str(python)

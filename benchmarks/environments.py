"""Python environments of their own for peers whose packages the project does not need, or could not live with."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path


def python_of(folder: Path, packages: Sequence[str], alone: Sequence[str]) -> str:
    """The environment's interpreter, which sees the project's environment too; installed on first use.

    Args:
        folder: Where the environment lies.
        packages: Installed with what they depend on.
        alone: Installed without.
    """
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        lib = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        ours = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (folder / lib / "zz_project.pth").write_text(ours, encoding="utf-8")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if packages:
            subprocess.run([*pip, *packages], check=True)
        subprocess.run([*pip, "--no-deps", *alone], check=True)
        (folder / ".ready").touch()
    return str(python)

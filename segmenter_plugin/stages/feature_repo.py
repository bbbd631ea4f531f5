"""The Feast repo that the package carries, and its copies beside a configuration."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from segmenter_plugin.errors import ArtifactError

logger = logging.getLogger(__name__)

#: The declarations read this file, one folder above their own.
CONFIG_NAME = "segmenter.toml"


def feature_repo_source() -> Path:
    """Folder of the Feast repo: beside the package in a checkout, inside it once installed.

    Raises:
        ArtifactError: It is in neither place.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_feature_repo", package.parent / "feature_repo"):
        if (folder / "feature_store.yaml").is_file():
            return folder
    raise ArtifactError("the package carries no feature_repo.", hint="install it again, with pip.")


def copy_feature_repo(target: Path) -> Path:
    """Copy the declarations where there are none; a repo that is there is the owner's and stays.

    Args:
        target: Folder beside a ``segmenter.toml``.
    """
    source = feature_repo_source()
    if not (target / "feature_store.yaml").exists():
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted([*source.glob("*.py"), *source.glob("*.yaml")]):
            shutil.copyfile(path, target / path.name)
        logger.info("copied the Feast repo to %s", target)
    return target

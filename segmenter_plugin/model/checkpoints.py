"""Checkpoints that count only when they are whole.

`Trainer` writes into ``checkpoint-<step>`` itself, so a run that is killed, or whose disk fails, may leave half of one.
A seal, written last, holds a hash of every file: what does not fit its seal is passed over.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from segmenter_plugin.data.durable import replace_text, sync_tree

logger = logging.getLogger(__name__)

_STATE, _SEAL = "trainer_state.json", "seal.json"


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole, as it now is."""
    sync_tree(checkpoint)
    replace_text(checkpoint / _SEAL, json.dumps(_hashes(checkpoint), indent=1))


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, and whose run's best one is; each that is passed over is told."""
    steps = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    for step in sorted(steps, reverse=True):
        trouble = _trouble(steps[step]) or _trouble_of_best(steps[step])
        if trouble is None:
            return steps[step]
        logger.warning("%s in %r is passed over: %s", steps[step].name, str(folder), trouble)
    if steps:
        logger.warning("no checkpoint in %r is whole, so this training starts from its beginning", str(folder))
    return None


def _trouble(checkpoint: Path) -> str | None:
    try:
        sealed = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "it was not written to its end"
    found = _hashes(checkpoint)
    changed = sorted(name for name in sealed.keys() | found.keys() if sealed.get(name) != found.get(name))
    return f"{', '.join(changed)} changed after it was written" if changed else None


def _trouble_of_best(checkpoint: Path) -> str | None:
    """`Trainer` ends with the weights of the best checkpoint, which its state names by its path."""
    best = json.loads((checkpoint / _STATE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    if best is None:
        return None
    if Path(best).absolute().parent != checkpoint.absolute().parent:
        return f"it was moved here from {str(Path(best).parent)!r}"
    trouble = _trouble(Path(best))
    return None if trouble is None else f"its best weights so far are in {Path(best).name}, and {trouble}"


def _hashes(checkpoint: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and not path.name.startswith(f".{_SEAL}") and path.name != _SEAL:
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes

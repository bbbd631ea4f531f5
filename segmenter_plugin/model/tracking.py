"""Who is told how a training run goes: the log, TensorBoard, and Weights & Biases where it is wanted."""

from __future__ import annotations

import logging
import math
from importlib import import_module
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from segmenter_plugin.errors import TrainingError

logger = logging.getLogger(__name__)


def trackers(folder: Path, name: str, wandb_project: str | None) -> list[TrainerCallback]:
    """TensorBoard's callback, and that of Weights & Biases if a project is named and the package is installed."""
    told: list[TrainerCallback] = [TensorBoardCallback(tb_writer=SummaryWriter(log_dir=str(folder / "tensorboard")))]
    if wandb_project is not None:
        try:
            wandb = import_module("wandb")
        except ModuleNotFoundError:
            logger.warning(
                "%s: [training] wandb_project = %r is named, but wandb is not installed (pip install wandb); losses go "
                "to TensorBoard alone",
                name,
                wandb_project,
            )
        else:
            told.append(_Wandb(wandb, wandb_project, folder, name))
    return told


class LogLines(TrainerCallback):  # type: ignore[misc]
    """One plain line a log event, and an end to training that gives no numbers."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - Trainer's signature
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - Trainer's signature
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Check and tell the losses."""
        losses = {key: logs[key] for key in ("loss", "eval_loss") if key in logs}
        for key, value in losses.items():
            if not math.isfinite(value):
                raise not_a_number(self._name, value)
            told = {"loss": "training loss", "eval_loss": "validation loss"}[key]
            if state.is_world_process_zero:
                logger.info(
                    "%s: epoch %.2f of %.3g, %s %.4f", self._name, state.epoch, state.num_train_epochs, told, value
                )


class _Wandb(TrainerCallback):  # type: ignore[misc]
    """Losses to one run of Weights & Biases; transformers' own callback takes its project from the environment."""

    def __init__(self, wandb: Any, project: str, folder: Path, name: str) -> None:
        self._run = wandb.init(project=project, name=f"{folder.name} {name}", dir=str(folder))

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - Trainer's signature
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - Trainer's signature
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Send the numbers."""
        self._run.log(dict(logs) | {"epoch": state.epoch}, step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - Trainer's signature
        """End the run."""
        self._run.finish()


def not_a_number(name: str, value: float | None) -> TrainingError:
    """What a loss that is no number is told as."""
    return TrainingError(
        f"{name}: the loss is {value}, so the weights are unusable.",
        hint=f"lower the learning rate of [{name.split(maxsplit=1)[0]}], and look for extreme amounts in the events.",
    )

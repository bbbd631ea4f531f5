"""The sections `[training]`, `[encoder]`, `[pretrain]`, `[finetune]` and `[scores]`: what is learnt, and how."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
#: A time as written: text, or what TOML itself parses; resolved with the events' zone by `Config`.
TimeText = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else str(value))]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingConfig(_Section):
    """On which cutoffs to train, and which users to keep out for early stopping."""

    cutoffs: tuple[TimeText, ...] = ()
    #: A later cutoff that `segmenter train` judges the weights on.
    evaluation_cutoff: TimeText | None = None
    validation_share: Share = 0.15
    seed: int = 7
    #: Losses go to this Weights & Biases project too, where the package is installed; to TensorBoard always.
    wandb_project: str | None = None


class EncoderConfig(_Section):
    """The backbone and what it reads of an event."""

    preset: Literal["small", "base", "large"] = "small"
    #: A folder or hub name that `AutoConfig` reads, instead of the preset's sizes; the weights are drawn.
    hf_config: str | None = None
    #: A folder or hub name of a model whose weights are the backbone's start, instead of the preset.
    hf_checkpoint: str | None = None
    embedding_size: PositiveInt = 64
    dropout: Share = 0.3
    #: Values seen less often count as unknown: rare items tell users apart, which is learning by heart.
    min_count: PositiveInt = 10
    max_vocabulary: PositiveInt = 20_000
    #: Categorical column -> buckets that its values are hashed to, for open-ended ids; it has no vocabulary then.
    hashed_columns: dict[str, Annotated[int, Field(ge=2)]] = Field(default_factory=dict)
    #: How a number of an event becomes a vector.
    numeric_encoding: Literal["linear", "piecewise", "periodic"] = "piecewise"

    @model_validator(mode="after")
    def _one_backbone(self) -> Self:
        if self.hf_config is not None and self.hf_checkpoint is not None:
            raise ValueError("give hf_config (weights are drawn) or hf_checkpoint (weights are read), not both")
        return self


class PretrainConfig(_Section):
    """Self-supervised training on the sequences."""

    #: Objective -> weight of its loss.
    objectives: dict[str, Positive] = Field(default={"masked_event": 1.0}, min_length=1)
    epochs: NotNegative = 2
    batch_size: PositiveInt = 64
    learning_rate: Positive = 1e-3
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = 0.2
    #: How far `next_days` looks ahead.
    next_days: PositiveInt = 28


class FinetuneConfig(_Section):
    """Supervised training on the value labels: heads first, on the frozen encoder, then the whole."""

    probe_epochs: NotNegative = 10
    probe_learning_rate: Positive = 1e-3
    #: Of the whole; 0 trains the heads alone.
    epochs: NotNegative = 2
    batch_size: PositiveInt = 64
    learning_rate: Positive = 3e-4
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: Share = 0.1
    weight_decay: NotNegative = 0.01
    patience: PositiveInt = 3
    #: The backbone's first so many layers, and the event embedding below them, keep their pretrained weights.
    frozen_layers: NonNegativeInt = 0
    #: Share of events hidden at each step, drawn anew: a user's items are soon learnt by heart otherwise.
    event_dropout: Share = 0.3
    #: Share of users whose oldest events are cut off at a place drawn at each step.
    crop_probability: Share = 0.0
    #: Standard deviation that event times are shifted by at each step.
    time_jitter_days: NotNegative = 0.0
    task_weights: dict[str, NotNegative] = Field(default_factory=dict)
    #: `uncertainty` learns the tasks' weights, starting from `task_weights`.
    task_weighting: Literal["fixed", "uncertainty"] = "fixed"
    value_loss: Literal["ziln", "mse", "log_mse", "tweedie"] = "ziln"
    label_smoothing: Share = 0.0
    #: `balanced` weighs a task's classes inversely to how often they are: probabilities lose their calibration.
    class_weights: Literal["none", "balanced"] = "none"

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if not self.probe_epochs and not self.epochs:
            raise ValueError("probe_epochs and epochs are both 0, so nothing would be trained")
        return self


class ScoresConfig(_Section):
    """How a user's scores become one number."""

    #: Weight in `value_score` by task (binary or value); empty means the same for purchases and money.
    value_weights: dict[str, NotNegative] = Field(default_factory=dict)

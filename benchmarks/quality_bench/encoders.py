"""The encoder of a set and seed, and one for each fold that has not seen the fold's labels; trained once, then read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quality_bench.variants import FOLDS, fold_of, lend_pretrained, variant, without_fold
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.scoring import infer
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.train import finetune, pretrain

Arrays = dict[str, NDArray[np.float32]]


def seeded(config: Config, seed: int, name: str = "served") -> Config:
    """The configuration with a training seed, its weights in a folder of their own."""
    training = config.training.model_copy(update={"seed": seed})
    store = config.store.model_copy(update={"artifacts": f"weights/{name}-{seed}"})
    return config.model_copy(update={"training": training, "store": store})


def train_whole(config: Config) -> UserEncoder:
    """Pretrained and fine-tuned on all training users."""
    pretrain(config)
    finetune(config)
    return UserEncoder.from_pretrained(Layout.of(config).encoder)


def train_fold(config: Config, fold: int, folds: int = FOLDS) -> UserEncoder:
    """Fine-tuned without a fold's users, from the weights of `train_whole`'s pretraining."""
    pretrain(config)
    left = variant(config, f"without-{fold}-of-{folds}", without_fold(fold, folds))
    lend_pretrained(config, left)
    finetune(left)
    return UserEncoder.from_pretrained(Layout.of(left).encoder)


def score(model: UserEncoder, folder: Path) -> Arrays:
    """Embedding and score columns of a behaviour table, rows in its order."""
    parts = [infer(model.encoder, model.heads, model.features.encode(batch)) for batch in read_batches(folder)]
    scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores}
    return scores | {Columns.embedding: np.concatenate([part.embedding for part in parts])}


def score_cutoffs(model: UserEncoder, config: Config, cutoffs: Sequence[datetime]) -> Arrays:
    """`score` of several cutoffs, one after the other."""
    parts = [score(model, Layout.of(config).behaviour(cutoff)) for cutoff in cutoffs]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cross_fitted(config: Config, cutoffs: Sequence[datetime], folds: int = FOLDS) -> Arrays:
    """Scores of the training rows, each by the encoder that has not seen its user's labels."""
    ids = [
        batch.column(Columns.user_id)
        for cutoff in cutoffs
        for batch in read_batches(Layout.of(config).behaviour(cutoff), [Columns.user_id])
    ]
    fold = fold_of(pa.chunked_array(ids).combine_chunks(), folds)
    merged: Arrays = {}
    for number in range(folds):
        scored = score_cutoffs(train_fold(config, number, folds), config, cutoffs)
        for name, values in scored.items():
            merged.setdefault(name, np.empty_like(values))[fold == number] = values[fold == number]
    return merged

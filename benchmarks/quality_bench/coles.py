"""CoLES of pytorch-lifestream, frozen, and LightGBM on its embeddings; trained in a Python environment of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from environments import python_of

from quality_bench.cells import Found
from quality_bench.rows import known
from quality_bench.world import World
from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.features import Features
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.tuning import CANDIDATES, choose
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.train import pretrain

#: Without its dependencies: it pins versions (spacy, among others) that no other package here can live with.
_PACKAGES = (
    "pytorch-lifestream==0.7.0",
    "pytorch-lightning",
    "torchmetrics",
    "lightning-utilities",
    "omegaconf",
    "antlr4-python3-runtime==4.9.3",
    "hydra-core",
    "pymonad",
    "duckdb",
    "dask",
    "toolz",
    "cloudpickle",
    "partd",
    "locket",
)
_EPOCHS = 10


def predict_task(world: World, target: Target) -> Found:
    """LightGBM, tuned as on aggregates, on embeddings that have not seen labels."""
    training, judged = _embeddings(world)
    rows = world.examples(target)
    names = tuple(f"embedding_{place}" for place in range(training.shape[1]))
    rows = replace(rows, activity=training[known(world.training, target)], names=names)
    setting, fit = choose(CANDIDATES["activity_lightgbm"], rows, target.task, world.seed)
    return Found(
        fit(rows, target.task, world.seed)(judged[known(world.judged, target)]), {"setting": setting, "epochs": _EPOCHS}
    )


def _embeddings(world: World) -> tuple[FloatArray, FloatArray]:
    """Of the training rows and of the judged rows, (N, 64) each; made once."""
    folder = world.config.root_path / "coles"
    done = folder / f"{world.made_from[:16]}.npz"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pretrain(world.config)  # for its vocabulary and scalers alone
        features = UserEncoder.from_pretrained(Layout.of(world.config).pretrained).features
        sides = {
            "training": _encoded(world, features, world.config.training_cutoffs),
            "judged": _encoded(world, features, world.bench.scoring),
        }
        given, aside = folder / "sequences.npz", folder / ".embeddings.npz"
        np.savez(given, **_arrays(features, sides))  # type: ignore[arg-type]
        worker = Path(__file__).with_name("coles_worker.py")
        python = python_of(world.config.root_path.parent / "coles_environment", (), _PACKAGES)
        subprocess.run([python, worker, given, aside, str(_EPOCHS), str(world.seed)], check=True)
        aside.replace(done)
    with np.load(done, allow_pickle=False) as arrays:
        return arrays["training"].astype(np.float64), arrays["judged"].astype(np.float64)


def _encoded(world: World, features: Features, cutoffs: Sequence[datetime]) -> RaggedSequences:
    layout = Layout.of(world.config)
    return RaggedSequences.concatenate(
        [
            features.encode(batch)
            for cutoff in cutoffs
            for batch in read_batches(layout.behaviour(cutoff), features.columns)
        ]
    )


def _arrays(features: Features, sides: dict[str, RaggedSequences]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        "columns": np.array(features.vocabulary.columns),
        "sizes": np.array([features.vocabulary.size(name) for name in features.vocabulary.columns]),
    }
    for side, sequences in sides.items():
        arrays[f"{side} lengths"], arrays[f"{side} numeric"] = sequences.lengths, sequences.numeric
        arrays[f"{side} ages"], arrays[f"{side} gaps"] = sequences.ages, sequences.gaps
        for name, values in sequences.categorical.items():
            arrays[f"{side} {name}"] = values
    return arrays

"""Fixtures of the model room: a small shop, and one encoder really trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import pytest
import signal_tables

from segmenter_plugin import schemas
from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import Examples, Source, Split, learn_features, learn_targets, load_examples
from segmenter_plugin.data.features import Features, FeaturesFit
from segmenter_plugin.data.targets import Target, TargetSettings
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.finetuning import finetune_encoder
from segmenter_plugin.model.pretraining import pretrain_encoder
from segmenter_plugin.stages.layout import Layout


@dataclass(frozen=True)
class Shop:
    """Examples of a small shop, ready to train on."""

    config: Config
    features: Features
    targets: tuple[Target, ...]
    training: Examples
    validation: Examples


@pytest.fixture(scope="session")
def signal() -> ModuleType:
    """`tests/signal_tables.py`."""
    return signal_tables


@pytest.fixture(scope="session")
def shop(signal: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    config = signal.signal_config(tmp_path_factory.mktemp("shop"), finetune={"epochs": 6})
    users = signal.users_of(200)
    for cutoff in config.training_cutoffs:
        signal.write_cutoff(config, cutoff, users)
    layout, split = Layout.of(config), Split(0.25, 5)
    sources = [Source(cutoff, layout.behaviour(cutoff), layout.labels(cutoff)) for cutoff in config.training_cutoffs]
    aggregates = tuple(field.name for field in schemas.activity_fields(config))
    fit = FeaturesFit(schemas.categorical_columns(config), schemas.numeric_columns(config), aggregates)
    features = learn_features(sources, fit, split, min_count=2, max_vocabulary=100, length=16)
    targets = learn_targets(sources, config.tasks, split, TargetSettings.of(config))
    return Shop(config, features, targets, *load_examples(sources, features, targets, split))


@pytest.fixture(scope="session")
def model(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> UserEncoder:
    """An encoder pretrained and fine-tuned on the small shop."""
    folder = tmp_path_factory.mktemp("runs")
    encoder, _ = pretrain_encoder(shop.features, shop.training, shop.validation, shop.config, folder / "pretrain")
    heads, outcome = finetune_encoder(
        encoder, shop.targets, shop.training, shop.validation, config=shop.config, folder=folder / "finetune", seed=5
    )
    return UserEncoder(
        encoder, shop.features, shop.config.training_cutoffs[-1], heads, {"validation_loss": outcome.validation_loss}
    )

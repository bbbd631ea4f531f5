from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin import schemas
from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import (
    Source,
    Split,
    learn_features,
    learn_targets,
    load_examples,
    uncensored_windows,
)
from segmenter_plugin.data.features import Features, FeaturesFit
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.errors import SchemaError, TrainingError
from segmenter_plugin.stages.layout import Layout

SPLIT = Split(0.25, 5)


def fit_of(config: Config) -> FeaturesFit:
    aggregates = tuple(field.name for field in schemas.activity_fields(config))
    return FeaturesFit(schemas.categorical_columns(config), schemas.numeric_columns(config), aggregates)


def sources_of(config: Config) -> list[Source]:
    layout = Layout.of(config)
    return [Source(cutoff, layout.behaviour(cutoff), layout.labels(cutoff)) for cutoff in config.training_cutoffs]


def features_of(config: Config, split: Split = SPLIT) -> Features:
    return learn_features(sources_of(config), fit_of(config), split, min_count=2, max_vocabulary=100, length=16)


@pytest.fixture(scope="module")
def shop(signal: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    config = signal.signal_config(tmp_path_factory.mktemp("shop"))
    users = signal.users_of(60)
    for cutoff in config.training_cutoffs:
        signal.write_cutoff(config, cutoff, users)
    return SimpleNamespace(config=config, users=users, signal=signal)


def test_labels_belong_to_their_users_and_sides_share_none(shop: SimpleNamespace) -> None:
    config, signal = shop.config, shop.signal
    sources, features = sources_of(config), features_of(config)
    targets = learn_targets(sources, config.tasks, SPLIT)
    training, validation = load_examples(sources, features, targets, SPLIT)
    held_out = validation_users(pa.array(shop.users), SPLIT.share, SPLIT.seed)
    assert len(training) == 2 * (~held_out).sum()
    assert len(validation) == 2 * held_out.sum()
    expected = np.concatenate(
        [signal.labels(config, cutoff, shop.users).column("spend_14d_label").to_numpy() for cutoff in signal.CUTOFFS]
    )
    sides = np.tile(held_out, 2)
    np.testing.assert_allclose(training.labels["spend_14d_label"], expected[~sides], rtol=1e-6)
    np.testing.assert_allclose(validation.labels["spend_14d_label"], expected[sides], rtol=1e-6)


def test_validation_users_teach_nothing(shop: SimpleNamespace, signal: ModuleType, tmp_path: Path) -> None:
    config = signal.signal_config(tmp_path)
    users = pa.array(shop.users)
    held_out = validation_users(users, SPLIT.share, SPLIT.seed)
    for cutoff in config.training_cutoffs:
        signal.write_cutoff(config, cutoff, shop.users)
        for name in ("behaviour", "labels"):
            folder = getattr(Layout.of(config), name)(cutoff)
            rows = pa.Table.from_batches(list(read_batches(folder)))
            kept = [not held_out[shop.users.index(user)] for user in rows.column("user_id").to_pylist()]
            signal.write_partition(folder, tmp_path, rows.filter(pa.array(kept)), "training users alone")
    everybody, alone = Split(0.0, 5), SPLIT
    whole, part = features_of(config, everybody), features_of(shop.config, alone)
    assert whole.vocabulary == part.vocabulary
    for one, other in ((whole.numbers, part.numbers), (whole.context, part.context)):
        np.testing.assert_allclose([one.mean, one.std], [other.mean, other.std], rtol=1e-9)
    targets = (learn_targets(sources_of(c), c.tasks, split) for c, split in ((config, everybody), (shop.config, alone)))
    assert next(targets) == next(targets)


def test_pretraining_examples_carry_no_labels(shop: SimpleNamespace) -> None:
    training, _ = load_examples(sources_of(shop.config), features_of(shop.config), (), SPLIT)
    assert training.labels == {}


@pytest.mark.parametrize(("share", "side"), [(0.0, "validation"), (0.9999999, "training")])
def test_an_empty_side_is_refused(shop: SimpleNamespace, share: float, side: str) -> None:
    features = features_of(shop.config)
    with pytest.raises(TrainingError, match=f"no {side} users among 120 examples"):
        load_examples(sources_of(shop.config), features, (), Split(share, 5))


def test_behaviour_without_labels_is_refused(shop: SimpleNamespace, signal: ModuleType, tmp_path: Path) -> None:
    config = signal.signal_config(tmp_path)
    cutoff = config.training_cutoffs[0]
    targets = learn_targets(sources_of(shop.config), config.tasks, SPLIT)
    signal.write_cutoff(config, cutoff, shop.users)
    layout = Layout.of(config)
    fewer = signal.labels(config, cutoff, shop.users[3:])
    signal.write_partition(layout.labels(cutoff), tmp_path, fewer, "fewer")
    source = Source(cutoff, layout.behaviour(cutoff), layout.labels(cutoff))
    with pytest.raises(SchemaError, match=r"no row for \d users of behaviour, for example 'user-000\d'"):
        load_examples([source], features_of(shop.config), targets, SPLIT)


def test_no_behaviour_at_all_is_refused(shop: SimpleNamespace, signal: ModuleType, tmp_path: Path) -> None:
    config = signal.signal_config(tmp_path)
    empty = signal.behaviour(config, config.training_cutoffs[0], shop.users).slice(0, 0)
    for cutoff in config.training_cutoffs:
        signal.write_partition(Layout.of(config).behaviour(cutoff), tmp_path, empty, "empty")
    with pytest.raises(TrainingError, match="hold no behaviour"):
        features_of(config)


def test_a_window_that_is_censored_for_all_does_not_count(
    shop: SimpleNamespace, signal: ModuleType, tmp_path: Path
) -> None:
    config = signal.signal_config(tmp_path)

    def censor(rows: pa.Table) -> pa.Table:
        place = rows.column_names.index("spend_14d_label")
        return rows.set_column(place, rows.schema.field(place), pa.nulls(rows.num_rows, pa.float64()))

    first, second = config.training_cutoffs
    signal.write_cutoff(config, first, shop.users)
    signal.write_cutoff(config, second, shop.users, change=censor)
    targets = learn_targets(sources_of(config), config.tasks, SPLIT)
    seen = {(cutoff, target.task.name) for cutoff, target in uncensored_windows(sources_of(config), targets)}
    assert (first, "spend") in seen
    assert (second, "spend") not in seen
    assert (second, "purchase") in seen

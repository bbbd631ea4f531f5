"""Other versions of a set's training tables, each a store root of its own that the package's stages train on.

A fold leaves users out, so that the encoder scores them without having seen their labels; other versions thin out or
shuffle labels. Rows change here and nowhere else: training is the same code in all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import (
    fingerprint,
    is_current,
    new_partition,
    read_batches,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.stages.layout import Layout

#: Draws folds and kept labels; not a training seed, so that all seeds share the tables.
FOLD_SEED = 1701
FOLDS = 4

#: A cutoff's behaviour and labels to those of the version.
Change = Callable[[pa.Table, pa.Table], tuple[pa.Table, pa.Table]]


def fold_of(user_ids: pa.Array, folds: int = FOLDS) -> NDArray[np.intp]:
    """Fold of each user, (N,): decided by the id alone, so the same at every cutoff."""
    below = [validation_users(user_ids, (fold + 1) / folds, FOLD_SEED) for fold in range(folds)]
    return np.asarray(folds - np.sum(below, axis=0), dtype=np.intp)


def without_fold(fold: int, folds: int = FOLDS) -> Change:
    """Leaves one fold's users out."""

    def change(behaviour: pa.Table, labels: pa.Table) -> tuple[pa.Table, pa.Table]:
        kept = [
            table.filter(pa.array(fold_of(table.column(Columns.user_id).combine_chunks(), folds) != fold))
            for table in (behaviour, labels)
        ]
        return kept[0], kept[1]

    return change


def with_label_share(share: float) -> Change:
    """Keeps the labels of a share of the users; the others keep their behaviour, for pretraining."""

    def change(behaviour: pa.Table, labels: pa.Table) -> tuple[pa.Table, pa.Table]:
        users = labels.column(Columns.user_id).combine_chunks()
        known = pa.array(validation_users(users, share, FOLD_SEED + 1))
        kept = labels.filter(known)
        among = pa.array(validation_users(behaviour.column(Columns.user_id).combine_chunks(), share, FOLD_SEED + 1))
        return behaviour.filter(among), kept

    return change


def with_shuffled_labels(seed: int) -> Change:
    """Hands each row's labels to another user, so that nothing can be learnt from behaviour."""

    def change(behaviour: pa.Table, labels: pa.Table) -> tuple[pa.Table, pa.Table]:
        order = np.random.default_rng(seed).permutation(labels.num_rows)
        keys = labels.select([Columns.user_id, Columns.event_timestamp])
        shuffled = labels.drop_columns(keys.column_names).take(pa.array(order))
        for name in reversed(keys.column_names):
            shuffled = shuffled.add_column(0, name, keys.column(name))
        return behaviour, shuffled

    return change


def variant(config: Config, name: str, change: Change) -> Config:
    """The configuration with a root that holds the changed tables of its training cutoffs; made where not current."""
    base = Layout.of(config)
    root = config.root_path / "variants" / name
    varied = config.model_copy(update={"store": config.store.model_copy(update={"root": str(root)})})
    there = Layout.of(varied)
    for cutoff in config.training_cutoffs:
        sources = (base.behaviour(cutoff), base.labels(cutoff))
        targets = (there.behaviour(cutoff), there.labels(cutoff))
        inputs = {
            str(n): require_manifest(source, "segmenter build")["fingerprint"] for n, source in enumerate(sources)
        }
        made_from = fingerprint(f"variant {name}", inputs, {})
        if all(is_current(target, made_from) for target in targets):
            continue
        changed = change(*(_read(source) for source in sources))
        for table, target in zip(changed, targets, strict=True):
            _write(table, target, root, made_from)
    return varied


def lend_pretrained(config: Config, varied: Config) -> None:
    """Give a version the weights that the whole set was pretrained to: they know no labels."""
    source, target = Layout.of(config).pretrained, Layout.of(varied).pretrained
    lent, wanted = read_manifest(target), require_manifest(source, "segmenter pretrain")
    if lent is None or lent["fingerprint"] != wanted["fingerprint"]:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)


def _read(folder: Path) -> pa.Table:
    return pa.Table.from_batches(list(read_batches(folder)))


def _write(table: pa.Table, folder: Path, root: Path, made_from: str) -> None:
    with new_partition(folder, root, {"stage": "variant", "fingerprint": made_from}) as staging:
        pq.write_table(table, staging / "part-00000.parquet", compression="zstd")

"""Published days of a small shop whose users change a little from day to day, and what a gate should find."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shop_tables

from segmenter_plugin.config import Config, load_config
from segmenter_plugin.schemas import (
    TIMESTAMP,
    behaviour_schema,
    labels_schema,
    scores_schema,
    segments_schema,
)
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish

USERS, SIZE = 500, 8
FIRST = shop_tables.day(10, 1)
DAY = timedelta(days=1)


def model(seed: int = 0) -> np.ndarray:
    """A model's map from what a user is to the embedding: (SIZE, SIZE), another rotation for each seed."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0] * np.linspace(1.5, 0.5, SIZE)


@dataclass(frozen=True)
class Rows:
    """What the encoder and the segments leave of some users at one cutoff."""

    users: Sequence[str]
    embedding: np.ndarray
    value: np.ndarray
    version: str = "one"

    def of(self, places: Sequence[int]) -> Rows:
        kept = np.asarray(places)
        users = [self.users[place] for place in kept]
        return replace(self, users=users, embedding=self.embedding[kept], value=self.value[kept])


def people(number: int, count: int = USERS) -> np.ndarray:
    """(count, SIZE): who the users are on a day; a twentieth of them changes a lot from one to the next."""
    found = np.random.default_rng(1).normal(size=(count, SIZE))
    for day in range(number):
        random = np.random.default_rng(100 + day)
        steps = np.where(random.random(count) < 0.05, 0.6, 0.05)[:, None]
        found = (found + steps * random.normal(size=found.shape)) / np.sqrt(1 + steps**2)
    return found


def honest(number: int, *, weights: int = 0, **options: Any) -> Rows:
    """Rows of a day."""
    now = people(number)
    ids = [f"user-{place:05d}" for place in range(len(now))]
    head = np.random.default_rng(50 + weights).normal(size=SIZE) / 2 + np.eye(SIZE)[0]
    embedding = now @ model(weights) + 2.0
    return Rows(ids, embedding, now @ head + 0.1 * np.sin(3 * embedding[:, 1]), **options)


def cutoff_of(number: int) -> datetime:
    return FIRST + number * DAY


def write_rows(config: Config, number: int, rows: Rows, expected: Sequence[str] | None = None) -> None:
    """Write what publishing reads; behaviour is of the expected users.

    Args:
        config: Of `shop_tables.shop_config`.
        number: Of the day.
        rows: Scores and segments.
        expected: Users with behaviour; those of the rows if not given.
    """
    layout, cutoff, ids = Layout.of(config), cutoff_of(number), expected or rows.users
    content = hashlib.sha256(rows.embedding.tobytes() + rows.value.tobytes()).hexdigest()
    made_from = f"{number}-{rows.version}-{len(rows.users)}-{content}"
    seen = FIRST - DAY
    whole = behaviour_schema(config, pa.string())
    kept = pa.schema([field for field in whole if not field.name.endswith(("_sequence", "_length"))])
    behaviour = shop_tables.table(kept, ids, cutoff, seen, 1)
    shop_tables.write(layout.behaviour(cutoff), config.root_path, behaviour, f"behaviour-{number}-{len(ids)}")
    probability = 1 / (1 + np.exp(-rows.value))
    random = np.random.default_rng(number)
    known = {
        "user_id": pa.array(rows.users),
        "event_timestamp": pa.array([cutoff] * len(rows.users), TIMESTAMP),
        "embedding": pa.array(list(rows.embedding.astype(np.float32))),
        "value_score": pa.array(probability),
        "model_version": pa.array([rows.version] * len(rows.users)),
        "trained_through": pa.array([seen] * len(rows.users), TIMESTAMP),
        "segment_id": pa.array(np.digitize(rows.value, [-1.0, 1.0])),
        "segment_name": pa.array(np.array(shop_tables.NAMES)[np.digitize(rows.value, [-1.0, 1.0])]),
        "purchase_14d_label": pa.array(random.random(len(rows.users)) < probability),
        "spend_14d_label": pa.array(np.exp(rows.value) * random.gamma(4.0, 0.25, len(rows.users))),
    }
    for name, schema in (("scores", scores_schema), ("segments", segments_schema), ("labels", labels_schema)):
        fields = schema(pa.string()) if name == "segments" else schema(config, pa.string())
        table = pa.table([_column(field, known, probability) for field in fields], schema=fields)
        shop_tables.write(getattr(layout, name)(cutoff), config.root_path, table, f"{name}-{made_from}")


def _column(field: pa.Field, known: dict[str, pa.Array], probability: np.ndarray) -> pa.Array:
    if field.name in known:
        return known[field.name].cast(field.type)
    if field.name.endswith("_probabilities"):
        return pa.array(list(np.column_stack([1 - probability, probability / 2, probability / 2])), field.type)
    if pa.types.is_string(field.type):
        return pa.array(["none"] * len(probability))
    values = probability if field.name.endswith("_probability") else np.exp(np.log(probability / (1 - probability)))
    return pa.array(values, field.type)


def published_days(root: Path, count: int, **store: Any) -> Config:
    """Honest days, published; few permutations, which are most of the gate's time with so few users."""
    shop_tables.shop_config(root, **store)
    place = root / "segmenter.toml"
    place.write_text(place.read_text() + "\n[gates]\npermutations = 100\n")
    config = load_config(place)
    for number in range(count):
        write_rows(config, number, honest(number))
    publish(config, [cutoff_of(number) for number in range(count)], created_at="2017-11-30T00:00:00Z")
    return config


def permuted(rows: Rows) -> Rows:
    places = np.random.default_rng(3).permutation(len(rows.users))
    return replace(rows, embedding=rows.embedding[places])


def zeroed(rows: Rows) -> Rows:
    embedding = rows.embedding.copy()
    embedding[:, 5] = 0.0
    return replace(rows, embedding=embedding)


def scored_by_another(rows: Rows, number: int) -> Rows:
    return replace(rows, value=honest(number, weights=1).value)


def halved(rows: Rows) -> Rows:
    return rows.of(range(0, len(rows.users), 2))

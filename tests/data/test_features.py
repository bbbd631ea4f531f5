from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin import schemas
from segmenter_plugin.config import Config
from segmenter_plugin.data.features import Features, FeaturesFit
from segmenter_plugin.data.scaling import Scaler
from segmenter_plugin.data.vocabulary import UNKNOWN, Vocabulary
from segmenter_plugin.errors import ArtifactError, ConfigError, SchemaError

CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 2, day, hour, tzinfo=UTC)


@pytest.fixture
def features() -> Features:
    return Features(
        Vocabulary({"item_id": ("a", "b")}),
        Scaler(("amount",), (0.0,), (1.0,), ((),)),
        Scaler(("n",), (0.0,), (1.0,), ((),)),
        3,
    )


@pytest.fixture
def rows() -> pa.RecordBatch:
    stamp = pa.list_(schemas.TIMESTAMP)
    return pa.record_batch(
        {
            "user_id": pa.array(["u", "v", "w"]),
            "event_timestamp": pa.array([CUTOFF] * 3, schemas.TIMESTAMP),
            "event_timestamp_sequence": pa.array([[at(1), at(2, 6), at(2, 6), at(28, 23)], [], [at(29)]], stamp),
            "item_id_sequence": pa.array([["a", "b", None, "z"], [], ["b"]]),
            "amount_sequence": pa.array([[1.0, None, np.e - 1, 0.0], [], [np.e**2 - 1]]),
            "n": pa.array([0, None, 5]),
        }
    )


def test_the_last_events_are_kept_oldest_first(features: Features, rows: pa.RecordBatch) -> None:
    encoded = features.encode(rows)
    assert encoded.lengths.tolist() == [3, 0, 1]
    assert encoded.categorical["item_id"].tolist() == [4, UNKNOWN, UNKNOWN, 4]
    np.testing.assert_allclose(encoded.numeric, [[0, 1], [1, 0], [0, 0], [2, 0]], atol=1e-6)


def test_times_become_gaps_ages_hours_and_weekdays(features: Features, rows: pa.RecordBatch) -> None:
    encoded = features.encode(rows)
    # The first kept event has no predecessor, whether or not older ones were cut off.
    np.testing.assert_allclose(encoded.gaps, [0, 0, 26 + 17 / 24, 0], rtol=1e-6)
    np.testing.assert_allclose(encoded.ages, [27.75, 27.75, 1 + 1 / 24, 1], rtol=1e-6)
    assert encoded.hours.tolist() == [6, 6, 23, 0]
    assert encoded.weekdays.tolist() == [at(2).weekday(), at(2).weekday(), at(28).weekday(), at(29).weekday()]


def test_aggregates_are_the_context(features: Features, rows: pa.RecordBatch) -> None:
    np.testing.assert_allclose(features.encode(rows).context, [[0, 0], [0, 1], [np.log(6), 0]], rtol=1e-6)


def test_a_slice_encodes_as_its_rows_alone(features: Features, rows: pa.RecordBatch) -> None:
    whole, last = features.encode(rows), features.encode(rows.slice(1))
    assert last.lengths.tolist() == [0, 1]
    assert last.categorical["item_id"].tolist() == whole.categorical["item_id"][3:].tolist()
    assert last.ages.tolist() == whole.ages[3:].tolist()


def test_a_null_list_is_an_empty_one(features: Features, rows: pa.RecordBatch) -> None:
    stamp = pa.list_(schemas.TIMESTAMP)
    nulls = {
        "event_timestamp_sequence": pa.array([None, None, [at(29)]], stamp),
        "item_id_sequence": pa.array([None, [], ["b"]]),
        "amount_sequence": pa.array([[], None, [1.0]]),
    }
    columns = {name: nulls.get(name, rows.column(name)) for name in rows.schema.names}
    assert features.encode(pa.record_batch(columns)).lengths.tolist() == [0, 0, 1]


def test_sequences_that_are_not_parallel_are_refused(features: Features, rows: pa.RecordBatch) -> None:
    columns = {name: rows.column(name) for name in rows.schema.names}
    columns["item_id_sequence"] = pa.array([["a"], ["b"], ["b"]])
    with pytest.raises(SchemaError, match=r"'item_id_sequence'.*differ in length"):
        features.encode(pa.record_batch(columns))


def test_a_missing_column_is_named(features: Features, rows: pa.RecordBatch) -> None:
    with pytest.raises(SchemaError, match=r"lacks the columns \['amount_sequence', 'n'\]"):
        features.encode(rows.select(["user_id", "event_timestamp", "event_timestamp_sequence", "item_id_sequence"]))


def test_a_column_of_another_type_is_named(features: Features, rows: pa.RecordBatch) -> None:
    columns = {name: rows.column(name) for name in rows.schema.names}
    with pytest.raises(SchemaError, match="'n' has the type string"):
        features.encode(pa.record_batch(columns | {"n": pa.array(["x", "y", "z"])}))
    with pytest.raises(SchemaError, match="a list is expected"):
        features.encode(pa.record_batch(columns | {"event_timestamp_sequence": pa.array([1, 2, 3])}))


def test_an_event_seen_at_two_cutoffs_counts_once(rows: pa.RecordBatch) -> None:
    fit = FeaturesFit(("item_id",), ("amount",), ("n",))
    fit.add(rows)
    fit.add(rows, since=at(28))
    features = fit.features(min_count=2, max_vocabulary=10, length=3)
    # b: once on the 2nd, twice as of the 29th; z: on the 28th, by both; a: on the 1st, once.
    assert features.vocabulary.values["item_id"] == ("b", "z")


def test_a_hashed_column_needs_no_vocabulary(rows: pa.RecordBatch) -> None:
    fit = FeaturesFit(("item_id",), ("amount",), ("n",), {"item_id": 50})
    fit.add(rows)
    features = fit.features(min_count=99, max_vocabulary=1, length=3)
    numbers = features.encode(rows).categorical["item_id"]
    assert numbers[1] == UNKNOWN
    assert len({*numbers[[0, 2, 3]]}) == 2
    assert numbers[0] == numbers[3] > UNKNOWN
    assert Features.from_json(features.to_json(), features.vocabulary) == features


def test_hashing_what_is_no_categorical_column_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hashed_columns names \['amount'\]; it may name \['item_id'\]"):
        FeaturesFit(("item_id",), ("amount",), ("n",), {"amount": 50})


def test_json_round_trip(features: Features) -> None:
    assert Features.from_json(features.to_json(), features.vocabulary) == features
    with pytest.raises(ArtifactError):
        Features.from_json({"numbers": {}}, features.vocabulary)


def test_the_shop_of_the_fixtures_encodes(signal: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> None:
    config: Config = signal.signal_config(tmp_path_factory.mktemp("root"))
    table = signal.behaviour(config, signal.CUTOFFS[0], signal.users_of(50))
    aggregates = tuple(field.name for field in schemas.activity_fields(config))
    fit = FeaturesFit(schemas.categorical_columns(config), schemas.numeric_columns(config), aggregates)
    for batch in table.to_batches():
        fit.add(batch)
    features = fit.features(min_count=1, max_vocabulary=100, length=8)
    encoded = features.encode(table.to_batches()[0])
    assert encoded.lengths.max() == 8
    assert (encoded.ages > 0).all()
    assert (encoded.gaps >= 0).all()
    assert np.isfinite(encoded.context).all()
    assert set(encoded.categorical) == {"event_type", "item_id", "category", "channel"}

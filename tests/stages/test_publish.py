"""Publishing: whole cutoffs, stamped once, unchanged when nothing changed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.partition import MANIFEST, data_files, read_manifest
from segmenter_plugin.errors import MissingStageError, StoreError, UserError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish

CREATED = "2017-10-02T08:00:00Z"


@pytest.fixture
def config(shop, tmp_path):
    return shop.shop_config(tmp_path, join_key="customer_id")


def _contents(config):
    features = config.root_path / "features"
    return {str(path.relative_to(features)): path.read_bytes() for path in features.rglob("*.*")}


def _rows(config):
    """Bytes of the rows of each partition; files have names of their own in each store."""
    return {folder: [path.read_bytes() for path in data_files(folder)] for folder in _folders(config)}


def _folders(config):
    return [path.parent for path in sorted((config.root_path / "features").rglob(MANIFEST))]


def _table(folder):
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in data_files(folder)])


def _write(shop, config, seed=1, users=5, **options):
    shop.write_shop(
        config, shop.day(10, 1), users=shop.users_of(users, pa.string()), user_type=pa.string(), seed=seed, **options
    )


def test_rows_are_the_written_ones_renamed_and_stamped(shop, config):
    written = shop.write_shop(config, shop.day(10, 1), users=["a", "b", "c"], user_type=pa.string())
    result = publish(config, [shop.day(10, 1)], created_at=CREATED)
    assert result["rows"] == 12
    assert len(result["published"]) == 4
    table = _table(Layout.of(config).feature("user_embedding_g1", shop.day(10, 1)))
    expected = ["customer_id", "event_timestamp", "created_timestamp", "embedding", "model_version", "trained_through"]
    assert table.column_names == expected
    assert table["embedding"].equals(written["scores"]["embedding"])
    assert table["customer_id"].to_pylist() == ["a", "b", "c"]
    assert {time.isoformat() for time in table["created_timestamp"].to_pylist()} == {"2017-10-02T08:00:00+00:00"}
    activity = _table(Layout.of(config).feature("user_activity", shop.day(10, 1)))
    assert activity.drop_columns(["customer_id", "created_timestamp"]).equals(
        written["behaviour"].drop_columns(["user_id"])
    )


def test_publishing_again_changes_no_byte(shop, config):
    _write(shop, config)
    publish(config, [shop.day(10, 1)], created_at=CREATED)
    before = _contents(config)
    again = publish(config, [shop.day(10, 1)])
    assert len(again["skipped"]) == 4
    assert not again["published"]
    assert _contents(config) == before


def test_the_same_rows_and_stamp_give_the_same_bytes(shop, config, tmp_path):
    _write(shop, config)
    publish(config, [shop.day(10, 1)], created_at=CREATED)
    (tmp_path / "other").mkdir()
    other = shop.shop_config(tmp_path / "other", join_key="customer_id")
    _write(shop, other)
    publish(other, [shop.day(10, 1)], created_at=CREATED)
    assert len(_rows(config)) == 4
    assert list(_rows(other).values()) == list(_rows(config).values())


def test_a_corrected_row_replaces_the_old_one(shop, config):
    _write(shop, config, seed=1)
    publish(config, [shop.day(10, 1)], created_at=CREATED)
    _write(shop, config, seed=2)
    publish(config, [shop.day(10, 1)], created_at="2017-10-03T08:00:00Z")
    files = list(Layout.of(config).feature("user_scores_g1", shop.day(10, 1)).glob("*.parquet"))
    table = pq.read_table(files[0])
    assert len(files) == 1
    assert set(table["model_version"].to_pylist()) == {"version-2"}
    assert table.num_rows == 5


def test_a_cutoff_with_one_bad_view_publishes_none(shop, config):
    _write(shop, config)
    layout, cutoff = Layout.of(config), shop.day(10, 1)
    rows = _table(layout.segments(cutoff))
    shop.write(layout.segments(cutoff), config.root_path, pa.concat_tables([rows, rows]), "twice")
    with pytest.raises(StoreError, match="more than one row"):
        publish(config, [cutoff])
    assert not list((config.root_path / "features").rglob("*.parquet"))
    assert not list((config.root_path / ".staging").iterdir())


@pytest.mark.parametrize(("room", "command"), [("behaviour", "build"), ("scores", "score"), ("segments", "segment")])
def test_a_stage_that_was_left_out_is_named(shop, config, room, command):
    import shutil

    _write(shop, config)
    shutil.rmtree(getattr(Layout.of(config), room)(shop.day(10, 1)))
    with pytest.raises(MissingStageError, match="has not been built") as caught:
        publish(config, [shop.day(10, 1)])
    assert f"segmenter {command} --cutoff 2017-10-01T00:00:00Z" in caught.value.hint


def test_no_cutoff_is_a_mistake(config):
    with pytest.raises(UserError, match="no cutoff"):
        publish(config, [])


def test_weights_that_saw_the_future_are_counted(shop, config, caplog):
    _write(shop, config, trained_through=shop.day(11, 1))
    publish(config, [shop.day(10, 1)])
    manifest = read_manifest(Layout.of(config).feature("user_scores_g1", shop.day(10, 1)))
    assert manifest["seen_after_cutoff"] == manifest["rows"] == 5
    assert "seen events after this cutoff" in caplog.text


def test_every_view_of_the_names_is_published(shop, config):
    _write(shop, config)
    publish(config, [shop.day(10, 1)])
    folders = {path.name for path in (config.root_path / "features").iterdir()}
    assert folders == set(FeatureNames.of(config).folders)

"""Exported arrays are aligned, whole, and never written over somebody else's files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.errors import MissingStageError, StoreError, UserError
from segmenter_plugin.stages.export import export
from segmenter_plugin.stages.layout import Layout


@pytest.fixture
def config(shop, tmp_path):
    return shop.shop_config(tmp_path)


def test_int64_ids_and_embeddings_are_aligned(shop, config, tmp_path):
    users = shop.users_of(7, pa.int64())
    written = shop.write_shop(config, shop.day(10, 1), users=users, user_type=pa.int64())
    result = export(config, shop.day(10, 1))
    folder = tmp_path / "export" / "cutoff=20171001T000000Z"
    assert result == {"folder": str(folder), "users": 7, "embedding_size": shop.DIMENSION, "skipped": False}
    client_ids, embeddings = np.load(folder / "client_ids.npy"), np.load(folder / "embeddings.npy")
    assert client_ids.dtype == np.int64
    assert client_ids.tolist() == users
    assert embeddings.dtype == np.float16
    expected = np.array(written["scores"]["embedding"].to_pylist(), np.float32).astype(np.float16)
    assert np.array_equal(embeddings, expected)
    assert not (tmp_path / ".staging").exists()


def test_string_ids_go_to_parquet(shop, config, tmp_path):
    users = shop.users_of(5, pa.string())
    shop.write_shop(config, shop.day(10, 1), users=users, user_type=pa.string())
    out = tmp_path / "elsewhere" / "arrays"
    export(config, shop.day(10, 1), out=out)
    assert pq.read_table(out / "client_ids.parquet")["client_id"].to_pylist() == users
    assert {path.name for path in out.iterdir()} == {"client_ids.parquet", "embeddings.npy", "manifest.json"}
    assert [path.name for path in out.parent.iterdir()] == ["arrays"]


def test_a_second_export_is_skipped_until_the_scores_change(shop, config):
    users = shop.users_of(5, pa.int64())
    shop.write_shop(config, shop.day(10, 1), users=users, user_type=pa.int64(), seed=1)
    export(config, shop.day(10, 1))
    again = export(config, shop.day(10, 1))
    assert again["skipped"]
    assert again["embedding_size"] == shop.DIMENSION
    shop.write_shop(config, shop.day(10, 1), users=users, user_type=pa.int64(), seed=2)
    assert not export(config, shop.day(10, 1))["skipped"]


def test_a_folder_with_other_files_is_left_alone(shop, config, tmp_path):
    shop.write_shop(config, shop.day(10, 1), users=[1, 2], user_type=pa.int64())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an export"):
        export(config, shop.day(10, 1), out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_embedding_that_does_not_fit_leaves_nothing_behind(shop, config):
    written = shop.write_shop(config, shop.day(10, 1), users=[1, 2], user_type=pa.int64())
    scores = written["scores"]
    index = scores.schema.get_field_index("embedding")
    large = scores.set_column(index, scores.schema.field(index), pa.array([[1e6] * 8] * 2, pa.list_(pa.float32())))
    shop.write(Layout.of(config).scores(shop.day(10, 1)), config.root_path, large, "large")
    with pytest.raises(StoreError, match="does not fit float16"):
        export(config, shop.day(10, 1))
    assert not list((config.root_path / "export").glob("*")) if (config.root_path / "export").exists() else True


def test_an_unscored_cutoff_and_an_unknown_format_are_refused(shop, config):
    with pytest.raises(MissingStageError):
        export(config, shop.day(10, 1))
    with pytest.raises(UserError, match="'csv'"):
        export(config, shop.day(10, 1), file_format="csv")

"""Verdicts beside published rows, wherever these lie: written whole, of these files alone, refused without."""

from __future__ import annotations

from types import SimpleNamespace

import bucket_world
import gate_world
import pytest
from feast import FileSource
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from gate_world import cutoff_of, honest

from segmenter_plugin.errors import GateError
from segmenter_plugin.stages.gate import gate
from segmenter_plugin.stages.publish import publish
from segmenter_plugin.store.sources import published_files
from segmenter_plugin.store.verdicts import PublishedRows, file_source, require_verdicts
from segmenter_plugin.store.views import FOLDER_TAG

VIEW, OTHER = "user_scores_g1", "user_activity"
KEY = "cutoff=20171002T000000Z"
WINDOW = (cutoff_of(1), cutoff_of(1))


def view_of(config, folder=VIEW):
    return SimpleNamespace(name=folder, tags={FOLDER_TAG: folder}, batch_source=published_files(config, folder))


def published_again(config):
    gate_world.write_rows(config, 1, gate_world.zeroed(honest(1)))
    publish(config, [cutoff_of(1)])


def check(config, place):
    """From no verdict to one, to none again once the rows are others."""
    with pytest.raises(GateError, match=rf"nothing of '{VIEW}/{KEY}' goes online .* has no verdict"):
        require_verdicts(view_of(config), None, WINDOW)
    result = gate(config, [cutoff_of(0), cutoff_of(1)])
    assert result["verdict"] == "ok"
    require_verdicts(view_of(config), None, WINDOW)
    require_verdicts(view_of(config), None, (WINDOW[0].replace(tzinfo=None), WINDOW[1].replace(tzinfo=None)))
    rows = PublishedRows.of(published_files(config, VIEW), None)
    found = rows.verdict(KEY)
    assert found["files"] == rows.names(KEY)
    assert rows._place(KEY).endswith(place)
    assert rows.cutoffs == [cutoff_of(0), cutoff_of(1)]
    published_again(config)
    again = PublishedRows.of(published_files(config, VIEW), None)
    assert again.names(KEY) != found["files"]
    assert again.verdict(KEY) is None
    with pytest.raises(GateError, match=r"has no verdict|is not of the rows of user_scores_g1 now"):
        require_verdicts(view_of(config), None, WINDOW)


def test_beside_parquet_files(tmp_path):
    config = gate_world.published_days(tmp_path, 2)
    check(config, f"features/{VIEW}/{KEY}/_verdict.json")
    # The aggregates are as they were; their verdict was of the other views' rows too.
    with pytest.raises(GateError, match=r"is not of the rows of user_(embedding|scores)_g1 now"):
        require_verdicts(view_of(config, OTHER), None, WINDOW)


def test_in_the_folder_of_a_delta_table_where_a_vacuum_leaves_it(tmp_path):
    deltalake = pytest.importorskip("deltalake")
    config = gate_world.published_days(tmp_path, 2, table_format="delta")
    check(config, f"features_delta/{VIEW}/_verdicts/{KEY}/_verdict.json")
    gate(config, [cutoff_of(1)], accept="a dimension is gone")
    table = deltalake.DeltaTable(str(tmp_path / "features_delta" / VIEW))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    require_verdicts(view_of(config), None, WINDOW)


def test_in_a_bucket(tmp_path):
    with bucket_world.s3_endpoint() as (endpoint, _):
        bucket_world.client(endpoint).create_bucket(Bucket="lake")
        config = gate_world.published_days(tmp_path, 2, published="s3://lake/shop", published_endpoint=endpoint)
        check(config, f"lake/shop/features/{VIEW}/{KEY}/_verdict.json")
        with pytest.raises(GateError, match=r"is not of the rows of user_(embedding|scores)_g1 now"):
            require_verdicts(view_of(config, OTHER), None, WINDOW)


def test_which_sources_hold_partitions():
    times = {"timestamp_field": "event_timestamp"}
    assert file_source(FileSource(path="/lake/user_scores_g1/*/*.parquet", **times)) is not None
    assert file_source(FileSource(path="/lake/rows.parquet", **times)) is None
    of_spark = SparkSource(name="s", path="file:///lake/v/*/*.parquet", file_format="parquet", **times)
    assert file_source(of_spark).path == "/lake/v/*/*.parquet"
    in_bucket = SparkSource(name="s", path="s3a://lake/v/*/*.parquet", file_format="parquet", **times)
    assert file_source(in_bucket).path == "s3://lake/v/*/*.parquet"
    assert file_source(SparkSource(name="s", table="lake.v", **times)) is None

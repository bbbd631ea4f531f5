"""Online equals published, and the past is as it was known."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import StoreError, UserError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.lookup import lookup, point_in_time


def _published(config, cutoff):
    """All features of a cutoff in one table, by user."""
    columns = {}
    for folder in FeatureNames.of(config).folders:
        (path,) = data_files(Layout.of(config).feature(folder, cutoff))
        table = pq.read_table(path).sort_by("user_id")
        columns |= dict(zip(table.column_names, table.columns, strict=True))
    return pa.table(columns)


def test_online_equals_published_bit_for_bit(served):
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.retrieve import online_table

    users = served.users[1:501]
    store = open_store(Layout.of(served.config).root / "feature_repo")
    online = online_table(store, "ranking_g1", users)
    published = _published(served.config, served.second).slice(0, 500)
    assert published["user_id"].to_pylist() == users
    features = [name for name in online.column_names if name not in ("user_id", "found")]
    assert len(features) > 30
    for name in features:
        assert online[name].combine_chunks().equals(published[name].combine_chunks()), name
    assert online["found"].to_pylist() == [True] * 500
    assert set(features) == set(published.column_names) - {"user_id", "event_timestamp", "created_timestamp"}


def test_the_first_cutoff_stays_online_for_a_user_who_left(served):
    row = lookup(served.config, [str(served.users[0])])["rows"][0]
    assert row["model_version"] == "version-1"


def test_a_missing_user_is_visibly_missing(served):
    result = lookup(served.config, [served.users[5], 17])
    assert result["missing_users"] == [17]
    here, missing = result["rows"]
    assert here["user_id"] == served.users[5]
    assert any(value is not None for name, value in here.items() if name != "user_id")
    assert {value for name, value in missing.items() if name != "user_id"} == {None}
    (table,) = result["tables"].values()
    assert [row["found"] for row in table] == ["yes", "no"]
    assert "embedding" in table[0]


def test_an_id_of_the_wrong_type_is_refused(served):
    with pytest.raises(UserError, match="'abc' is not an int64"):
        lookup(served.config, ["abc"])


def test_an_unknown_service_is_refused_with_what_there_is(served):
    with pytest.raises(StoreError, match=r"'ranking_g9'.*\['ranking_g1', 'ranking_items_g1'\]"):
        lookup(served.config, [1], service="ranking_g9")


def test_each_moment_sees_what_was_published_before_it(served):
    user = served.users[5]
    times = [served.second + timedelta(days=1), served.first - timedelta(days=1), served.first, served.second]
    rows = point_in_time(served.config, [(user, time) for time in times])["rows"]
    assert [row["model_version"] for row in rows] == ["version-2", None, "version-1", "version-2"]
    assert [row["embedding"] is None for row in rows] == [False, True, False, False]
    published = _published(served.config, served.first)
    index = published["user_id"].to_pylist().index(user)
    assert rows[2]["embedding"] == published["embedding"][index].as_py()
    assert rows[2]["segment_id"] == published["segment_id"][index].as_py()

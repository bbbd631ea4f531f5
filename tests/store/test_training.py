"""Training frames: what was known then, and nothing from later."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest

from segmenter_plugin.errors import CutoffError, LeakageError, SchemaError, StoreError, UserError
from segmenter_plugin.store import training_frame
from segmenter_plugin.store.training import frame_rows, moments_frame

SERVICE = "value_ranking_g1"
DAY = timedelta(days=1)


def _moments(team, *times, user=0):
    return moments_frame(team.store, SERVICE, [(team.users[user], time) for time in times])


def test_rows_before_between_and_after_two_cutoffs(team):
    asked = _moments(team, team.second + 20 * DAY, team.first - DAY, team.second - DAY, team.first)
    asked["label"] = [3, 1, 2, 0]
    frame = training_frame(team.store, SERVICE, asked)
    assert frame["label"].tolist() == [3, 1, 2, 0]
    assert [row["model_version"] for row in frame_rows(frame)] == ["version-2", None, "version-1", "version-1"]
    assert frame["segment_id"].isna().tolist() == [False, True, False, False]
    assert frame["event_timestamp"].tolist() == asked["event_timestamp"].tolist()
    assert frame.attrs["leaking_rows"] == 0


def test_a_user_who_left_keeps_the_last_row(team):
    frame = training_frame(team.store, SERVICE, _moments(team, team.second + 20 * DAY, user=-1))
    assert frame["model_version"].tolist() == ["version-1"]


def test_the_same_moment_twice_gives_two_rows(team):
    frame = training_frame(team.store, SERVICE, _moments(team, team.first, team.first))
    assert frame["model_version"].tolist() == ["version-1", "version-1"]


def test_columns_of_the_asker_named_like_a_partition_key_survive(team):
    asked = _moments(team, team.first).assign(cutoff="mine")
    assert training_frame(team.store, SERVICE, asked)["cutoff"].tolist() == ["mine"]


def test_local_times_mean_the_instant(team):
    asked = _moments(team, team.first, team.first - DAY)
    asked["event_timestamp"] = asked["event_timestamp"].dt.tz_convert("Asia/Tokyo").astype("datetime64[ns, Asia/Tokyo]")
    assert training_frame(team.store, SERVICE, asked)["segment_id"].isna().tolist() == [False, True]


def test_weights_that_saw_later_events_are_refused(team):
    asked = _moments(team, team.first, team.second, team.second + 8 * DAY)
    with pytest.raises(LeakageError, match="2 of 3 rows"):
        training_frame(team.store, SERVICE, asked)


def test_at_the_very_time_that_weights_have_seen_nothing_leaks(team):
    frame = training_frame(team.store, SERVICE, _moments(team, team.second + 8 * DAY), on_leak="drop")
    assert frame.empty
    assert training_frame(team.store, SERVICE, _moments(team, team.second + 9 * DAY)).attrs["leaking_rows"] == 0


def test_leaking_rows_can_be_dropped(team):
    asked = _moments(team, team.second, team.first)
    frame = training_frame(team.store, SERVICE, asked, on_leak="drop")
    assert frame["model_version"].tolist() == ["version-1"]
    assert frame.index.tolist() == [0]
    assert frame.attrs["leaking_rows"] == 1


def test_leaking_rows_can_be_emptied_of_what_the_weights_made(team):
    asked = _moments(team, team.second, team.first)
    frame = training_frame(team.store, SERVICE, asked, on_leak="null")
    leaked, clean = frame_rows(frame)
    for name in ("embedding", "purchase_14d_probability", "model_version", "trained_through", "segment_id"):
        assert leaked[name] is None
        assert clean[name] is not None
    assert leaked["event_count_7d"] is not None
    assert frame.attrs["leaking_rows"] == 1


def test_mistakes_in_the_frame_are_told(team):
    good = _moments(team, team.first)
    with pytest.raises(SchemaError, match=r"lacks the columns \['customer_id'\]"):
        training_frame(team.store, SERVICE, good.rename(columns={"customer_id": "user"}))
    naive = good.assign(event_timestamp=pd.to_datetime(["2017-10-05"]))
    with pytest.raises(CutoffError, match="with a zone"):
        training_frame(team.store, SERVICE, naive)
    with pytest.raises(UserError, match="'ignore'"):
        training_frame(team.store, SERVICE, good, on_leak="ignore")


def test_a_service_without_provenance_is_refused(team):
    from feast import FeatureService

    view = team.store.get_feature_view("value_user_activity")
    team.store.apply([FeatureService(name="blind", features=[view])], partial=True)
    with pytest.raises(StoreError, match="holds no trained_through"):
        training_frame(team.store, "blind", _moments(team, team.first))

"""The user's embedding held against an item's vector: the numbers, and every way in which Feast computes them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast.errors import RequestDataNotFoundInEntityRowsException

from segmenter_plugin.errors import LeakageError, StoreError
from segmenter_plugin.store import training_frame
from segmenter_plugin.store.affinity import affinity
from segmenter_plugin.store.repository import open_store

SERVICE = "value_ranking_items_g1"
VIEW = "value_user_item_affinity_g1"
DIMENSION = 8


def _vectors(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


def _expected(embeddings, items):
    pairs = [(np.float64(user), np.float64(item)) for user, item in zip(embeddings, items, strict=True)]
    dot = [float(user @ item) for user, item in pairs]
    lengths = [float(np.sqrt((user @ user) * (item @ item))) for user, item in pairs]
    return {"cosine": [a / b for a, b in zip(dot, lengths, strict=True)], "dot": dot}


@pytest.fixture(scope="module")
def items():
    return _vectors(4, seed=3)


@pytest.fixture(scope="module")
def asked(team, items):
    """Four users with an item each, and what is online of their embeddings."""
    users = team.users[:4]
    rows = {"customer_id": users, "item_vector": [item.tolist() for item in items]}
    embeddings = team.store.get_online_features(
        features=["value_user_embedding_g1:embedding"], entity_rows={"customer_id": users}
    ).to_dict()["embedding"]
    return rows, _expected(embeddings, items)


def test_cosine_and_dot_are_numpys():
    users, vectors = _vectors(50), _vectors(50, seed=1)
    scores, expected = affinity(users.tolist(), vectors.tolist()), _expected(users, vectors)
    np.testing.assert_allclose(scores["cosine"], expected["cosine"], rtol=1e-12)
    np.testing.assert_allclose(scores["dot"], expected["dot"], rtol=1e-12)
    same = affinity(users.tolist(), (users * 3).tolist())["cosine"]
    np.testing.assert_allclose(same, 1.0, rtol=1e-6)


def test_what_is_not_there_has_no_score_and_keeps_its_row():
    one, other = [1.0, 2.0], [3.0, 4.0]
    scores = affinity([None, one, None, one, one], [one, None, None, [0.0, 0.0], other])
    np.testing.assert_array_equal(scores["dot"], [np.nan, np.nan, np.nan, 0.0, 11.0])
    np.testing.assert_allclose(scores["cosine"], [np.nan] * 4 + [11 / np.sqrt(5 * 25)])
    for nobody in ([], [None, None]):
        empty = affinity(nobody, nobody)
        assert [len(empty["cosine"]), len(empty["dot"])] == [len(nobody)] * 2


@pytest.mark.parametrize(
    ("embeddings", "vectors"),
    [([[1.0, 2.0]], [[1.0]]), ([[1.0, 2.0]] * 2, [[1.0, 2.0], [1.0]]), ([[1.0, 2.0], [1.0]], [[1.0, 2.0]] * 2)],
)
def test_vectors_of_another_space_are_refused(embeddings, vectors):
    with pytest.raises(StoreError, match="of different spaces") as caught:
        affinity(embeddings, vectors)
    assert "generation" in caught.value.hint


def test_a_request_brings_the_item_and_gets_the_scores_beside_the_features(team, asked):
    rows, expected = asked
    answer = team.store.get_online_features(features=team.store.get_feature_service(SERVICE), entity_rows=rows)
    answer = answer.to_dict()
    assert answer["cosine"] == pytest.approx(expected["cosine"], rel=1e-9)
    assert answer["dot"] == pytest.approx(expected["dot"], rel=1e-9)
    assert None not in answer["segment_id"]


def test_full_feature_names_are_answered_too(team, asked):
    rows, expected = asked
    answer = team.store.get_online_features(
        features=[f"{VIEW}:cosine", f"{VIEW}:dot"], entity_rows=rows, full_feature_names=True
    ).to_dict()
    assert answer[f"{VIEW}__cosine"] == pytest.approx(expected["cosine"], rel=1e-9)
    assert answer[f"{VIEW}__dot"] == pytest.approx(expected["dot"], rel=1e-9)


def test_a_missing_user_and_a_vector_of_zeros_are_null(team, items):
    rows = [
        {"customer_id": "nobody", "item_vector": items[0].tolist()},
        {"customer_id": team.users[0], "item_vector": [0.0] * DIMENSION},
        {"customer_id": team.users[0], "item_vector": None},
    ]
    service = team.store.get_feature_service(SERVICE)
    answer = team.store.get_online_features(features=service, entity_rows=rows).to_dict()
    assert answer["cosine"] == [None, None, None]
    assert answer["dot"] == [None, 0.0, None]
    alone = team.store.get_online_features(features=service, entity_rows=rows[:1]).to_dict()
    assert alone["cosine"] == alone["dot"] == [None]


def test_errors_name_what_is_missing_or_wrong(team):
    service = team.store.get_feature_service(SERVICE)
    with pytest.raises(StoreError, match="of different spaces"):
        team.store.get_online_features(
            features=service, entity_rows={"customer_id": team.users[:1], "item_vector": [[1.0]]}
        )
    with pytest.raises(RequestDataNotFoundInEntityRowsException, match="item_vector"):
        team.store.get_online_features(features=service, entity_rows={"customer_id": team.users[:1]})


def test_the_plain_service_needs_no_item(team):
    service = team.store.get_feature_service("value_ranking_g1")
    answer = team.store.get_online_features(features=service, entity_rows={"customer_id": team.users[:1]}).to_dict()
    assert "cosine" not in answer
    assert None not in answer["embedding"]


def _moments(team, items, time):
    # One user looks at three items at one moment: as many rows, each with its own score.
    return pd.DataFrame(
        {
            "customer_id": [team.users[0]] * 3 + [team.users[1]],
            "event_timestamp": pd.to_datetime([time] * 4, utc=True),
            "item_vector": list(items),
            "clicked": [0, 1, 0, 1],
        }
    )


def test_training_frames_hold_the_score_of_that_time(team, items):
    frame = training_frame(team.store, SERVICE, _moments(team, items, team.first))
    expected = _expected(frame["embedding"], items)
    assert frame["cosine"].tolist() == pytest.approx(expected["cosine"], rel=1e-9)
    assert frame["dot"].tolist() == pytest.approx(expected["dot"], rel=1e-9)
    assert frame["clicked"].tolist() == [0, 1, 0, 1]


def test_a_score_made_by_leaking_weights_leaks(team, items):
    moments = _moments(team, items, team.second)
    with pytest.raises(LeakageError, match="4 of 4"):
        training_frame(team.store, SERVICE, moments)
    frame = training_frame(team.store, SERVICE, moments, on_leak="null")
    assert frame[["cosine", "dot", "embedding"]].isna().all(axis=None)
    assert frame["order_count_28d"].notna().all()


def test_where_nobody_is_known_the_column_keeps_its_type(team, items):
    moments = _moments(team, items, team.first).assign(customer_id="nobody")
    table = team.store.get_historical_features(
        entity_df=moments.assign(event_timestamp=moments["event_timestamp"].dt.as_unit("us")),
        features=team.store.get_feature_service(SERVICE),
    ).to_arrow()
    assert table.schema.field("cosine").type == pa.float64()
    assert table["dot"].null_count == 4


_ELSEWHERE = """
import json, sys
from feast import FeatureStore
repo, rows = json.loads(sys.argv[1])
store = FeatureStore(repo_path=repo)
answer = store.get_online_features(features=store.get_feature_service("{service}"), entity_rows=rows).to_dict()
print("answer:" + json.dumps([answer["cosine"], answer["dot"]]))
"""


def test_another_process_computes_the_same_from_the_registry(team, asked, tmp_path):
    rows, expected = asked
    arguments = json.dumps([str(team.store.repo_path), rows])
    code = _ELSEWHERE.format(service=SERVICE)
    done = subprocess.run(
        [sys.executable, "-c", code, arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cosine, dot = json.loads(done.stdout.partition("answer:")[2].splitlines()[0])
    assert cosine == pytest.approx(expected["cosine"], rel=1e-9)
    assert dot == pytest.approx(expected["dot"], rel=1e-9)


def test_applying_again_changes_nothing(team):
    before = team.store.get_on_demand_feature_view(VIEW)
    again = open_store(team.store.repo_path)
    kept = again.get_on_demand_feature_view(VIEW)
    again.apply([kept], partial=True)
    assert again.get_on_demand_feature_view(VIEW) == before
    assert "null for a vector of zeros" in kept.description

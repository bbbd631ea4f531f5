"""Feast's own HTTP server over our stores: reads, the affinity, pushes and a materialisation, all by HTTP."""

from __future__ import annotations

import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import served_world
import shop_tables

pytestmark = pytest.mark.slow

STARTS_WITHIN_S = 60


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running ``feast serve``."""

    def __init__(self, port):
        self.port = port

    def ask(self, method, path, body=None):
        """Status and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, f"/{path}", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(self, path, body):
        """The answer's JSON; None where it has no body."""
        status, text = self.ask("POST", path, body)
        assert status == 200, text
        return json.loads(text) if text else None

    def is_up(self):
        try:
            return self.ask("GET", "health")[0] == 200
        except OSError:
            return False

    def features(self, service, **entities):
        """Values and statuses of a service, by feature."""
        body = self.post("get-online-features", {"feature_service": service, "entities": entities})
        names = body["metadata"]["feature_names"]
        return {name: (of["values"], of["statuses"]) for name, of in zip(names, body["results"], strict=True)}


@contextmanager
def _serving(shop):
    port = _free_port()
    command = [sys.executable, "-P", "-m", "feast.cli.cli", "serve", "--port", str(port), "--no-access-log"]
    log = shop.repo / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=shop.repo, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            server, deadline = Server(port), time.monotonic() + STARTS_WITHIN_S
            while not server.is_up():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                # The session is the server's own: its workers go with it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module", params=served_world.ONLINE)
def served(request, tmp_path_factory):
    """A shop that is online, and its server."""
    with served_world.online_store(request.param) as settings:
        shop = served_world.published_shop(tmp_path_factory.mktemp("served"), shop_tables.day(10, 1), settings)
        shop.feast("apply")
        shop.feast("materialize", "2017-09-30T00:00:00", "2017-10-02T00:00:00")
        with _serving(shop) as server:
            yield shop, server


def _same(sent, expected):
    """JSON's numbers and texts against Python's; times come as text."""
    if expected is None or sent is None:
        return sent is expected
    if isinstance(expected, list):
        return len(sent) == len(expected) and all(map(_same, sent, expected))
    if isinstance(expected, float):
        return math.isclose(sent, expected, rel_tol=1e-6)
    return hasattr(expected, "isoformat") or sent == expected


def test_http_answers_what_python_answers(served):
    shop, server = served
    users = [*shop.users, "nobody", shop.users[0]]
    answer = server.features("ranking_g1", user_id=users)
    store = shop.store
    expected = store.get_online_features(
        features=store.get_feature_service("ranking_g1"), entity_rows={"user_id": users}
    ).to_dict()
    assert set(answer) == set(expected)
    for name, values in expected.items():
        assert all(map(_same, answer[name][0], values)), name
    embeddings = shop.written["scores"]["embedding"].to_pylist()
    assert all(map(_same, answer["embedding"][0][:-2], embeddings))


def test_a_missing_user_is_visibly_missing(served):
    shop, server = served
    answer = server.features("ranking_g1", user_id=[shop.users[0], "nobody"])
    del answer["user_id"]
    for name, (values, statuses) in answer.items():
        assert values[1] is None, name
        assert statuses == ["PRESENT", "NOT_FOUND"], name


def test_an_item_vector_in_the_request_is_scored(served):
    shop, server = served
    vector = [1.0] + [0.0] * (shop_tables.DIMENSION - 1)
    users = [shop.users[0], "nobody"]
    answer = server.features("ranking_items_g1", user_id=users, item_vector=[vector] * 2)
    embedding = shop.written["scores"]["embedding"].to_pylist()[0]
    length = math.sqrt(sum(number * number for number in embedding))
    assert answer["dot"][0] == [pytest.approx(embedding[0]), None]
    assert answer["cosine"][0] == [pytest.approx(embedding[0] / length), None]
    shorter = {"user_id": users, "item_vector": [[1.0]] * 2}
    status, _ = server.ask("POST", "get-online-features", {"feature_service": "ranking_items_g1", "entities": shorter})
    assert status == 500
    assert "of different spaces" in (shop.repo / "serve.log").read_text()


def _row(user, segment):
    return {
        "user_id": [user],
        "event_timestamp": ["2017-10-05T00:00:00+00:00"],
        "created_timestamp": ["2017-10-05T01:00:00+00:00"],
        "segment_id": [segment],
        "segment_name": ["pushed"],
        "segment_stability": [0.5],
        "model_version": ["by hand"],
        "trained_through": ["2017-09-01T00:00:00+00:00"],
    }


def test_a_row_pushed_by_http_is_online_at_once(served):
    shop, server = served
    server.post("push", {"push_source_name": "user_segment_g1_push", "df": _row("newcomer", 41), "to": "online"})
    answer = server.features("ranking_g1", user_id=["newcomer"])
    assert answer["segment_id"] == ([41], ["PRESENT"])
    assert answer["embedding"] == ([None], ["NOT_FOUND"])
    assert not list(shop.config.root_path.glob("features/*/cutoff=pushed-*"))


def test_a_row_pushed_to_both_stores_is_history_too(served):
    shop, server = served
    body = {"push_source_name": "user_segment_g1_push", "df": _row("regular", 42), "to": "online_and_offline"}
    for _ in range(2):
        server.post("push", body)
    assert server.features("ranking_g1", user_id=["regular"])["segment_id"][0] == [42]
    assert len(list(shop.config.root_path.glob("features/user_segment_g1/cutoff=pushed-*"))) == 1


def test_a_materialisation_asked_by_http_puts_corrected_rows_online(served):
    shop, server = served
    corrected = shop.rewrite(seed=9)
    window = {"start_ts": "2017-09-30T00:00:00", "end_ts": "2017-10-02T00:00:00"}
    server.post("materialize", window | {"feature_views": ["user_scores_g1"]})
    answer = server.features("ranking_g1", user_id=shop.users)
    assert set(answer["model_version"][0]) == {"version-9"}
    expected = corrected["scores"]["purchase_14d_probability"].to_pylist()
    assert all(map(_same, answer["purchase_14d_probability"][0], expected))
    # The other views were not asked for.
    assert not all(map(_same, answer["embedding"][0], corrected["scores"]["embedding"].to_pylist()))

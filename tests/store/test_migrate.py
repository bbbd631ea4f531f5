"""Rows move between the layouts with their bytes, once, also when interrupted; what is newer in either place stays."""

from __future__ import annotations

import pytest
from feast import Entity, FeatureStore, ValueType
from redis_rows import FEATURES, LAYOUTS, redis_config, rows_of, said, small_view, write
from redis_world import redis_cluster, redis_server

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store import migrate
from segmenter_plugin.store.migrate import MovedView, migrate_layout
from segmenter_plugin.store.rows import EncodedRows

USERS = list(range(2_500))
VIEWS = ("one", "two")


@pytest.fixture(scope="module")
def server():
    with redis_server() as server:
        yield server


@pytest.fixture
def place(server, tmp_path_factory):
    """Opens the shop's Feast project with a layout, on an empty server."""
    with server.client() as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("project")

    def open_with(layout, **options):
        address = options.pop("address", server.address)
        return FeatureStore(config=redis_config(address, registry=f"{folder}/registry.db", layout=layout, **options))

    user = Entity(name="of_user_id", join_keys=["user_id"], value_type=ValueType.INT64)
    open_with("stock").apply([user, *(small_view(name) for name in VIEWS)], partial=True)
    return open_with


@pytest.fixture(params=LAYOUTS)
def ways(request):
    """From which layout to which."""
    return request.param, {"stock": "packed", "packed": "stock"}[request.param]


def fill(config, number=1, users=USERS, day=0):
    for name in VIEWS:
        write(config, rows_of(users, number, day=day), view=small_view(name))


def test_all_rows_move_and_look_as_if_they_had_been_written_there(place, ways, server):
    old, new = ways
    fill(place(new).config)
    expected = server.dump()
    server.client().flushall()
    fill(place(old).config)
    before = server.dump()
    moved = migrate_layout(place(old), VIEWS, new)
    assert moved == [MovedView(name, 2_500, 2_500, 2_500) for name in VIEWS]
    assert server.dump() == expected
    assert migrate_layout(place(new), VIEWS, new) == [MovedView(name) for name in VIEWS]
    migrate_layout(place(new), VIEWS, old)
    assert server.dump() == before


def test_only_the_views_named_move_and_nothing_of_other_projects(place, ways, server):
    old, new = ways
    fill(place(old).config)
    fill(redis_config(server.address, layout=old, project="work_shop"), number=9)
    assert migrate_layout(place(old), ["one"], new) == [MovedView("one", 2_500, 2_500, 2_500)]
    rows = rows_of(USERS, 0)
    assert said(place(old).config, rows, name="one") == [None] * 2_500
    assert said(place(old).config, rows, name="two") == [1] * 2_500
    for name in VIEWS:
        assert said(redis_config(server.address, layout=old, project="work_shop"), rows, name=name) == [9] * 2_500


def test_old_rows_stay_on_request_and_the_second_run_takes_them_away(place, ways, server):
    old, new = ways
    fill(place(old).config)
    before = server.dump()
    assert migrate_layout(place(old), VIEWS, new, keep_old=True) == [MovedView(name, 2_500, 2_500) for name in VIEWS]
    held = server.dump()
    assert {key: held[key] for key in before} == before
    fill(place(old).config, number=2, users=USERS[:10], day=1)  # a writer that has not been switched yet
    fill(place(new).config, number=3, users=USERS[5:15], day=2)  # one that has
    fill(place(new).config, number=4, users=USERS[20:25])  # a correction of the same time
    assert migrate_layout(place(new), VIEWS, new) == [MovedView(name, 2_500, 5, 2_500) for name in VIEWS]
    numbers = [2] * 5 + [3] * 10 + [1] * 5 + [4] * 5 + [1] * 5
    for name in VIEWS:
        assert said(place(new).config, rows_of(USERS[:30], 0), name=name) == numbers
        assert said(place(old).config, rows_of(USERS[:30], 0), name=name) == [None] * 30


def test_a_row_that_changes_while_it_is_moved_stays_for_the_next_run(place, ways, server, monkeypatch):
    old, new = ways
    fill(place(old).config)
    run, calls = migrate._run, []

    def run_late(client, commands):
        calls.append(1)
        if len(calls) == 2:  # between reading and deleting the first rows
            fill(place(old).config, number=5, day=1)
        return run(client, commands)

    monkeypatch.setattr(migrate, "_run", run_late)
    (moved,) = migrate_layout(place(old), ["one"], new)
    assert moved.deleted < moved.rows
    monkeypatch.undo()
    (rest,) = migrate_layout(place(old), ["one"], new)
    assert rest.rows == rest.moved == rest.deleted > 0
    assert said(place(new).config, rows_of(USERS, 0), name="one") == [5] * len(USERS)


def test_a_run_that_broke_off_is_run_again(place, ways, server, monkeypatch):
    old, new = ways
    fill(place(old).config)
    run, calls = migrate._run, []

    def break_off(client, commands):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(client, commands)

    monkeypatch.setattr(migrate, "_run", break_off)
    with pytest.raises(KeyboardInterrupt):
        migrate_layout(place(old), VIEWS, new)
    monkeypatch.undo()
    moved = migrate_layout(place(old), VIEWS, new)
    assert 0 < moved[0].rows < 2_500
    for name in VIEWS:
        assert said(place(new).config, rows_of(USERS, 0), name=name) == [1] * len(USERS)


def test_a_server_that_restarts_while_rows_move_is_walked_again(place, ways, server, monkeypatch):
    with redis_server(appendonly="yes", appendfsync="always") as safe:
        old, new = ways
        shop = place(old, address=safe.address)
        fill(shop.config)
        run, calls = migrate._run, []

        def restart_between(client, commands):
            calls.append(1)
            if len(calls) == 5:
                safe.restart()
            return run(client, commands)

        monkeypatch.setattr(migrate, "_run", restart_between)
        migrate_layout(shop, VIEWS, new)
        for name in VIEWS:
            assert said(place(new, address=safe.address).config, rows_of(USERS, 0), name=name) == [1] * len(USERS)
            assert set(said(shop.config, rows_of(USERS, 0), name=name)) == {None}


def test_rows_from_before_a_feature_was_added_keep_lacking_it(place, ways, server):
    old, new = ways
    rows = rows_of(USERS[:3], 1)
    less = EncodedRows(rows.keys, {name: rows.values[name] for name in FEATURES[:3]}, rows.event_times, None)
    small = small_view("one")
    small.features[:] = small.features[:3]
    write(place(old).config, less, view=small)
    write(place(old).config, rows_of(USERS[3:5], 2), view=small_view("one"))
    before = server.dump()
    (moved,) = migrate_layout(place(old), ["one"], new)
    assert moved == MovedView("one", 5, 5, 5)
    migrate_layout(place(old), ["one"], old)
    assert server.dump() == before


def test_a_cluster_s_rows_move_too(place, ways):
    old, new = ways
    with redis_cluster() as nodes:
        options = {"address": ",".join(node.address for node in nodes), "redis_type": "redis_cluster"}
        fill(place(old, **options).config)
        assert migrate_layout(place(old, **options), VIEWS, new) == [MovedView(name, *[2_500] * 3) for name in VIEWS]
        for name in VIEWS:
            assert said(place(new, **options).config, rows_of(USERS, 0), name=name) == [1] * len(USERS)


def test_another_store_has_one_layout(tmp_path):
    settings = redis_config("localhost:1", kind="redis", registry=f"{tmp_path}/registry.db")
    with pytest.raises(StoreError, match="one layout only") as caught:
        migrate_layout(FeatureStore(config=settings), VIEWS, "packed")
    assert "ArrowRedisOnlineStore" in caught.value.hint

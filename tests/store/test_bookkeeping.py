"""What Feast's registry learns of rows that something else has written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from view_tables import declare

from segmenter_plugin.store.bookkeeping import materialize_elsewhere


@pytest.fixture
def project(team_repo, shop):
    """Two declared views, never materialised."""
    from feast import ValueType
    from feast.types import Float32

    from segmenter_plugin.store.repository import open_store

    store = open_store(team_repo)
    views = [declare({"key": ValueType.STRING}, {"score": Float32}, name) for name in ("one", "two")]
    store.apply([_entity(), *(view.batch_source for view in views), *views], partial=True)
    return SimpleNamespace(store=store, first=shop.day(10, 1), last=shop.day(11, 1))


def _entity():
    from feast import Entity, ValueType

    return Entity(name="of_key", join_keys=["key"], value_type=ValueType.STRING)


def states(project):
    project.store.refresh_registry()
    return {view.name: (view.state.name, view.materialization_intervals) for view in project.store.list_feature_views()}


NOTHING = ("STATE_UNSPECIFIED", [])


def test_each_view_is_written_once_and_recorded(project, capsys):
    calls, seen = [], {}

    def write(view, start, end):
        calls.append((view.name, start, end))
        seen[view.name] = states(project)["one"][0]

    materialize_elsewhere(project.store, ["one", "two"], project.first, project.last, write)
    window = (project.first, project.last)
    assert calls == [("one", *window), ("two", *window)]
    # The first is recorded before the second begins.
    assert seen["two"] == "AVAILABLE_ONLINE"
    assert states(project) == {name: ("AVAILABLE_ONLINE", [window]) for name in ("one", "two")}
    assert not capsys.readouterr().out


def test_a_view_is_marked_while_it_is_written_and_put_back_where_that_fails(project):
    materialize_elsewhere(project.store, ["one"], project.first, project.first, lambda *_: None)
    project.store.refresh_registry()
    seen = []

    def fail(*_):
        seen.append(states(project)["one"][0])
        raise RuntimeError("half of it")

    with pytest.raises(RuntimeError, match="half of it"):
        materialize_elsewhere(project.store, ["one", "two"], project.first, project.last, fail)
    assert seen == ["MATERIALIZING"]
    assert states(project) == {"one": ("AVAILABLE_ONLINE", [(project.first, project.first)]), "two": NOTHING}


def test_the_repositorys_own_engine_works_again_afterwards(project):
    from feast.infra.compute_engines.local.compute import LocalComputeEngine

    provider = project.store._get_provider()
    materialize_elsewhere(project.store, ["one"], project.first, project.last, lambda *_: None)
    assert isinstance(provider.batch_engine, LocalComputeEngine)

"""Feast's command line, its errors, and the window that it is given."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.repository import materialization_window, open_store, require_service, run_feast


def _day(number):
    return datetime(2017, 10, number, tzinfo=UTC)


def test_the_window_begins_and_ends_at_the_cutoffs():
    days = [_day(8), _day(1)]
    assert materialization_window(days, days, []) == (_day(1), _day(8))


def test_the_window_takes_along_what_went_online_before():
    published, covered = [_day(1), _day(8), _day(15)], [(_day(1), _day(8))]
    assert materialization_window([_day(1)], published, covered) == (_day(1), _day(8))


def test_the_window_leaves_out_what_was_held_back():
    assert materialization_window([_day(1)], [_day(1), _day(15)], [(_day(1), _day(8))]) == (_day(1), _day(1))


def test_a_folder_without_yaml_is_no_repository(tmp_path):
    with pytest.raises(StoreError, match=r"holds no feature_store\.yaml"):
        open_store(tmp_path)


def test_an_unknown_service_is_named_with_the_known_ones(team_repo):
    with pytest.raises(StoreError, match=r"'ranking_g1' is not in the registry of project 'team'; it holds \[\]"):
        require_service(open_store(team_repo), "ranking_g1")


def test_a_failed_command_shows_its_last_lines(team_repo):
    (team_repo / "broken.py").write_text("raise RuntimeError('this file is broken')\n")
    with pytest.raises(StoreError, match=r"`feast apply` .* exit code 1: .*this file is broken") as caught:
        run_feast(team_repo, ["apply"])
    assert caught.value.exit_code == 2


def test_a_known_warning_is_left_out_and_others_pass(team_repo, caplog):
    open_store(team_repo)
    assert "serve_features_while_materializing" not in caplog.text

from datetime import UTC, datetime

import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.errors import ConfigError, CutoffError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.pipeline import (
    backfill,
    cutoffs_between,
    group_by_known_labels,
    train,
    with_training_cutoffs,
)


def _day(month, day):
    return datetime(2017, month, day, tzinfo=UTC)


@pytest.fixture
def trained(tree):
    return parse_config(tree | {"training": {"cutoffs": ["2017-03-01", "2017-04-01", "2017-05-01"]}})


def test_cutoffs_step_from_first_to_last():
    assert cutoffs_between(_day(1, 1), _day(1, 15), "7d") == [_day(1, 1), _day(1, 8), _day(1, 15)]
    assert cutoffs_between(_day(1, 1), _day(1, 14), "7d") == [_day(1, 1), _day(1, 8)]
    assert cutoffs_between(_day(1, 1), _day(1, 1), "1d") == [_day(1, 1)]


@pytest.mark.parametrize("every", ["7", "0d", "-1d", "1w", ""])
def test_a_step_is_a_number_of_days(every):
    with pytest.raises(CutoffError, match="--every"):
        cutoffs_between(_day(1, 1), _day(1, 15), every)


def test_an_end_before_the_start_is_refused():
    with pytest.raises(CutoffError, match="before"):
        cutoffs_between(_day(1, 15), _day(1, 1), "7d")


def test_weights_for_a_cutoff_know_no_label_that_ends_after_it(trained):
    cutoffs = [_day(3, 15), _day(4, 14), _day(4, 15), _day(6, 1), _day(7, 1)]
    groups = group_by_known_labels(trained, cutoffs)
    assert groups == [
        ((_day(3, 1),), [_day(3, 15), _day(4, 14)]),
        ((_day(3, 1), _day(4, 1)), [_day(4, 15)]),
        ((_day(3, 1), _day(4, 1), _day(5, 1)), [_day(6, 1), _day(7, 1)]),
    ]
    for known, scored in groups:
        assert max(trained.labels_end(cutoff) for cutoff in known) <= min(scored)


def test_a_cutoff_before_any_label_was_known_is_refused(trained):
    with pytest.raises(CutoffError, match="nothing can be scored as of 2017-03-14") as caught:
        group_by_known_labels(trained, [_day(3, 14)])
    assert "2017-03-15" in caught.value.hint


def test_walk_forward_weights_have_folders_of_their_own(trained):
    first = with_training_cutoffs(trained, (_day(3, 1),))
    second = with_training_cutoffs(trained, (_day(3, 1), _day(4, 1)))
    assert first.training_cutoffs == (_day(3, 1),)
    paths = {Layout.of(config).encoder for config in (trained, first, second)}
    assert len(paths) == 3
    assert Layout.of(first).scores(_day(6, 1)) == Layout.of(trained).scores(_day(6, 1))


@pytest.mark.parametrize("stage", [train, lambda config: backfill(config, [_day(6, 1)])], ids=["train", "backfill"])
def test_training_needs_cutoffs_and_tasks_before_anything_is_built(config, tree, stage):
    with pytest.raises(ConfigError, match="cutoffs is empty"):
        stage(config)
    with pytest.raises(ConfigError, match="nothing to predict"):
        stage(parse_config(tree | {"tasks": [], "training": {"cutoffs": ["2017-03-01"]}}))

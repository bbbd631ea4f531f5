"""Sequences, activity and labels equal what plain Python makes of the same random worlds."""

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segmenter_plugin.schemas import activity_fields, label_fields, sequence_fields

# A failure is not shrunk: each step of that is a Spark job, hundreds of them.
FEW = settings(
    max_examples=4,
    phases=[Phase.generate],
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@pytest.mark.parametrize("sessions", [True, False], ids=["with ids", "without ids"])
def test_behaviour_equals_reference(spark, world, sessions):
    config = world.world_config(sessions=sessions)

    @FEW
    @given(rows=world.worlds(users=15))
    def check(rows):
        expected = {}
        for user, events in world.clean(rows, config).items():
            if world.observed(events, world.CUTOFF):
                sequence = world.sequence_row(events, world.CUTOFF, config)
                expected[user] = sequence | world.activity_row(events, world.CUTOFF, config)
        found = world.built(spark, rows, config)
        assert set(found) == set(expected)
        for user, row in expected.items():
            assert list(found[user]) == [field.name for field in [*sequence_fields(config), *activity_fields(config)]]
            # Sums and counts are exact; a mean or a deviation may be divided in another order.
            assert _equal(found[user], row)

    check()


def _equal(found: dict, expected: dict) -> bool:
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
        else:
            assert found[name] == value, name
    return set(found) == set(expected)


def test_labels_equal_reference(spark, world):
    config = world.world_config()
    complete = [world.CUTOFF + timedelta(days=days) for days in (0, 3, 5, 6)]

    @FEW
    @given(rows=world.worlds(users=20), complete_through=st.sampled_from(complete))
    def check(rows, complete_through: datetime):
        expected = {
            user: world.label_row(events, world.CUTOFF, complete_through, config)
            for user, events in world.clean(rows, config).items()
            if world.observed(events, world.CUTOFF)
        }
        found = world.labelled(spark, rows, config, complete_through)
        assert found == expected
        for row in found.values():
            assert list(row) == [field.name for field in label_fields(config)]

    check()

"""No event at or after a cutoff reaches what is built as of it; nor do the order and the partitions of events."""

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# A failure is not shrunk: each step of that is a Spark job, hundreds of them.
FEW = settings(
    max_examples=4,
    phases=[Phase.generate],
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def renamed(rows, suffix):
    return [row | {"customer": row["customer"] + suffix} for row in rows]


@pytest.mark.parametrize("sessions", [True, False], ids=["with ids", "without ids"])
def test_events_from_the_cutoff_on_change_nothing(spark, world, sessions):
    """Three futures of the same past, under different user names, in one build: as drawn, none, and another one."""
    config = world.world_config(sessions=sessions)

    @FEW
    @given(rows=world.worlds(users=10, most_events=8), other=world.worlds(users=10, most_events=8))
    def check(rows, other):
        past = [row for row in rows if row["at"] < world.CUTOFF]
        future = [row for row in rows if row["at"] >= world.CUTOFF]
        moved = [row | {"at": world.CUTOFF + abs(row["at"] - world.CUTOFF)} for row in other]
        at_cutoff = [row | {"at": world.CUTOFF} for row in past]
        futures = {"-drawn": future, "-none": [], "-other": moved, "-repeated": at_cutoff}
        together = [row for name, later in futures.items() for row in renamed(past + later, name)]
        found = world.built(spark, together, config)
        for user in {row["customer"] for row in past}:
            kept = found.get(user + "-none")
            for name in futures:
                assert found.get(user + name) == kept, name
        assert not any(user.removesuffix("-other") + "-none" not in found for user in found if user.endswith("-other"))

    check()


def test_one_cutoff_of_a_shared_timeline_is_blind_to_the_next(spark, world):
    """The timeline holds the future, for labels and later cutoffs; behaviour equals that of a timeline without it."""
    config = world.world_config()

    @FEW
    @given(rows=world.worlds(users=15))
    def check(rows):
        past = [row for row in rows if row["at"] < world.CUTOFF]
        assert world.built(spark, rows, config) == world.built(spark, past, config)

    check()


def test_order_and_partitions_change_nothing(spark, world):
    config = world.world_config()

    @FEW
    @given(rows=world.worlds(users=15), seed=st.integers(0, 2**16), partitions=st.sampled_from([1, 3, 7]))
    def check(rows, seed, partitions):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert world.built(spark, shuffled, config, partitions) == world.built(spark, rows, config)

    check()


def test_labels_read_only_the_prediction_window(spark, world):
    config = world.world_config()
    complete = world.CUTOFF + timedelta(days=30)
    furthest = world.CUTOFF + timedelta(days=6)

    @FEW
    @given(rows=world.worlds(users=10, most_events=8), other=world.worlds(users=10, most_events=8))
    def check(rows, other):
        inside = [row for row in rows if world.CUTOFF <= row["at"] < furthest]
        known = [row | {"at": world.CUTOFF - timedelta(days=1)} for row in rows[:: max(1, len(rows) // 10)]]
        before = [row | {"at": world.CUTOFF - abs(row["at"] - world.CUTOFF) - timedelta(minutes=1)} for row in other]
        after = [row | {"at": furthest + abs(row["at"] - world.CUTOFF)} for row in other]
        plain, changed = known + inside, known + inside + before + after
        found = world.labelled(spark, renamed(plain, "-plain") + renamed(changed, "-changed"), config, complete)
        for user in {row["customer"] for row in known}:
            assert found[user + "-plain"] == found[user + "-changed"]

    check()


def test_a_gap_keeps_its_days_out_of_the_label(spark, world):
    """`late` looks at days 2 to 6 after the cutoff."""
    config = world.world_config()
    row = dict.fromkeys(world.RAW.names) | {"kind": "bought"}
    moments = {"before": 1.999, "first": 2.0, "last": 5.999, "after": 6.0}
    rows = [row | {"customer": name, "at": world.CUTOFF - timedelta(days=1), "kind": "seen"} for name in moments]
    rows += [row | {"customer": name, "at": world.CUTOFF + timedelta(days=days)} for name, days in moments.items()]
    # Late enough for the 90 days' task to be over too: its window then brings all of these events in.
    found = world.labelled(spark, rows, config, world.CUTOFF + timedelta(days=90))
    late = {user: labels["late_4d_gap2d_label"] for user, labels in found.items()}
    assert late == {"before": False, "first": True, "last": True, "after": False}

import math
from datetime import timedelta

import block_world
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import spark_world
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.schemas import activity_fields

CUTOFF, DAY = block_world.CUTOFF, timedelta(days=1)


@pytest.mark.parametrize("sessions", [True, False], ids=["with ids", "without ids"])
def test_activity_equals_plain_python(sessions):
    config = spark_world.world_config(sessions=sessions)
    names = [field.name for field in activity_fields(config)]

    @settings(max_examples=60)
    @given(rows=spark_world.worlds(users=5), offset=st.sampled_from([timedelta(0), -3 * DAY, timedelta(minutes=1)]))
    def check(rows, offset):
        cutoff = CUTOFF + offset
        found = block_world.by_user(block_world.at(rows, config, cutoff, CUTOFF).behaviour)
        expected = {
            user: spark_world.activity_row(events, cutoff, config)
            for user, events in spark_world.clean(rows, config).items()
            if spark_world.observed(events, cutoff)
        }
        assert set(found) == set(expected)
        for user, row in expected.items():
            for name in names:
                # Sums and counts are exact; a mean or a deviation may be divided in another order.
                value = row[name]
                expected_value = pytest.approx(value, rel=1e-12, abs=1e-12) if isinstance(value, float) else value
                assert found[user][name] == expected_value, name

    check()


def activity_of(*events, sessions=False, cutoff=CUTOFF):
    config = spark_world.world_config(sessions=sessions)
    row = dict.fromkeys(spark_world.RAW.names) | {"customer": "u", "kind": "seen"}
    rows = [row | {"at": CUTOFF - timedelta(hours=hours)} | further for hours, further in events]
    return block_world.by_user(block_world.at(rows, config, cutoff, CUTOFF).behaviour)["u"]


def test_windows_hold_their_start_and_not_the_cutoff():
    found = activity_of((0, {}), (24, {}), (24 * 7, {}), (24 * 20, {}), (24 * 20.001, {}))
    assert [found[f"event_count_{days}d"] for days in (1, 7, 20)] == [1, 2, 3]
    assert (found["recency_days"], found["tenure_days"]) == (1.0, 20.0)


def test_gaps_are_between_active_days():
    """Days 0, 0, 1 and 5 before the cutoff: gaps of 4 and 1 day; the 24th hour still belongs to day 0."""
    found = activity_of((1, {}), (24, {}), (25, {}), (121, {}))
    assert (found["gap_mean_days"], found["gap_std_days"]) == (2.5, 1.5)
    assert [found[f"active_day_count_{days}d"] for days in (1, 7, 20)] == [1, 3, 3]
    assert activity_of((1, {}), (24, {}))["gap_mean_days"] is None


def test_a_session_ends_with_a_pause_of_more_than_half_an_hour():
    assert activity_of((1, {}), (1.5, {}), (2, {}))["session_count_1d"] == 1
    assert activity_of((1, {}), (1.51, {}), (2, {}))["session_count_1d"] == 2


def test_a_session_that_reaches_into_a_window_counts_there():
    found = activity_of((23.9, {}), (24.2, {}), (30, {}))
    assert (found["session_count_1d"], found["session_count_7d"]) == (1, 2)


def test_orders_are_told_by_id_then_session_then_moment():
    bought = {"kind": "bought", "paid": 1.0}
    found = activity_of(
        (1, bought | {"receipt": "r"}),
        (30, bought | {"receipt": "r", "visit": "s"}),
        (2, bought | {"visit": "r"}),
        (3, bought | {"visit": "r", "sku": "x"}),
        (4, bought),
        (4, bought | {"sku": "x"}),
        (5, {"receipt": "not bought"}),
        sessions=True,
    )
    assert (found["order_count_1d"], found["order_count_20d"]) == (3, 3)
    assert found["order_amount_mean"] == 6.0 / 3


def test_amounts_are_summed_in_cents_and_absent_ones_are_no_zeros():
    money = [(1, {"paid": 0.1}), (2, {"paid": 0.2}), (3, {"paid": None})]
    found = activity_of(*((hours, further | {"kind": "bought"}) for hours, further in money))
    assert (found["purchase_sum_1d"], found["purchase_amount_mean"], found["purchase_amount_max"]) == (0.3, 0.15, 0.2)
    assert (found["purchase_amount_min"], found["purchase_amount_std"]) == (0.1, 0.05)
    nothing = activity_of((1, {"kind": "bought", "paid": None}))
    assert (nothing["purchase_amount_min"], nothing["purchase_amount_std"]) == (None, None)
    assert (nothing["purchase_sum_1d"], nothing["purchase_amount_mean"], nothing["purchase_amount_max"]) == (
        0.0,
        None,
        None,
    )


@pytest.mark.parametrize("digits", [0, 2, 6])
def test_prices_of_any_size_have_a_deviation(digits):
    """Squares of 50 million in millionths are far beyond 64 bits."""
    config = block_world.dense_config()
    config = config.model_copy(update={"events": config.events.model_copy(update={"currency_digits": digits})})
    events = block_world.dense_events(config, seed=1, users=2, rows=40)
    row = events.slice(0, 1).set_column(2, "event_type", pa.array(["purchase"]))
    row = row.set_column(1, "event_timestamp", pa.array([CUTOFF - DAY], events.schema.field(1).type))

    def deviation(amounts):
        place = row.column_names.index("amount")
        bought = [row.set_column(place, "amount", pa.array([amount])) for amount in amounts]
        block = EventBlock.of(pa.concat_tables(bought), config)
        (tables,) = tables_as_of(block, [CUTOFF], CUTOFF, config)
        return tables.behaviour["purchase_amount_std"].to_pylist()

    assert deviation([5e7] * 30) == [0.0]
    assert deviation([0.0, 5e7] * 30) == [2.5e7]
    assert deviation([5e7, 5e7, 5e7 + 6]) == [pytest.approx(math.sqrt(8), rel=1e-12)]


def test_further_numbers_are_counted_and_averaged_within_the_observation_window():
    weights = [(1, 0.5), (2, None), (30, 2.0), (24 * 20.001, 64.0), (-1, 64.0)]
    found = activity_of(*((hours, {"weight": weight}) for hours, weight in weights))
    assert (found["weight_known_count"], found["weight_mean"]) == (2, 1.25)
    nothing = activity_of((1, {}))
    assert (nothing["weight_known_count"], nothing["weight_mean"]) == (0, None)


def test_an_average_is_of_the_users_own_numbers():
    """A running sum over all users would lose the small ones beside 2e300."""
    config = block_world.dense_config()
    events = block_world.dense_events(config, seed=7, users=60, rows=900)
    (whole,) = tables_as_of(EventBlock.of(events, config), [CUTOFF], CUTOFF, config)
    means = dict(zip(*(whole.behaviour[name].to_pylist() for name in ("user_id", "weight_mean")), strict=True))
    assert len(set(means.values())) > 5
    for user, mean in means.items():
        own = events.filter(pc.equal(events["user_id"], user))
        (alone,) = tables_as_of(EventBlock.of(own, config), [CUTOFF], CUTOFF, config)
        assert alone.behaviour["weight_mean"].to_pylist() == [mean]

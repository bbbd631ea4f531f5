"""The first reason counts, and no row is refused twice."""

import numpy as np

from segmenter_plugin.data.event_reasons import EVENT_TYPE_UNKNOWN, PRICE_NEGATIVE, USER_ID_MISSING, Refusals


def test_the_first_reason_stays():
    refusals = Refusals(4)
    refusals.refuse(USER_ID_MISSING, None)
    refusals.refuse(EVENT_TYPE_UNKNOWN, np.array([False, True, False, False]))
    refusals.refuse(PRICE_NEGATIVE, np.array([False, True, False, True]))
    assert refusals.places.tolist() == [1, 3]
    assert refusals.reasons.to_pylist() == [EVENT_TYPE_UNKNOWN, PRICE_NEGATIVE]
    assert refusals.kept.tolist() == [True, False, True, False]


def test_where_nothing_is_refused_nothing_is_allocated():
    refusals = Refusals(2)
    refusals.refuse(USER_ID_MISSING, np.zeros(2, np.bool_))
    assert refusals.kept is None
    assert (len(refusals.places), len(refusals.reasons)) == (0, 0)

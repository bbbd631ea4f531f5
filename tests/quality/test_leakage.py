"""A column from the future is found, whichever way it points; honest ones are left alone."""

import numpy as np
import pytest

from segmenter_plugin.errors import LeakageError
from segmenter_plugin.quality.leakage import refuse_telling_columns, telling_columns


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_planted_column_is_caught(sign, training_rows):
    rows = training_rows("binary")
    refuse_telling_columns(rows.activity, rows.names, rows.labels)
    future = sign * (rows.labels + np.random.default_rng(1).normal(0, 0.1, len(rows.labels)))
    planted = np.column_stack([rows.activity, future])
    with pytest.raises(LeakageError, match=r"spend_next_week \(1\.000\)"):
        refuse_telling_columns(planted, (*rows.names, "spend_next_week"), rows.labels)


def test_nulls_that_tell_the_label_are_caught(training_rows):
    rows = training_rows("binary")
    known_later = np.where(rows.labels, 3.0, np.nan)
    assert telling_columns(known_later[:, None], ("days_to_next_order",), rows.labels) == {"days_to_next_order": 1.0}

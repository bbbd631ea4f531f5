import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.errors import SchemaError
from segmenter_plugin.quality.features import activity_matrix
from segmenter_plugin.schemas import activity_fields


@pytest.fixture
def table(config):
    fields = activity_fields(config)
    columns = [pa.array([place, None, 2**40 + place]).cast(field.type) for place, field in enumerate(fields)]
    return pa.table([pa.array([1, 2, 3]), *columns], names=["user_id", *(field.name for field in fields)])


def test_columns_come_in_schema_order_with_nan_for_null(table, config):
    reordered = table.select(list(reversed(table.column_names)))
    matrix, names = activity_matrix(reordered, config)
    assert names == tuple(field.name for field in activity_fields(config))
    assert matrix.dtype == np.float64
    assert (matrix[0] == np.arange(len(names))).all()
    assert np.isnan(matrix[1]).all()
    assert (matrix[2] == 2**40 + np.arange(len(names))).all()


def test_record_batches_and_chunks_give_the_same(table, config):
    expected = activity_matrix(table, config)[0]
    np.testing.assert_array_equal(activity_matrix(table.to_batches()[0], config)[0], expected)
    np.testing.assert_array_equal(activity_matrix(pa.concat_tables([table[:1], table[1:]]), config)[0], expected)


def test_a_missing_aggregate_is_named(table, config):
    with pytest.raises(SchemaError, match="recency_days"):
        activity_matrix(table.drop_columns(["recency_days"]), config)

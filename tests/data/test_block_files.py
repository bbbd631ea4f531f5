from datetime import timedelta

import block_world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.data.block_files import write_block_table
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.schemas import behaviour_schema, labels_schema

CUTOFF = block_world.CUTOFF


def tables_of(config, seed, rows=2000, **options):
    block = EventBlock.of(block_world.dense_events(config, seed, rows=rows, **options), config)
    return next(tables_as_of(block, [CUTOFF], CUTOFF + timedelta(days=6), config))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), rows=st.sampled_from([1, 50, 1000]), per_group=st.sampled_from([1, 7, 10_000]))
def test_a_file_reads_back_as_the_schema_says(tmp_path_factory, seed, rows, per_group):
    config = block_world.dense_config()
    tables = tables_of(config, seed, rows)
    for table, schema in ((tables.behaviour, behaviour_schema), (tables.labels, labels_schema)):
        path = tmp_path_factory.getbasetemp() / "block.parquet"
        write_block_table(table, path, per_group)
        found = pq.read_table(path)
        assert found.schema == schema(config, pa.string())
        assert found.combine_chunks().equals(block_world.plain(table))
        assert pq.read_metadata(path).num_row_groups == -(-len(table) // per_group)


def test_spark_reads_what_was_written(spark, tmp_path):
    config = block_world.dense_config()
    tables = tables_of(config, seed=8)
    for table in (tables.behaviour, tables.labels):
        write_block_table(table, tmp_path / "part.parquet", 100)
        found = spark.read.parquet(str(tmp_path / "part.parquet")).toArrow().sort_by("user_id")
        expected = block_world.plain(table)
        assert found.select(expected.column_names).cast(expected.schema).combine_chunks().equals(expected)


def written(values, bounds, path, per_group):
    """One list column of text, that many rows a row group."""
    lists = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), values)
    table = pa.table({"item_id_sequence": lists})
    write_block_table(table, path, per_group)
    assert pq.read_table(path)["item_id_sequence"].to_pylist() == lists.to_pylist()
    return pq.read_metadata(path)


def test_a_row_group_holds_the_entries_it_uses(tmp_path):
    """10,000 items, of which each of 10 row groups uses 4: as a dictionary of all they would be written ten times."""
    entries = pa.array([f"item {number}" for number in range(10_000)])
    codes = np.repeat(np.arange(40), 5)
    values = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), entries)
    metadata = written(values, np.arange(0, 201, 10), tmp_path / "part.parquet", 2)
    sizes = [metadata.row_group(number).column(0).total_uncompressed_size for number in range(10)]
    assert max(sizes) < 200


def test_text_that_hardly_repeats_is_written_all_the_same(tmp_path):
    """More text than a dictionary page holds, so that the rest of a row group is plain."""
    entries = pa.array([f"{number:0100}" for number in range(30_000)])
    codes = np.append(np.arange(30_000), [0, 1, 29_999])
    values = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), entries)
    column = written(values, [0, 15_000, 15_000, 30_003], tmp_path / "part.parquet", 10).row_group(0).column(0)
    assert "PLAIN" in column.encodings


@pytest.mark.parametrize(
    ("name", "compression", "encoding", "has_statistics"),
    [
        ("user_id", "LZ4", "PLAIN", True),
        ("event_timestamp", "LZ4", "PLAIN", True),
        ("event_timestamp_sequence.list.element", "LZ4", "PLAIN", False),
        ("item_id_sequence.list.element", "ZSTD", "RLE_DICTIONARY", False),
        ("amount_sequence.list.element", "ZSTD", "RLE_DICTIONARY", False),
        ("view_count_7d", "LZ4", "DELTA_BINARY_PACKED", False),
        ("recency_days", "LZ4", "PLAIN", False),
    ],
)
def test_each_column_is_written_in_its_way(tmp_path, name, compression, encoding, has_statistics):
    write_block_table(tables_of(block_world.dense_config(), seed=2).behaviour, tmp_path / "part.parquet", 10_000)
    group = pq.read_metadata(tmp_path / "part.parquet").row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    column = columns[name]
    assert column.compression == compression
    assert encoding in column.encodings
    assert ("RLE_DICTIONARY" in column.encodings) == (encoding == "RLE_DICTIONARY")
    assert column.is_stats_set == has_statistics

"""Where the published rows lie."""

from entities import config, layout
from feast import FileSource


def published(view: str) -> FileSource:
    """The Parquet files of one view: features/<view>/cutoff=<time>/*.parquet."""
    return FileSource(
        name=f"{config.store.name_prefix}{view}_source",
        # A glob, because duckdb does not read a folder; absolute, because Feast reads it from wherever it is called.
        path=str(layout.features(view).absolute() / "*" / "*.parquet"),
        # The cutoff: what a row says was true then. Point-in-time joins compare it with a training example's time.
        timestamp_field="event_timestamp",
        # When the row was published. Of two rows for one user and cutoff, the later one counts.
        created_timestamp_column="created_timestamp",
    )

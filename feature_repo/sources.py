"""Where the published rows lie."""

from entities import config
from feast.data_source import DataSource

from segmenter_plugin.store.sources import published_source


def published(view: str) -> DataSource:
    """The rows of one view: features/<view>/cutoff=<time>/*.parquet, or the Spark table that [store] names."""
    return published_source(config, view)

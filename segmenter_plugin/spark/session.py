"""One Spark session with the settings that every job here relies on."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from segmenter_plugin.spark.java import find_java

#: The stages' annotations take Spark's types from here, as only this room imports pyspark.
__all__ = ["REQUIRED_SETTINGS", "DataFrame", "SparkSession", "open_session"]

logger = logging.getLogger(__name__)

#: What results depend on; set on a session that was there before, too.
REQUIRED_SETTINGS = {
    # Casts between text, naive times and instants go through the session's zone: it must be the one we mean.
    "spark.sql.session.timeZone": "UTC",
    # Spark's default is INT96, which Arrow reads as nanoseconds without a zone.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Rows may hold megabytes (packed columns), so their number does not bound a batch; Spark's default is 2 GB.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
}

_JAVA_OPTIONS = (
    # Throughput matters here, pauses do not; and on few cores the concurrent collector takes cores from the job.
    "-XX:+UseParallelGC",
    # Batches die young. Left to itself this collector fills a third of the heap before it looks: 0.8 GB more of memory.
    "-XX:MaxNewSize=512m",
    # Ten times the usual, for what is worth the second compiler's time: most of Spark runs briefly, on the cores that
    # the job's Python workers need. 5 s of CPU less in a job of 35; hot loops over rows pass it all the same.
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)

_LOCAL_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "4g",
    # What is shuffled here is packed already, and tried for nothing.
    "spark.shuffle.compress": "false",
    # A newcomer's host name often does not resolve; nothing outside needs to reach a local session.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def open_session(
    app_name: str, *, master: str | None = None, settings: Mapping[str, str] | None = None
) -> SparkSession:
    """The active session, or a new one.

    A session that is there already (a notebook, `spark-submit`) is used with its resources as they are; only the
    settings that results depend on are set on it.

    Args:
        app_name: Name in Spark's own listings.
        master: Spark master of a new session; ``local[*]`` if not given. `spark-submit` decides it otherwise.
        settings: Further Spark settings of a new session; they win over ours.

    Raises:
        JavaError: A new session is needed and there is no Java for it.
    """
    session = SparkSession.getActiveSession()
    if session is None:
        session = _new_session(app_name, master, settings or {})
    for key, value in REQUIRED_SETTINGS.items():
        session.conf.set(key, value)
    return session


def _new_session(app_name: str, master: str | None, settings: Mapping[str, str]) -> SparkSession:
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit has started the JVM and chosen the resources
        chosen = dict(settings)
    else:
        if SparkContext._gateway is None:  # noqa: SLF001 - a JVM of an earlier session is used again as it is
            os.environ["JAVA_HOME"] = str(find_java())
        # Workers would otherwise take whatever python3 comes first on PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(master or "local[*]")
        chosen = _LOCAL_SETTINGS | {"spark.sql.shuffle.partitions": str(_shuffle_partitions())}
        chosen |= {"spark.driver.extraJavaOptions": _java_options()} | dict(settings)
    for key, value in chosen.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    logger.info("Spark %s on %s", session.version, session.sparkContext.master)
    return session


def _java_options() -> str:
    log4j = Path(__file__).with_name("log4j2.properties")
    return " ".join([f'-Dlog4j2.configurationFile="{log4j.as_uri()}"', *_JAVA_OPTIONS])


def _shuffle_partitions() -> int:
    return max(4, 2 * (os.cpu_count() or 1))

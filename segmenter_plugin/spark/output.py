"""One Spark session a run, and how large the row groups of what is written are.

Importing this loads no pyspark: a stage that has nothing to do gets by without.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Readers stream row groups; parallel lists make rows large.
ROWS_PER_GROUP = 16_384


class LazySession:
    """The Spark session of one run, opened on first use; only one that was opened here is stopped."""

    def __init__(self, given: SparkSession | None, stack: ExitStack, app_name: str = "segmenter build") -> None:
        self._session, self._stack, self._app_name = given, stack, app_name

    def get(self) -> SparkSession:
        """The session; starts one where there is none."""
        from segmenter_plugin.spark.session import SparkSession, open_session  # noqa: PLC0415 - loads pyspark

        if self._session is None:
            is_ours = SparkSession.getActiveSession() is None
            self._session = open_session(self._app_name)
            if is_ours:
                self._stack.callback(self._session.stop)
        return self._session

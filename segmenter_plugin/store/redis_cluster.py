"""Writes rows to a Redis cluster, where redis-py knows which node holds a key and follows when that changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import RedisError, ResponseError

from segmenter_plugin.store.lookups import StoreRestarted
from segmenter_plugin.store.redis_errors import LOGIN_REFUSED, UNREACHABLE, checked, explained
from segmenter_plugin.store.redis_layouts import Layout
from segmenter_plugin.store.redis_write import Patience, Rule, pieces
from segmenter_plugin.store.resp import Command, joined
from segmenter_plugin.store.rows import EncodedRows

_PIECE_ROWS = 1_000
_WRITTEN = frozenset({int, bytes, bool})


class ClusterWriter:
    """Writes rows of one view to a cluster.

    Args:
        client: Of redis-py.
        layout: Of the view.
        rule: Which rows go online; None: all, unasked.
        patience: With the cluster.
    """

    def __init__(self, client: Any, layout: Layout, rule: Rule | None, patience: Patience) -> None:
        self._client, self._layout, self._rule, self._patience = client, layout, rule, patience
        self._run_ids = self._primaries()
        self._was_away = False

    def write(self, rows: EncodedRows) -> int:
        """Write rows and return once they are acknowledged.

        Returns:
            How many went online.

        Raises:
            StoreError: The cluster stays away, or refuses.
        """
        with explained(self._patience.address):
            return sum(map(self._write, pieces(rows, _PIECE_ROWS)))

    def _write(self, rows: EncodedRows) -> int:
        while True:
            try:
                chosen = rows
                if self._rule is not None:
                    stored = self._layout.answered(self._run([self._layout.asking(rows.keys)], len(rows)))
                    chosen = rows.take(self._rule(stored, rows.event_times))
                checked(self._run(self._layout.writing(chosen), len(chosen)), _WRITTEN)
            except LOGIN_REFUSED:
                raise
            except (*UNREACHABLE, RedisError) as error:
                self._was_away = True
                self._patience.wait(error)
            else:
                self._patience.calm()
                return len(chosen)

    def _run(self, commands: Sequence[Command], rows: int) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                for name, *arguments in zip(*(joined(argument, rows) for argument in command), strict=True):
                    pipe.execute_command(name.decode(), *arguments)
            return pipe.execute(raise_on_error=False) if rows else []

    def finish(self) -> None:
        """See whether the same processes still are the primaries.

        Raises:
            StoreRestarted: They are not, or they cannot be told and the cluster was away in the meantime.
        """
        before, self._run_ids = self._run_ids, self._primaries()
        if before != self._run_ids or (self._was_away and not before):
            self._was_away = False
            raise StoreRestarted

    def _primaries(self) -> frozenset[str]:
        """Run ids; none where the user may not ask."""
        while True:
            try:
                answers = self._client.info("server", target_nodes=RedisCluster.PRIMARIES)
            except ResponseError:
                return frozenset()
            except (*UNREACHABLE, RedisError) as error:
                self._patience.wait(error)
            else:
                nodes = [answers] if "run_id" in answers else answers.values()
                return frozenset(node["run_id"] for node in nodes)

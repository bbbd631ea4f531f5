"""What passes between an online store of ours and those who read and write through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from feast import FeatureView

from segmenter_plugin.store.rows import EncodedRows


class StoreRestarted(Exception):  # noqa: N818 - an event, which the engine answers by writing again
    """The server lost rows that it had acknowledged: the whole view has to be written again."""


class ViewLookup(NamedTuple):
    """Rows of one view that a request asks for.

    Args:
        view: The view, with the projection that the request uses.
        name: What the view is called in the store (with its version, where versions are on).
        keys: (N,) serialised entity keys, without the project; may repeat.
        features: Names as stored.
    """

    view: FeatureView
    name: str
    keys: list[bytes]
    features: tuple[str, ...]


class FetchedView(NamedTuple):
    """What the store holds of them.

    Args:
        cells: For each feature (N,) ``Value`` messages; None or empty where there is no value.
        event_times: (N,) serialised ``Timestamp``; None where the store has no such row.
    """

    cells: Sequence[Sequence[bytes | None]]
    event_times: Sequence[bytes | None]


class RowWriter(Protocol):
    """Writes rows of one view."""

    def write(self, rows: EncodedRows) -> int:
        """Write rows and return once they are acknowledged.

        Returns:
            How many went online; the others were older than what is there.
        """

    def finish(self) -> None:
        """Look whether all that was acknowledged is still there.

        Raises:
            StoreRestarted: The server was replaced meanwhile.
        """

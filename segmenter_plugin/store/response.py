"""The answer to a lookup: bytes as they were stored, made into what the caller asks for and no sooner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from feast import ValueType
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse, _convert_uuids_for_arrow
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.type_map import python_values_to_proto_values
from google.protobuf.timestamp_pb2 import Timestamp

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.decode import Cells, Decoder
from segmenter_plugin.store.lookups import FetchedView
from segmenter_plugin.store.plan import Entities, ViewPlan
from segmenter_plugin.store.response_message import fill_vector
from segmenter_plugin.store.wire import decode_time

_PRESENT, _NOT_FOUND, _EXPIRED = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE


class ViewAnswer(NamedTuple):
    """Rows of one view.

    Args:
        plan: What was asked of the view.
        cells: (F,) columns of (N,) ``Value`` messages; those of an expired row are None.
        event_times: (N,) serialised ``Timestamp``; None where the store has no such row.
        expired: (N,) bool: older than the view's ttl. None where ttl is not enforced.
    """

    plan: ViewPlan
    cells: Sequence[Cells]
    event_times: Sequence[bytes | None]
    expired: np.ndarray | None = None

    def nanos(self) -> np.ndarray:
        """(N,) float64 nanoseconds since the epoch; NaN where there is no row."""
        return row_nanos(self.event_times)


def row_nanos(event_times: Sequence[bytes | None]) -> np.ndarray:
    """(N,) float64 nanoseconds since the epoch (to a quarter of a microsecond); NaN where there is no row."""
    # Rows of one publish share their time, so few are parsed.
    known = {time: float("nan") if time is None else float(decode_time(time)) for time in set(event_times)}
    return np.array([known[time] for time in event_times])


def answered(plan: ViewPlan, fetched: FetchedView, now_nanos: int) -> ViewAnswer:
    """What is served of the rows that the store holds: all, or those within the view's ttl where it is enforced."""
    if plan.ttl_nanos is None:
        return ViewAnswer(plan, fetched.cells, fetched.event_times)
    oldest = now_nanos - plan.ttl_nanos
    too_old = {time for time in set(fetched.event_times) if time is not None and decode_time(time) < oldest}
    expired = [time in too_old for time in fetched.event_times]
    cells = [[None if gone else cell for cell, gone in zip(column, expired, strict=True)] for column in fetched.cells]
    return ViewAnswer(plan, cells, fetched.event_times, np.array(expired, dtype=bool))


class ArrowOnlineResponse(OnlineResponse):  # type: ignore[misc]  # feast has no types
    """Feast's response, decoded column by column; the protobuf message is built when it is asked for.

    A user who is not in the store is ``NOT_FOUND`` in `proto` (Feast's Redis store says ``PRESENT``) and null
    everywhere else. A null that was stored is ``PRESENT``; a feature that the stored row lacks is ``NOT_FOUND``.

    Args:
        entities: Join keys as asked, (N,) each.
        key_types: Their Feast types.
        answers: One a view.
    """

    def __init__(self, entities: Entities, key_types: Mapping[str, ValueType], answers: Sequence[ViewAnswer]) -> None:
        self._entities = entities
        self._key_types = key_types
        self._answers = answers

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Columns of Python values: the join keys, then the features.

        Args:
            include_event_timestamps: Add for each column ``…__ts``, whole seconds since the epoch, 0 where unknown.
        """
        return self._columns(_values, timed=include_event_timestamps)

    def to_arrow(self, include_event_timestamps: bool = False) -> pa.Table:
        """The same as a table; types are those that Arrow infers, as in Feast."""
        columns = self._columns(_values_for_arrow, timed=include_event_timestamps)
        return pa.Table.from_pydict(_convert_uuids_for_arrow(columns))

    def _columns(self, read: Callable[[Decoder, Cells], Any], *, timed: bool) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for name, values in self._entities.items():
            columns[name] = list(values)
            if timed:
                columns[name + TIMESTAMP_POSTFIX] = [0] * len(values)
        for answer in self._answers:
            seconds = _seconds(answer.event_times) if timed else []
            for name, cells, decoder in zip(answer.plan.answers, answer.cells, answer.plan.decoders, strict=True):
                columns[name] = read(decoder, cells)
                if timed:
                    columns[name + TIMESTAMP_POSTFIX] = list(seconds)
        return columns

    def column(self, feature: str, arrow_type: pa.DataType) -> pa.Array:
        """One feature as (N,) of a type that the caller knows, null where there is no value.

        Raises:
            StoreError: There is no such feature.
        """
        answer, place = self._place(feature)
        cells, decoder = answer.cells[place], answer.plan.decoders[place]
        lists = _float_lists(decoder, cells)
        return pa.array(decoder.values(cells), arrow_type) if lists is None else lists.cast(arrow_type)

    def to_numpy(self, feature: str) -> np.ndarray:
        """One numeric feature.

        Args:
            feature: Its name in the response.

        Returns:
            (N, D) for lists, (N,) for numbers, NaN where there is no value: float32 for Float32 and booleans, float64
            for Float64 and integers.

        Raises:
            StoreError: There is no such feature, it is no number, lists differ in length, or an integer is beyond 2^53.
        """
        answer, place = self._place(feature)
        return answer.plan.decoders[place].numbers(answer.cells[place], feature)

    def value_types(self) -> dict[str, ValueType]:
        """The features of the response, in order, with their types."""
        return {
            name: decoder.value_type
            for answer in self._answers
            for name, decoder in zip(answer.plan.answers, answer.plan.decoders, strict=True)
        }

    @property
    def found_in(self) -> dict[str, np.ndarray]:
        """For each view (N,) bool: it served a row of that entity, neither missing nor expired."""
        return {answer.plan.label: _found(answer) for answer in self._answers}

    @property
    def found(self) -> np.ndarray:
        """(N,) bool: some view served a row of that entity."""
        return np.logical_or.reduce(list(self.found_in.values()))

    def staleness(self, now: datetime) -> dict[str, np.ndarray]:
        """For each view (N,) float64 seconds between a row's event_timestamp and `now`; NaN where there is no row."""
        seconds = now.timestamp()
        return {answer.plan.label: seconds - answer.nanos() / 1e9 for answer in self._answers}

    def _place(self, feature: str) -> tuple[ViewAnswer, int]:
        for answer in self._answers:
            if feature in answer.plan.answers:
                return answer, answer.plan.answers.index(feature)
        raise StoreError(
            f"the response holds no feature {feature!r}; it holds {list(self.value_types())}.",
            hint="ask for it, or name it as the response does.",
        )

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The message that Feast's servers send."""
        response = GetOnlineFeaturesResponse()
        for name, values in self._entities.items():
            response.metadata.feature_names.val.append(name)
            response.results.add(
                values=python_values_to_proto_values(values, self._key_types[name]),
                statuses=[_PRESENT] * len(values),
                event_timestamps=[Timestamp()] * len(values),
            )
        for answer in self._answers:
            for name, cells in zip(answer.plan.answers, answer.cells, strict=True):
                response.metadata.feature_names.val.append(name)
                fill_vector(response.results.add(), cells, _statuses(answer, cells), answer.event_times)
        return response


def _values(decoder: Decoder, cells: Cells) -> list[Any]:
    return decoder.values(cells)


def _values_for_arrow(decoder: Decoder, cells: Cells) -> list[Any] | pa.Array:
    lists = _float_lists(decoder, cells)
    # Arrow infers float64 from Python's floats.
    return decoder.values(cells) if lists is None else lists.cast(pa.list_(pa.float64()))


def _float_lists(decoder: Decoder, cells: Cells) -> pa.ListArray | None:
    """(N,) lists of floats without a Python object for each; None where they are not all of one length."""
    block = decoder.block([cell for cell in cells if cell])
    if block is None or block.ndim == 1:
        return None
    is_there = np.fromiter(map(bool, cells), dtype=bool, count=len(cells))
    ends = np.concatenate([[0], np.cumsum(is_there)]).astype(np.int32) * np.int32(block.shape[1])
    # A null among the ends of the lists makes the list null.
    offsets = pa.array(ends, mask=np.append(~is_there, False))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(block).ravel()))


def _seconds(event_times: Sequence[bytes | None]) -> list[int]:
    known = {time: 0 if time is None else decode_time(time) // 1_000_000_000 for time in set(event_times)}
    return [known[time] for time in event_times]


def _found(answer: ViewAnswer) -> np.ndarray:
    there = np.array([time is not None for time in answer.event_times], dtype=bool)
    return there if answer.expired is None else there & ~answer.expired


def _statuses(answer: ViewAnswer, cells: Cells) -> list[Any]:
    statuses = [_NOT_FOUND if cell is None else _PRESENT for cell in cells]
    if answer.expired is not None:
        for row in np.flatnonzero(answer.expired):
            statuses[row] = _EXPIRED
    return statuses

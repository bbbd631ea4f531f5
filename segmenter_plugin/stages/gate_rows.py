"""What the gate reads: sampled users of published partitions, as readers would see them, and who should be there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.data.partition import data_files, read_batches, read_manifest, require_manifest
from segmenter_plugin.data.split import validation_users
from segmenter_plugin.errors import MissingStageError
from segmenter_plugin.quality.snapshots import Snapshot
from segmenter_plugin.schemas import activity_fields, score_fields
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.rescore import RESCORED

if TYPE_CHECKING:
    from segmenter_plugin.store.verdicts import PublishedRows

READ_ROWS = 32_768


@dataclass(frozen=True)
class Published:
    """The published partitions of one configuration's views, as they were when they were looked at.

    Attributes:
        config: The shop.
        views: Folder -> its partitions.
    """

    config: Config
    views: Mapping[str, PublishedRows]

    @classmethod
    def of(cls, config: Config) -> Published:
        """Look what there is now."""
        from segmenter_plugin.store.sources import published_files
        from segmenter_plugin.store.verdicts import PublishedRows

        names = FeatureNames.of(config)
        rows = {folder: PublishedRows.of(published_files(config, folder), None) for folder in names.folders}
        return cls(config, rows)

    @property
    def names(self) -> FeatureNames:
        """Of the folders."""
        return FeatureNames.of(self.config)

    @property
    def cutoffs(self) -> list[datetime]:
        """That all views have, ascending."""
        return sorted(set.intersection(*(set(rows.cutoffs) for rows in self.views.values())))

    def require(self, cutoff: datetime) -> None:
        """Refuse a cutoff that lacks a view.

        Raises:
            MissingStageError: It has not been published.
        """
        for folder, rows in self.views.items():
            if cutoff not in rows.cutoffs:
                raise MissingStageError(
                    f"'{folder}/{cutoff_key(cutoff)}' has not been published.",
                    hint=f"run `segmenter publish --cutoff {cutoff:%Y-%m-%dT%H:%M:%SZ}` first.",
                )

    def verdict(self, cutoff: datetime) -> dict[str, Any] | None:
        """The verdict on all of a cutoff's rows as they are now."""
        key = cutoff_key(cutoff)
        found = self.views[self.names.embedding].verdict(key)
        if found is None or any(rows.names(key) != found["views"].get(folder) for folder, rows in self.views.items()):
            return None
        return found

    def model_version(self, cutoff: datetime) -> str | None:
        """Of the first of a cutoff's embeddings."""
        batches = self.views[self.names.embedding].batches(cutoff_key(cutoff), [Columns.model_version], 1)
        return next((str(batch.column(0)[0].as_py()) for batch in batches if batch.num_rows), None)

    def is_whole(self, cutoff: datetime) -> bool:
        """Whether all users were scored, not those alone who had changed."""
        return RESCORED not in (read_manifest(Layout.of(self.config).scores(cutoff)) or {})

    def chain(self, cutoff: datetime) -> list[str]:
        """Partitions that together hold each user's newest row as of a cutoff, the newest first."""
        keys = []
        for time in reversed([time for time in self.cutoffs if time <= cutoff]):
            keys.append(cutoff_key(time))
            if self.is_whole(time):
                break
        return keys


@dataclass(frozen=True)
class Sample:
    """Which users are looked at: a share of them, by a hash of the id, the same at each cutoff."""

    share: float
    seed: int

    @classmethod
    def of(cls, config: Config, users: int) -> Sample:
        """A sample of about ``[gates] sample_users`` of so many."""
        return cls(min(1.0, config.gates.sample_users / max(users, 1)), config.gates.seed)

    def of_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The sampled rows; the first column holds the ids."""
        if self.share >= 1.0:
            return batch
        return batch.filter(pa.array(validation_users(batch.column(0), self.share, self.seed)))


def read_snapshot(published: Published, cutoff: datetime, sample: Sample) -> Snapshot:
    """Sampled users as readers see them once a cutoff is online.

    Where only the users who had changed were scored, the others' rows are those of earlier cutoffs.
    """
    config, names, keys = published.config, published.names, published.chain(cutoff)
    join_key, scored = config.store.join_key, [field.name for field in score_fields(config)]
    views = published.views
    embedding = _newest(views[names.embedding], keys, [join_key, Columns.embedding, Columns.model_version], sample)
    scores = _newest(views[names.scores], keys, [join_key, *scored, Columns.model_version], sample)
    segments = _newest(views[names.segment], keys, [join_key, Columns.segment_id], sample)
    versions = [value for table in (embedding, scores) for value in pc.unique(table[Columns.model_version]).to_pylist()]
    nulls = {name: _null_share(table[name]) for table in (scores, segments) for name in table.column_names[1:]}
    users, (embedding, scores, segments) = _aligned(join_key, [embedding, scores, segments])
    return Snapshot(
        users=users,
        embedding=_matrix(embedding[Columns.embedding]),
        scores=_scores(scores.select(scored)),
        segments=segments[Columns.segment_id].fill_null(-1).to_numpy().astype(np.int64),
        model_versions=frozenset(str(version) for version in versions),
        score_nulls=nulls,
        activity_nulls=_activity_nulls(published, cutoff, sample),
    )


def coverage(published: Published, cutoff: datetime, sample: Sample) -> tuple[float, str]:
    """Least share, over the views, of the users with behaviour who have a row; and that view.

    Whole partitions are counted, all of their rows; and whose rows they are is seen by the sampled ids.

    Raises:
        MissingStageError: The behaviour of the cutoff is not there.
    """
    layout, key = Layout.of(published.config), cutoff_key(cutoff)
    folder = layout.behaviour(cutoff)
    require_manifest(folder, f"segmenter build --cutoff {cutoff:%Y-%m-%dT%H:%M:%SZ}")
    expected = _ids(sample.of_batch(batch) for batch in read_batches(folder, [Columns.user_id], READ_ROWS))
    everyone = count_users(published.config, cutoff)
    shares: dict[str, float] = {}
    for view, rows in published.views.items():
        is_whole = view == published.names.activity or published.is_whole(cutoff)
        keys = [key] if is_whole else published.chain(cutoff)
        users = _newest(rows, keys, [published.config.store.join_key], sample).column(0).combine_chunks()
        found = pc.is_in(expected, value_set=users.cast(expected.type))
        shares[view] = (pc.sum(found).as_py() or 0) / max(len(expected), 1)
        if is_whole:
            shares[view] = min(shares[view], rows.count(key) / max(everyone, 1))
    least = min(shares, key=lambda view: shares[view])
    return shares[least], least


def count_users(config: Config, cutoff: datetime) -> int:
    """Users with behaviour as of a cutoff, by the files' footers."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in data_files(Layout.of(config).behaviour(cutoff)))


def labelled(published: Published, cutoff: datetime, task_columns: Sequence[str], sample: Sample) -> pa.Table | None:
    """Sampled users' labels and scores as of an earlier cutoff; None where there are no labels.

    Args:
        published: What readers have.
        cutoff: Whose label windows are over.
        task_columns: The label column and the score.
        sample: Which users.
    """
    label, score = task_columns
    folder = Layout.of(published.config).labels(cutoff)
    if read_manifest(folder) is None:
        return None
    batches = [sample.of_batch(batch) for batch in read_batches(folder, [Columns.user_id, label], READ_ROWS)]
    join_key = published.config.store.join_key
    scores = _newest(published.views[published.names.scores], published.chain(cutoff), [join_key, score], sample)
    if not batches or not scores.num_rows:
        return None
    labels = pa.Table.from_batches(batches).rename_columns([join_key, label])
    _, (labels, scores) = _aligned(join_key, [labels, scores])
    both = pa.table({label: labels[label], score: scores[score]})
    return both.drop_null()


def _newest(rows: PublishedRows, keys: Sequence[str], columns: Sequence[str], sample: Sample) -> pa.Table:
    """Sampled rows of the first of some partitions that has the user."""
    parts: list[pa.Table] = []
    known: pa.Array | None = None
    for key in keys:
        if key not in rows.files:
            continue
        batches = [sample.of_batch(batch) for batch in rows.batches(key, columns, READ_ROWS)]
        part = pa.Table.from_batches(batches)
        if known is not None:
            part = part.filter(pc.invert(pc.is_in(part.column(0), value_set=known)))
        ids = part.column(0).combine_chunks()
        known = ids if known is None else pa.concat_arrays([known, ids])
        parts.append(part)
    return pa.concat_tables(parts).combine_chunks()


def _ids(batches: Iterable[pa.RecordBatch]) -> pa.Array:
    arrays = [_plain(batch.column(0)) for batch in batches]
    return pa.concat_arrays(arrays) if arrays else pa.array([], pa.string())


def _plain(ids: pa.Array) -> pa.Array:
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    return ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids


def _aligned(join_key: str, tables: Sequence[pa.Table]) -> tuple[pa.Array, list[pa.Table]]:
    """The users whom all tables have, in the first one's order, and the tables' rows in that order."""
    ids = [_plain(table[join_key]) for table in tables]
    users = ids[0]
    for others in ids[1:]:
        users = users.filter(pc.is_in(users, value_set=others.cast(users.type)))
    places = [pc.index_in(users, value_set=others.cast(users.type)) for others in ids]
    return users, [table.take(place) for table, place in zip(tables, places, strict=True)]


def _matrix(lists: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    column = lists.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return flat.reshape(len(column), -1) if len(column) else np.zeros((0, 1))


def _scores(table: pa.Table) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return dict(_each_score(table))


def _each_score(table: pa.Table) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float64]]]]:
    for name in table.column_names:
        column = table[name].combine_chunks()
        if not pa.types.is_list(column.type):
            yield name, column.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False)
            continue
        widths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(widths) == 1 and widths[0]:
            for place, values in enumerate(_matrix(table[name]).T):
                yield f"{name}[{place}]", values


def _null_share(column: pa.ChunkedArray) -> float:
    return column.null_count / max(len(column), 1)


def _activity_nulls(published: Published, cutoff: datetime, sample: Sample) -> dict[str, float]:
    names = [field.name for field in activity_fields(published.config)]
    rows, key = published.views[published.names.activity], cutoff_key(cutoff)
    nulls, users = dict.fromkeys(names, 0), 0
    for batch in rows.batches(key, [published.config.store.join_key, *names], READ_ROWS):
        chosen = sample.of_batch(batch)
        users += chosen.num_rows
        for name in names:
            nulls[name] += chosen.column(name).null_count
    return {name: count / max(users, 1) for name, count in nulls.items()}

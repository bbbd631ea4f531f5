"""Segments are reproducible, ordered by worth, and the same whichever batch a user comes in."""

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.errors import ArtifactError, ConfigError
from segmenter_plugin.schemas import segments_schema
from segmenter_plugin.segments import fit
from segmenter_plugin.segments.fit import fit_segments
from segmenter_plugin.segments.model import SegmentModel


def whole(table):
    return table.combine_chunks().to_batches()[0]


def test_ids_are_ordered_by_expected_money(scored):
    config, scores, _ = scored
    ids = fit_segments(scores.to_batches(), config).assign(whole(scores), config)
    assert sorted(set(ids)) == [0, 1, 2]
    money = np.asarray(scores.column("spend_14d_expected"))
    means = [money[ids == segment].mean() for segment in range(3)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 2 * means[2]


def test_two_fits_are_equal_to_the_last_bit(scored):
    config, scores, _ = scored
    first, again = (fit_segments(scores.to_batches(), config) for _ in range(2))
    for name in ("mean", "scale", "centroids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_batches_change_neither_fit_nor_assignment(scored):
    config, scores, _ = scored
    model = fit_segments(scores.to_batches(), config)
    small = fit_segments(scores.to_batches(max_chunksize=7), config)
    np.testing.assert_array_equal(model.centroids, small.centroids)
    parts = [model.assign(batch, config) for batch in scores.to_batches(max_chunksize=7)]
    np.testing.assert_array_equal(np.concatenate(parts), model.assign(whole(scores), config))


def test_assignment_is_the_nearest_centroid(scored):
    config, scores, _ = scored
    model = fit_segments(scores.to_batches(), config)
    columns = [
        np.stack(scores.column("embedding").to_pylist()),
        np.log1p(np.asarray(scores.column("spend_14d_expected"))),
    ]
    probability = np.asarray(scores.column("purchase_14d_probability"), dtype=float).clip(1e-4, 1 - 1e-4)
    users = (np.column_stack([*columns, np.log(probability / (1 - probability))]) - model.mean) / model.scale
    distances = ((users[:, None] - model.centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(model.assign(whole(scores), config), distances.argmin(axis=1))


def test_behaviour_and_value_weigh_the_same(scored):
    config, scores, _ = scored
    model = fit_segments(scores.to_batches(), config)
    columns = np.stack(scores.column("embedding").to_pylist())
    spread = ((columns - model.mean[:8]) / model.scale[:8]).var(axis=0).sum()
    assert spread == pytest.approx(1.0)
    money = np.log1p(np.asarray(scores.column("spend_14d_expected"), dtype=float))
    assert ((money - model.mean[8]) / model.scale[8]).var() == pytest.approx(0.5)  # one of two value coordinates


def test_a_coordinate_that_never_varies_carries_nothing(scored):
    config, scores, _ = scored
    place = scores.schema.get_field_index("embedding")
    values = np.stack(scores.column("embedding").to_pylist())
    values[:, 3] = 0.1
    constant = scores.set_column(place, "embedding", pa.array(list(values), pa.list_(pa.float32())))
    model = fit_segments(constant.to_batches(), config)
    assert np.isinf(model.scale[3])
    assert np.isfinite(model.centroids).all()
    assert len(set(model.assign(whole(constant), config))) == 3


def test_many_users_are_sampled(scored, monkeypatch):
    config, scores, _ = scored
    monkeypatch.setattr(fit, "MOST_USERS", 100)
    users, worths, _ = fit._sample(scores.to_batches(max_chunksize=40), config)
    assert len(users) == len(worths) == 100
    money = np.asarray(scores.column("spend_14d_expected"))
    rows = np.array([np.flatnonzero(money == value)[0] for value in worths])
    assert (np.histogram(rows, bins=3, range=(0, 300))[0] > 15).all()  # from everywhere, not the first hundred
    assert fit_segments(scores.to_batches(), config).centroids.shape[0] == 3


def test_fewer_users_than_segments_is_an_error_that_says_what_to_set(scored):
    config, scores, _ = scored
    with pytest.raises(ConfigError, match="only 2 users") as caught:
        fit_segments(scores[:2].to_batches(), config)
    assert "count to at most 2" in caught.value.hint
    with pytest.raises(ConfigError, match="only 1 users"):
        fit_segments(pa.concat_tables([scores[:1]] * 50).to_batches(), config)


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_unusable_scores_are_refused(bad, scored):
    config, scores, _ = scored
    place = scores.schema.get_field_index("spend_14d_expected")
    spoilt = scores.set_column(place, "spend_14d_expected", pa.array([bad, *[1.0] * 299], pa.float32()))
    with pytest.raises(ArtifactError, match="spend_14d_expected"):
        fit_segments(spoilt.to_batches(), config)


def test_embeddings_of_unequal_width_are_refused(scored):
    config, scores, _ = scored
    place = scores.schema.get_field_index("embedding")
    ragged = pa.array([[1.0], *[[1.0, 2.0]] * 299], pa.list_(pa.float32()))
    with pytest.raises(ArtifactError, match="width"):
        fit_segments(scores.set_column(place, "embedding", ragged).to_batches(), config)


@pytest.mark.parametrize("tasks", [[], [{"name": "purchase", "kind": "binary", "prediction_days": 14}]])
def test_fewer_tasks_still_give_segments(tasks, scored, world, tmp_path):
    _, scores, _ = scored
    config = world.world_config(tmp_path, tasks=tasks)
    ids = fit_segments(scores.to_batches(), config).assign(whole(scores), config)
    assert len(set(ids)) == 3


@pytest.mark.parametrize("name", ["funnel", "taste"])
def test_class_scores_order_segments_where_there_is_no_money(name, scored, world, tmp_path):
    _, scores, _ = scored
    tasks = [task for task in world.world_config(tmp_path).model_dump()["tasks"] if task["name"] == name]
    config = world.world_config(tmp_path, tasks=tasks)
    ids = fit_segments(scores.to_batches(), config).assign(whole(scores), config)
    worth = np.stack(scores.column(f"{name}_14d_probabilities").to_pylist()) @ (
        [0, 1, 2] if name == "funnel" else [1, 1, 1]
    )
    means = [worth[ids == segment].mean() for segment in range(3)]
    assert means == sorted(means, reverse=True)


def test_labelled_rows_follow_the_schema_and_carry_provenance(scored):
    config, scores, _ = scored
    model = fit_segments(scores.to_batches(), config)
    named = SegmentModel(model.mean, model.scale, model.centroids, ("a", "b", "c"))
    rows = named.label(whole(scores), config)
    assert rows.schema == segments_schema(pa.string())
    assert rows.column("user_id") == whole(scores).column("user_id")
    assert set(rows.column("model_version").to_pylist()) == {"version-1"}
    pairs = set(zip(rows.column("segment_id").to_pylist(), rows.column("segment_name").to_pylist(), strict=True))
    assert pairs == {(0, "a"), (1, "b"), (2, "c")}
    assert named.label(whole(scores).slice(0, 0), config).num_rows == 0


def test_a_model_comes_back_from_disk_and_damage_is_told(scored, tmp_path):
    config, scores, _ = scored
    model = fit_segments(scores.to_batches(), config)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        SegmentModel(model.mean, model.scale, model.centroids, ("a", "b", "c")).save(tmp_path / folder)
    folder = tmp_path / "first"
    again = SegmentModel.load(folder)
    np.testing.assert_array_equal(again.centroids, model.centroids)
    assert again.names == ("a", "b", "c")
    assert (folder / "segments.npz").read_bytes() == (tmp_path / "second" / "segments.npz").read_bytes()
    (folder / "segments.json").write_text('{"names": ["a"]}')
    with pytest.raises(ArtifactError, match="1 names"):
        SegmentModel.load(folder)
    (folder / "segments.npz").write_bytes(b"not a zip")
    with pytest.raises(ArtifactError, match="cannot be read"):
        SegmentModel.load(folder)
    with pytest.raises(ArtifactError, match="cannot be read"):
        SegmentModel.load(tmp_path / "nowhere")


def test_scores_of_another_width_do_not_fit_a_model(scored):
    config, scores, _ = scored
    model = fit_segments(scores.to_batches(), config)
    narrow = SegmentModel(model.mean[1:], model.scale[1:], model.centroids[:, 1:], model.names)
    with pytest.raises(ArtifactError, match="10 coordinates"):
        narrow.assign(whole(scores), config)

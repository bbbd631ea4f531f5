"""Segments are reproducible, ordered by worth, and the same in whatever order and batches users come."""

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.errors import ArtifactError, ConfigError, CutoffError
from segmenter_plugin.schemas import segments_schema
from segmenter_plugin.segments import fit
from segmenter_plugin.segments.fit import fit_segments
from segmenter_plugin.segments.model import SegmentModel
from segmenter_plugin.segments.projection import fit_projection
from segmenter_plugin.segments.space import user_rows


def whole(table):
    return table.combine_chunks().to_batches()[0]


def fitted(scores, config):
    return fit_segments(scores.to_batches(), config)[0]


def arrays(model):
    parts = (model.projection, model.tiers, model.clusters)
    return [value for part in parts for value in vars(part).values()] + [model.tier_of, model.cluster_of]


@pytest.fixture
def crossed(world, tmp_path):
    """Two tiers crossed with three clusters."""
    return world.world_config(tmp_path, segments={"tiers": 2, "count": 3, "minimum_share": 0.03, "seed": 5})


def test_ids_are_ordered_by_expected_money(scored, crossed):
    config, scores, _ = scored
    for chosen in (config, crossed):
        model = fitted(scores, chosen)
        found = model.assign(whole(scores), chosen)
        assert sorted(set(found.ids.tolist())) == list(range(len(model.ids)))
        money = np.asarray(scores.column("spend_14d_expected"))
        means = [money[found.ids == segment].mean() for segment in model.ids]
        assert means == sorted(means, reverse=True)
        assert means[0] > 2 * means[-1]


def test_assignment_is_the_nearest_centroid(scored):
    config, scores, _ = scored
    model = fitted(scores, config)
    points = model.projection.place(user_rows(whole(scores), config))
    nearest = ((points[:, None] - model.clusters.centroids) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(model.cluster_of[model.assign(whole(scores), config).places], nearest)


def test_tiers_cross_clusters(scored, crossed):
    _, scores, _ = scored
    model = fitted(scores, crossed)
    found = model.assign(whole(scores), crossed)
    score = np.asarray(scores.column("value_score"))
    tiers = model.tier_of[found.places]
    assert score[tiers == 0].max() < score[tiers == 1].min() == model.tiers.edges[0]
    assert (tiers == 1).mean() == pytest.approx(0.5, abs=0.01)


def test_clusters_within_tiers_are_about_behaviour(scored, crossed, world):
    _, scores, _ = scored
    taste = world.latent(300, 1)["taste"]
    model = fitted(scores, crossed)
    found = model.assign(whole(scores), crossed)
    table = np.zeros((len(model.ids), 3))
    np.add.at(table, (found.places, taste), 1)
    assert table.max(axis=1).sum() / 300 > 0.85


@pytest.mark.parametrize("method", ["kmeans", "gaussian_mixture"])
def test_the_order_and_the_batches_of_users_change_nothing(method, scored, world, tmp_path):
    _, scores, _ = scored
    config = world.world_config(tmp_path, segments={"tiers": 2, "count": 3, "method": method})
    model = fitted(scores, config)
    order = np.random.default_rng(3).permutation(300)
    again = fit_segments(scores.take(order).combine_chunks().to_batches(max_chunksize=7), config)[0]
    for first, second in zip(arrays(model), arrays(again), strict=True):
        np.testing.assert_array_equal(first, second)
    before = np.random.default_rng(4).integers(-1, len(model.ids), 300)
    together = model.assign(whole(scores), config, before)
    parts = [
        model.assign(batch, config, before[place : place + 7])
        for batch, place in zip(scores.to_batches(max_chunksize=7), range(0, 300, 7), strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), together.ids)
    np.testing.assert_array_equal(np.concatenate([part.stability for part in parts]), together.stability)


def test_a_rotated_embedding_gives_the_same_segments(scored, crossed):
    _, scores, _ = scored
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    embedding = np.stack(scores.column("embedding").to_pylist()) @ turn * 3.0 + 1.0
    place = scores.schema.get_field_index("embedding")
    turned = scores.set_column(place, "embedding", pa.array(list(embedding.astype(np.float32)), pa.list_(pa.float32())))
    ids = [fitted(rows, crossed).assign(whole(rows), crossed).ids for rows in (scores, turned)]
    np.testing.assert_array_equal(*ids)


def test_small_cells_go_to_their_neighbours(scored, world, tmp_path):
    _, scores, _ = scored
    sizes = {}
    for share in (0.0, 0.15):
        config = world.world_config(tmp_path, segments={"tiers": 3, "count": 5, "minimum_share": share})
        model = fitted(scores, config)
        sizes[share] = np.bincount(model.assign(whole(scores), config).places, minlength=len(model.ids))
        assert set(model.tier_of) == {0, 1, 2}
    assert sizes[0.0].min() < 0.15 * 300 <= sizes[0.15].min()
    assert len(sizes[0.15]) < len(sizes[0.0])


def test_value_is_taken_out_of_behaviour_where_it_has_tiers(scored, crossed):
    config, scores, _ = scored
    for chosen, bound in ((crossed, 1e-6), (config, None)):
        rows = user_rows(whole(scores), chosen)
        points = fit_projection(rows, chosen.segments.tiers).place(rows)
        explained = [abs(np.corrcoef(axis, value)[0, 1]) for axis in points.T for value in rows.values.T]
        assert max(explained) < bound if bound else max(explained) > 0.5


def test_a_coordinate_that_never_varies_carries_nothing(scored):
    config, scores, _ = scored
    place = scores.schema.get_field_index("embedding")
    values = np.stack(scores.column("embedding").to_pylist())
    values[:, 3] = 0.1
    constant = scores.set_column(place, "embedding", pa.array(list(values), pa.list_(pa.float32())))
    model = fitted(constant, config)
    assert np.isinf(model.projection.scale[3])
    assert np.isfinite(model.clusters.centroids).all()
    assert len(set(model.assign(whole(constant), config).ids)) == 3


def test_many_users_are_sampled_by_their_ids(scored, monkeypatch):
    config, scores, _ = scored
    monkeypatch.setattr(fit, "MOST_USERS", 100)
    users, rows = fit._sample(scores.to_batches(max_chunksize=40), config)
    again, _ = fit._sample(scores.take(np.arange(300)[::-1]).to_batches(max_chunksize=64), config)
    assert users.to_pylist() == again.to_pylist()
    assert len(users) == len(rows.worth) == 100
    numbers = np.array([int(user.removeprefix("user-")) for user in users.to_pylist()])
    assert (np.histogram(numbers, bins=3, range=(0, 300))[0] > 15).all()  # from everywhere, not the first hundred
    assert fitted(scores, config).clusters.count == 3


def test_auto_finds_the_tastes(world, scored, tmp_path):
    _, scores, _ = scored
    config = world.world_config(tmp_path, segments={"tiers": 2, "count": "auto"})
    first, again = (fitted(scores, config) for _ in range(2))
    assert 3 <= first.clusters.count <= 4
    np.testing.assert_array_equal(first.clusters.centroids, again.clusters.centroids)


def test_fewer_users_than_segments_is_an_error_that_says_what_to_set(scored):
    config, scores, _ = scored
    with pytest.raises(ConfigError, match="only 2 users") as caught:
        fitted(scores[:2], config)
    assert "count to at most 2" in caught.value.hint
    with pytest.raises(ConfigError, match="only 1 users"):
        fitted(pa.concat_tables([scores[:1]] * 50), config)
    with pytest.raises(CutoffError, match="no scored users"):
        fitted(scores[:0], config)


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_unusable_scores_are_refused(bad, scored):
    config, scores, _ = scored
    place = scores.schema.get_field_index("spend_14d_expected")
    spoilt = scores.set_column(place, "spend_14d_expected", pa.array([bad, *[1.0] * 299], pa.float32()))
    with pytest.raises(ArtifactError, match="spend_14d_expected"):
        fitted(spoilt, config)


def test_embeddings_of_unequal_width_are_refused(scored):
    config, scores, _ = scored
    place = scores.schema.get_field_index("embedding")
    ragged = scores.set_column(place, "embedding", pa.array([[1.0], *[[1.0, 2.0]] * 299], pa.list_(pa.float32())))
    for size in (300, 1):
        with pytest.raises(ArtifactError, match="width"):
            fit_segments(ragged.to_batches(max_chunksize=size), config)


@pytest.mark.parametrize("tiers", [1, 2])
@pytest.mark.parametrize("tasks", [[], [{"name": "purchase", "kind": "binary", "prediction_days": 14}]])
def test_fewer_tasks_still_give_segments(tasks, tiers, scored, world, tmp_path):
    _, scores, _ = scored
    config = world.world_config(tmp_path, tasks=tasks, segments={"tiers": tiers, "count": 3, "minimum_share": 0.0})
    model = fitted(scores, config)
    # Without tasks nobody is worth more than another, so there is one tier.
    assert len(set(model.assign(whole(scores), config).ids)) == 3 * (tiers if tasks else 1)


@pytest.mark.parametrize("name", ["funnel", "taste"])
def test_class_scores_order_segments_where_there_is_no_money(name, scored, world, tmp_path):
    _, scores, _ = scored
    tasks = [task for task in world.world_config(tmp_path).model_dump()["tasks"] if task["name"] == name]
    config = world.world_config(tmp_path, tasks=tasks)
    ids = fitted(scores, config).assign(whole(scores), config).ids
    worth = np.stack(scores.column(f"{name}_14d_probabilities").to_pylist()) @ (
        [0, 1, 2] if name == "funnel" else [1, 1, 1]
    )
    means = [worth[ids == segment].mean() for segment in range(3)]
    assert means == sorted(means, reverse=True)


def test_rows_hold_names_stability_and_provenance(scored):
    config, scores, _ = scored
    model = fitted(scores, config).named(("a", "b", "c"))
    found = model.assign(whole(scores), config)
    rows = model.label(whole(scores), found)
    assert rows.schema == segments_schema(pa.string())
    pairs = set(zip(rows.column("segment_id").to_pylist(), rows.column("segment_name").to_pylist(), strict=True))
    assert pairs == {(0, "a"), (1, "b"), (2, "c")}
    assert rows.column("user_id") == whole(scores).column("user_id")
    assert set(rows.column("model_version").to_pylist()) == {"version-1"}
    stability = np.asarray(rows.column("segment_stability"))
    assert stability.min() >= 0.0
    assert stability.max() <= 1.0
    nobody = whole(scores)[:0]
    assert model.label(nobody, model.assign(nobody, config)).num_rows == 0


def test_a_model_comes_back_from_disk_and_damage_is_told(scored, crossed, tmp_path):
    _, scores, _ = scored
    model = fitted(scores, crossed)
    model = model.named(tuple(f"name {place}" for place in model.ids))
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        model.save(tmp_path / folder)
    folder = tmp_path / "first"
    again = SegmentModel.load(folder)
    for first, second in zip(arrays(model), arrays(again), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (again.ids, again.names) == (model.ids, model.names)
    assert (folder / "segments.npz").read_bytes() == (tmp_path / "second" / "segments.npz").read_bytes()
    (folder / "segments.json").write_text('{"names": ["a"], "ids": [0]}')
    with pytest.raises(ArtifactError, match="1 names"):
        SegmentModel.load(folder)
    (folder / "segments.npz").write_bytes(b"not a zip")
    with pytest.raises(ArtifactError, match="cannot be read"):
        SegmentModel.load(folder)
    with pytest.raises(ArtifactError, match="cannot be read"):
        SegmentModel.load(tmp_path / "nowhere")


def test_scores_of_another_width_do_not_fit_a_model(scored):
    config, scores, _ = scored
    model = fitted(scores, config)
    place = scores.schema.get_field_index("embedding")
    narrow = pa.array([row[1:] for row in scores.column("embedding").to_pylist()], pa.list_(pa.float32()))
    with pytest.raises(ArtifactError, match="fitted on"):
        model.assign(whole(scores.set_column(place, "embedding", narrow)), config)

import numpy as np
import pyarrow as pa
import pytest

from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import ArtifactError, TrainingError
from segmenter_plugin.quality.truth import encoder_predictions, label_array


@pytest.fixture
def targets(tasks):
    ladder = tasks["multiclass"].classes
    classes = {"multiclass": ladder, "multilabel": ("BREAD", "CHEESE"), "category": ladder}
    values = {"category": ("BREAD", "CHEESE")}
    return {kind: Target(task, classes.get(kind, ()), values=values.get(kind, ())) for kind, task in tasks.items()}


def test_labels_take_the_shape_that_metrics_expect(targets):
    columns = {
        "binary": ([True, False], [1, 0]),
        "value": ([0.1, 123456.78], [0.1, 123456.78]),
        "multiclass": (["purchase", "none"], [2, 0]),
        "multilabel": ([["CHEESE", "TOYS"], []], [[0, 1], [0, 0]]),
        "category": ([[{"value": "CHEESE", "rung": "purchase"}], []], [[0, 2], [0, 0]]),
    }
    for kind, (labels, expected) in columns.items():
        found = label_array(pa.chunked_array([labels[:1], labels[1:]], type=pa.array(labels).type), targets[kind])
        np.testing.assert_array_equal(found, np.array(expected), err_msg=kind)
    assert label_array(pa.chunked_array([[True]]), targets["binary"]).dtype == np.bool_


def test_a_class_off_the_ladder_is_refused(targets):
    with pytest.raises(TrainingError, match="gift"):
        label_array(pa.chunked_array([["gift"]]), targets["multiclass"])


def test_predictions_are_numbers_or_matrices(targets):
    scores = pa.table(
        {
            "purchase_14d_probability": pa.array([0.25, 0.5], pa.float32()),
            "funnel_14d_probabilities": pa.array([[0.5, 0.25, 0.25], [0, 0, 1]], pa.list_(pa.float32())),
        }
    )
    scores = pa.concat_tables([scores[:1], scores[1:]])
    assert encoder_predictions(scores, targets["binary"]).tolist() == [0.25, 0.5]
    assert encoder_predictions(scores, targets["multiclass"]).tolist() == [[0.5, 0.25, 0.25], [0, 0, 1]]


@pytest.mark.parametrize("bad", [[0.1, None], [0.1, float("nan")], [0.1, float("inf")]])
def test_scores_that_are_no_numbers_are_refused(bad, targets):
    with pytest.raises(ArtifactError, match="purchase_14d_probability"):
        encoder_predictions(pa.table({"purchase_14d_probability": pa.array(bad, pa.float32())}), targets["binary"])


def test_predictions_of_a_ladder_of_each_category_are_one_matrix_a_user(targets):
    lists = [[0.5, 0.25, 0.25, 0, 0, 1], [1, 0, 0, 0, 1, 0]]
    scores = pa.table({"interest_14d_probabilities": pa.array(lists, pa.list_(pa.float32()))})
    expected = [[[0.5, 0.25, 0.25], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]]]
    assert encoder_predictions(scores, targets["category"]).tolist() == expected
    short = pa.table({"interest_14d_probabilities": pa.array([[0.5, 0.25, 0.25]], pa.list_(pa.float32()))})
    with pytest.raises(ArtifactError, match=r"\[3\] values a row; there are 3 classes for each of 2 values"):
        encoder_predictions(short, targets["category"])


@pytest.mark.parametrize("bad", [[[0.5, 0.5]], [None], [[0.1, 0.2, None]]])
def test_class_scores_of_the_wrong_width_are_refused(bad, targets):
    with pytest.raises(ArtifactError, match="funnel_14d_probabilities"):
        encoder_predictions(
            pa.table({"funnel_14d_probabilities": pa.array(bad, pa.list_(pa.float32()))}), targets["multiclass"]
        )

"""RFM tiers: users grouped by recency, frequency and money, and each group's past outcome as the prediction."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.rfm import rfm_features
from segmenter_plugin.quality.training_rows import Predictor, TrainingRows, fits_each_value
from segmenter_plugin.tasks import TaskConfig


@fits_each_value
def fit_rfm_tiers(rows: TrainingRows, task: TaskConfig, seed: int, tiers: int = 8) -> Predictor:
    """K-means on log-scaled, standardised RFM; a user gets the mean label of its tier.

    Nothing stops early, so the validation users are trained on as well.

    Args:
        rows: Training rows.
        task: What to predict.
        seed: Fixes the first centres.
        tiers: Number of groups, at most the rows.
    """
    features = rfm_features(rows, task)
    inputs = features(rows.activity)
    groups = make_pipeline(StandardScaler(), KMeans(min(tiers, len(inputs)), n_init=3, random_state=seed))
    place = groups.fit(inputs)[-1].labels_
    outcome = np.eye(rows.class_count)[rows.labels] if task.kind == "multiclass" else rows.labels.astype(np.float64)
    means = np.stack([outcome[place == tier].mean(axis=0) for tier in range(place.max() + 1)])

    def predict(activity: FloatArray) -> FloatArray:
        found: FloatArray = means[groups.predict(features(activity))]
        return found

    return predict

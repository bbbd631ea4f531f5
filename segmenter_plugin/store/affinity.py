"""How near a user is to an item: the on-demand view that turns an embedding and an item's vector into two scores.

Feast keeps an on-demand function in the registry as source text and runs that text wherever features are read. So the
registered function only calls the one below; a process that reads the view needs this package installed.

The function takes a pandas frame: of one on plain lists (``mode="python"``) Feast 0.67 loses the scores where a request
asks for full feature names, and the column's type where no user is known.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import pandas as pd
from feast import FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.types import Array, Float32, Float64

from segmenter_plugin.errors import StoreError

#: Without descriptions, because Feast compares these fields, descriptions included, with what it infers.
_SCORES = [Field(name="cosine", dtype=Float64), Field(name="dot", dtype=Float64)]

_ITEM = Field(name="item_vector", dtype=Array(Float32), description="The item's vector, one for each row asked.")

_ABOUT = (
    "How near the user is to an item of the same space, whose vector comes with the request. cosine: cosine "
    "similarity, in [-1, 1]; null for a vector of zeros. dot: dot product. Both null where the user has no embedding."
)


def affinity_view(name: str, embedding: FeatureView, *, owner: str, tags: dict[str, str]) -> OnDemandFeatureView:
    """Declare the on-demand view of one generation.

    Args:
        name: Registered name, with the generation in it.
        embedding: The view with the feature ``embedding``, of the same generation.
        owner: As of the other objects.
        tags: As of the other views.
    """
    request = RequestSource(
        name=f"{name}_request", schema=[_ITEM], description="What a request brings along.", owner=owner
    )
    return OnDemandFeatureView(
        name=name,
        sources=[embedding, request],
        schema=_SCORES,
        mode="pandas",
        udf=user_item_affinity,
        udf_string=inspect.getsource(user_item_affinity),
        description=_ABOUT,
        owner=owner,
        tags=tags,
    )


# Feast executes this text by itself: of the names in this file only `pd` is there.
def user_item_affinity(rows: pd.DataFrame) -> pd.DataFrame:
    """What Feast runs: the features and the request's columns in, the scores out."""
    from segmenter_plugin.store.affinity import affinity  # noqa: PLC0415

    return pd.DataFrame(affinity(rows["embedding"].tolist(), rows["item_vector"].tolist()), index=rows.index)


def affinity(
    embeddings: Sequence[Sequence[float] | None], items: Sequence[Sequence[float] | None]
) -> dict[str, np.ndarray]:
    """Cosine and dot product, row by row.

    Args:
        embeddings: (N,) of D numbers each; None for a user who is not there.
        items: (N,) of D numbers each; None for an item without a vector.

    Returns:
        ``cosine`` and ``dot``, (N,) float64 each: NaN, which Feast answers as null, where either side is None, and for
        the cosine of a vector of zeros.

    Raises:
        StoreError: Lengths differ, so the vectors are of different spaces.
    """
    known = [user is not None and item is not None for user, item in zip(embeddings, items, strict=True)]
    users = _matrix([row for row, is_known in zip(embeddings, known, strict=True) if is_known])
    vectors = _matrix([row for row, is_known in zip(items, known, strict=True) if is_known])
    if users.shape != vectors.shape:
        raise _length_error("the embedding and the item vector", users.shape[1], vectors.shape[1])
    cosine, dot = np.full((2, len(known)), np.nan)
    dot[known] = np.einsum("nd,nd->n", users, vectors)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine[known] = dot[known] / (np.linalg.norm(users, axis=1) * np.linalg.norm(vectors, axis=1))
    return {"cosine": cosine, "dot": dot}


def _matrix(rows: Sequence[Sequence[float] | None]) -> np.ndarray:
    """Rows as (N, D) float64."""
    lengths = sorted({len(row) for row in rows if row is not None})
    if len(lengths) > 1:
        raise _length_error("the vectors of one request", *lengths)
    return np.array(rows, np.float64).reshape(len(rows), lengths[0] if lengths else 0)


def _length_error(what: str, *lengths: int) -> StoreError:
    return StoreError(
        f"{what} have the lengths {list(lengths)}: they are of different spaces and cannot be compared.",
        hint="give item vectors made by the weights of this generation; the view's name ends in it.",
    )

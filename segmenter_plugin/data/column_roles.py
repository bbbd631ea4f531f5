"""Which of the owner's columns is which of ours: names propose, what the columns hold decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.column_profiles import ColumnProfile
from segmenter_plugin.data.event_words import ROLE_WORDS, is_known_type, name_score, words_of

#: Our columns in the order in which they choose: what is told apart most surely goes first.
_ORDER = (
    Columns.event_timestamp,
    Columns.event_type,
    Columns.session_id,
    Columns.user_id,
    Columns.order_id,
    Columns.event_id,
    Columns.item_id,
    Columns.quantity,
    Columns.price,
    Columns.category,
    Columns.brand,
    Columns.text,
)
#: Where a wrong choice spoils everything, a second candidate is told.
_NAMED_RIVALS = (Columns.event_timestamp, Columns.event_type, Columns.user_id, Columns.item_id, Columns.price)
_MOST_EVENT_TYPES = 60
_MOST_NUMBERED_TYPES = 10
_MOST_CATEGORIES = 20_000
_MOST_EXTRAS = 4
_OUR_NAMES = {name for key, name in vars(Columns).items() if isinstance(name, str) and not key.startswith("_")}


@dataclass(frozen=True)
class Roles:
    """The mapping.

    Attributes:
        columns: Our name -> the profile of the owner's column.
        rivals: Our name -> an owner's column that speaks for it nearly as much.
        categorical, numeric: Further columns worth reading, under the owner's names.
    """

    columns: dict[str, ColumnProfile]
    rivals: dict[str, str]
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]


def assign_roles(profiles: list[ColumnProfile]) -> Roles:
    """Give each of our columns the owner's column that speaks for it most, each column once."""
    columns: dict[str, ColumnProfile] = {}
    rivals: dict[str, str] = {}
    for role in _ORDER:
        taken = {profile.name for profile in columns.values()}
        scored = [(_score(role, profile), profile) for profile in profiles if profile.name not in taken]
        ranked = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: (-pair[0], _tie(role, pair[1])))
        if not ranked:
            continue
        columns[role] = ranked[0][1]
        if role in _NAMED_RIVALS and len(ranked) > 1 and ranked[0][0] - ranked[1][0] < 1:
            rivals[role] = ranked[1][1].name
    if Columns.user_id not in columns:
        only = _only_repeating_id(profiles, columns)
        if only is not None:
            columns[Columns.user_id] = only
        elif Columns.session_id in columns:
            # Anonymised logs (OTTO's, for example) know nobody beyond the session.
            columns[Columns.user_id] = columns.pop(Columns.session_id)
    taken = {profile.name for profile in columns.values()}
    rest = [profile for profile in profiles if profile.name not in taken and profile.name not in _OUR_NAMES]
    categorical = tuple(profile.name for profile in rest if _is_extra_category(profile))[:_MOST_EXTRAS]
    numeric = tuple(profile.name for profile in rest if _is_extra_number(profile))[:_MOST_EXTRAS]
    return Roles(columns, rivals, categorical, numeric)


def price_is_line(price: ColumnProfile, quantity: ColumnProfile | None, item: ColumnProfile | None) -> bool | None:
    """Whether a price is that of the whole line (it grows with the quantity); None where nothing tells.

    Within one item a line's price is proportional to its quantity, a unit's price does not follow it: the slope of log
    price on log quantity, items' means taken out, is near 1 or near 0.
    """
    if quantity is not None and item is not None:
        slope = _slope_within_items(price, quantity, item)
        if slope is not None:
            return slope > 0.5
    words = set(words_of(price.name))
    if "unit" in words:
        return False
    if words & {"sales", "amount", "total", "revenue", "value", "line", "gmv", "paid", "spend"}:
        return True
    return None


def _slope_within_items(price: ColumnProfile, quantity: ColumnProfile, item: ColumnProfile) -> float | None:
    prices, quantities = (one.values.cast("float64", safe=False).to_numpy() for one in (price, quantity))
    codes = item.values.combine_chunks().dictionary_encode()
    codes = (codes if hasattr(codes, "indices") else codes.combine_chunks()).indices.fill_null(-1).to_numpy()
    usable = (codes >= 0) & (prices > 0) & (np.abs(quantities) > 0)
    codes = codes[usable]
    log_price, log_quantity = np.log(prices[usable]), np.log(np.abs(quantities[usable]))
    counts = np.maximum(np.bincount(codes), 1) if len(codes) else np.ones(1)
    centred = [
        values - (np.bincount(codes, values) / counts)[codes] if len(codes) else values
        for values in (log_price, log_quantity)
    ]
    spread = float(np.sum(centred[1] ** 2))
    return float(np.sum(centred[0] * centred[1])) / spread if np.sum(np.abs(centred[1]) > 0.1) >= 100 else None


def _score(role: str, profile: ColumnProfile) -> float:
    if role == Columns.event_timestamp:
        return _time_score(profile)
    if role == Columns.event_type:
        return _event_type_score(profile)
    named = name_score(role, profile.name)
    if named <= 0 or profile.filled_count == 0 or not _can_hold(role, profile):
        return 0.0
    return named - 4 * profile.null_share * (role in {Columns.category, Columns.brand})


def _time_score(profile: ColumnProfile) -> float:
    if profile.times is None:
        return 0.0
    named = name_score(Columns.event_timestamp, profile.name)
    # A number may be anything, so it needs a name; what is stored as a time needs none.
    if profile.kind == "number":
        return float(named)
    return max(named + 6.0, 1.0)


def _event_type_score(profile: ColumnProfile) -> float:
    named = name_score(Columns.event_type, profile.name)
    if profile.kind == "number" and profile.is_whole and 2 <= profile.distinct_count <= _MOST_NUMBERED_TYPES:
        return float(named) if named >= 11 else 0.0
    if profile.kind != "text" or not 1 <= profile.distinct_count <= _MOST_EVENT_TYPES:
        return 0.0
    common = profile.most_common(_MOST_EVENT_TYPES)
    known = sum(count for value, count in common if is_known_type(value)) / max(profile.filled_count, 1)
    return named + 8 * known if named > 0 and known > 0.05 else (named if named >= 11 else 0.0)


def _can_hold(role: str, profile: ColumnProfile) -> bool:
    """Whether what a column holds can be what its name says."""
    if role in {Columns.user_id, Columns.order_id, Columns.session_id, Columns.item_id}:
        return (
            profile.is_id_like
            and profile.distinct_count > 1
            and not (profile.kind == "text" and profile.times is not None)
        )
    if role == Columns.event_id:
        return profile.is_id_like and profile.unique_share > 0.9 and profile.null_share < 0.01
    if role in {Columns.price, Columns.quantity}:
        return profile.kind == "number"
    if role == Columns.category:
        return profile.is_id_like and 2 <= profile.distinct_count <= _MOST_CATEGORIES and profile.unique_share < 0.5
    if role == Columns.brand:
        return profile.is_id_like and profile.distinct_count >= 2
    return profile.kind == "text" and profile.mean_length >= 8 and profile.distinct_count >= 20


def _tie(role: str, profile: ColumnProfile) -> tuple[float, str]:
    """Among equals: the earlier time (a row arrives after it happened), the finer or fuller column."""
    if role == Columns.event_timestamp and profile.times is not None and len(profile.times):
        return float(np.median(profile.times)), profile.name
    return -profile.distinct_count, profile.name


def _only_repeating_id(profiles: list[ColumnProfile], columns: dict[str, ColumnProfile]) -> ColumnProfile | None:
    """Where no name says who it was: the one column left that is an id, and whose values come back."""
    taken = {profile.name for profile in columns.values()}
    known = {word for words in ROLE_WORDS.values() for word in words}
    likely = [
        profile
        for profile in profiles
        if profile.name not in taken
        and profile.is_id_like
        and profile.distinct_count > 20
        and 0.0005 < profile.unique_share < 0.7
        and {"id", "no", "code", "key"} & set(words_of(profile.name))
        and not known & set(words_of(profile.name)) - {"id"}
    ]
    return likely[0] if len(likely) == 1 else None


def _is_extra_category(profile: ColumnProfile) -> bool:
    return (
        profile.kind in {"text", "flag"}
        and profile.time_form is None
        and 2 <= profile.distinct_count <= 2_000
        and profile.unique_share < 0.1
        and profile.null_share < 0.5
    )


def _is_extra_number(profile: ColumnProfile) -> bool:
    return (
        profile.kind == "number"
        and not profile.is_whole
        and profile.time_form is None
        and profile.distinct_count > 2
        and profile.null_share < 0.5
    )

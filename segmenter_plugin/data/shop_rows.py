"""What happens during the visits to the simulated shop: views, carts, purchases, later returns, and what bots do."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from segmenter_plugin.data.shop_parameters import ShopParameters
from segmenter_plugin.data.shop_people import TIERS, Catalogue, People, draw_categories
from segmenter_plugin.data.shop_visits import ORDER, PLAN, WANDER, Visits

#: Kinds of rows, as the shop names them; a row holds the place in this tuple.
KINDS = ("view", "add_to_cart", "buy", "return")
VIEW, CART, BUY, RETURN = range(4)
DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_LONGEST_BASKET = 200
_FAVOURITES = 3
_BROWSED_MORE_THAN = 2
_NONE = -1


@dataclass(frozen=True)
class Rows:
    """N rows of a block; times in microseconds from the shop's start; -1 stands for none.

    Attributes:
        user: Row of the block's people, ``(N,)``.
        at: When it happened, ``(N,)``.
        priced_at: When its price was made (a return has its purchase's), ``(N,)``.
        kind: Place in `KINDS`, ``(N,)``.
        item: Place in the catalogue's items, ``(N,)``.
        units: Number of items of a purchase or return, else -1, ``(N,)``.
        session, order: Running numbers within the user, ``(N,)``.
    """

    user: np.ndarray
    at: np.ndarray
    priced_at: np.ndarray
    kind: np.ndarray
    item: np.ndarray
    units: np.ndarray
    session: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: np.ndarray) -> Rows:
        """The rows that `keep` (a mask or row numbers) selects."""
        return Rows(*(getattr(self, field.name)[keep] for field in fields(self)))


def make_rows(
    rng: np.random.Generator,
    people: People,
    visits: Visits,
    *,
    catalogue: Catalogue,
    days: int,
    parameters: ShopParameters,
) -> Rows:
    """All rows of a block within ``[0, days)``, by user and time."""
    visits = visits.where(np.lexsort((visits.day, visits.user)))
    session = _running_number(visits.user, np.ones(len(visits), dtype=bool))
    order = _running_number(visits.user, visits.purpose == ORDER)
    pick = _Picker(rng, people, catalogue, parameters)
    bought = _order_rows(rng, visits, session=session, order=order, pick=pick, parameters=parameters)
    parts = [bought, _browsing_rows(rng, visits, session, pick)]
    parts += [_returns(rng, bought, parameters), _bot_rows(rng, people, len(catalogue.items), days, parameters)]
    rows = Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))
    rows = rows.where(rows.at < days * DAY_US)
    return rows.where(np.argsort(rows.user * (2 * days * DAY_US) + rows.at, kind="stable"))


def prices(rows: Rows, catalogue: Catalogue) -> np.ndarray:
    """Unit price of each row in currency, ``(N,)``: a tenth of the items is on offer each week; slow inflation."""
    week = rows.priced_at // (7 * DAY_US)
    on_offer = _hashed(rows.item, week) < 0.1
    inflation = 1 + 0.03 * rows.priced_at / (365.25 * DAY_US)
    return np.round(catalogue.prices[rows.item] * inflation * np.where(on_offer, 0.8, 1.0), 2)


class _Picker:
    """Chooses items for users by taste, season, popularity, habit and price tier."""

    def __init__(
        self, rng: np.random.Generator, people: People, catalogue: Catalogue, parameters: ShopParameters
    ) -> None:
        self.people = people
        self._rng, self._catalogue, self._parameters = rng, catalogue, parameters

    def topics(self, user: np.ndarray, category: np.ndarray, topic: np.ndarray) -> np.ndarray:
        """The one item that a topic is about."""
        rank = self._ranks(_hashed(topic, category))
        return self._items(user, category, rank, _hashed(topic, rank + 1))

    def any(self, user: np.ndarray, day: np.ndarray, category: np.ndarray | None = None) -> np.ndarray:
        """An item to the user's taste, of the category where one is given and not negative."""
        rng, parameters = self._rng, self._parameters
        chosen = draw_categories(rng, self.people.mixture, user)
        month = (day // 30).astype(np.int64)
        seasonal = rng.random(len(user)) < parameters.seasonal_share
        chosen = np.where(seasonal, month % 12 * 3 % parameters.categories, chosen)
        if category is not None:
            chosen = np.where(category >= 0, category, chosen)
        slot = np.minimum(rng.geometric(0.5, len(user)), _FAVOURITES)
        habit = rng.random(len(user)) < parameters.favourite_share
        favourite = _hashed((self.people.first_user + user) * 8 + slot, chosen)
        rank = self._ranks(np.where(habit, favourite, rng.random(len(user))))
        moved = np.where(habit, 0, np.floor(month * parameters.popularity_drift * parameters.products_per_category))
        product = (rank + moved.astype(np.int64)) % parameters.products_per_category
        return self._items(user, chosen, product, rng.random(len(user)))

    def _ranks(self, uniform: np.ndarray) -> np.ndarray:
        last = len(self._catalogue.popularity) - 1
        return np.minimum(np.searchsorted(self._catalogue.popularity, uniform, side="right"), last)

    def _items(self, user: np.ndarray, category: np.ndarray, product: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        tier = np.clip(np.floor(0.8 + 1.4 * uniform + self.people.tier_shift[user]), 0, TIERS - 1).astype(np.int64)
        return (category * self._parameters.products_per_category + product) * TIERS + tier


def _order_rows(
    rng: np.random.Generator,
    visits: Visits,
    *,
    session: np.ndarray,
    order: np.ndarray,
    pick: _Picker,
    parameters: ShopParameters,
) -> Rows:
    """The funnel of each order: its lines, some of them viewed and carted before the checkout of all at once."""
    chosen = np.flatnonzero(visits.purpose == ORDER)
    shift = pick.people.basket_shift[visits.user[chosen]]
    logs = rng.normal(parameters.log_basket_mean, parameters.log_basket_std, len(chosen)) + shift
    lines = np.minimum(np.ceil(np.exp(logs)), _LONGEST_BASKET).astype(np.int64)
    visit = np.repeat(chosen, lines)
    position = np.arange(len(visit)) - np.repeat(np.cumsum(lines) - lines, lines)
    user, focus = visits.user[visit], visits.focus[visit]
    item = pick.any(user, visits.day[visit])
    about = (position == 0) & (focus >= 0)
    item[about] = pick.topics(user[about], focus[about], visits.topic[visit[about]])
    begin = (visits.day[visit] * DAY_US).astype(np.int64)
    seen = begin + ((25 * position + 15 * rng.random(len(visit))) * _SECOND_US).astype(np.int64)
    checkout = begin + np.repeat(25 * lines + 60, lines) * _SECOND_US
    units = 1 + (rng.random(len(visit)) < 0.15) * rng.geometric(0.6, len(visit))
    none = np.full(len(visit), _NONE)
    buys = Rows(user, checkout, checkout, none * 0 + BUY, item, units, session[visit], order[visit])
    viewed = Rows(user, seen, seen, none * 0 + VIEW, item, none, session[visit], none)
    in_cart = seen + ((3 + 6 * rng.random(len(visit))) * _SECOND_US).astype(np.int64)
    carted = Rows(user, in_cart, in_cart, none * 0 + CART, item, none, session[visit], none)
    parts = [
        buys,
        viewed.where(rng.random(len(visit)) < parameters.view_share),
        carted.where(rng.random(len(visit)) < parameters.cart_share),
    ]
    return Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))


def _browsing_rows(rng: np.random.Generator, visits: Visits, session: np.ndarray, pick: _Picker) -> Rows:
    """Visits without a purchase: a plan circles one product, wandering does not; either may end in the cart."""
    chosen = np.flatnonzero(visits.purpose != ORDER)
    views = 1 + _BROWSED_MORE_THAN + rng.poisson(3.0, len(chosen))
    carted = rng.random(len(chosen)) < np.where(visits.purpose[chosen] == PLAN, 0.5, 0.4)
    lines = views + carted
    visit = np.repeat(chosen, lines)
    place = np.arange(len(visit)) - np.repeat(np.cumsum(lines) - lines, lines)
    kind = np.where(place >= np.repeat(views, lines), CART, VIEW)
    user, focus, draw = visits.user[visit], visits.focus[visit], rng.random(len(visit))
    plan = visits.purpose[visit] != WANDER
    item = pick.any(user, visits.day[visit], np.where(plan & (draw < 0.8), focus, _NONE))
    about = plan & ((draw < 0.45) | (kind == CART))
    item[about] = pick.topics(user[about], focus[about], visits.topic[visit[about]])
    begin = (visits.day[visit] * DAY_US).astype(np.int64)
    at = begin + ((40 * place + 30 * rng.random(len(visit))) * _SECOND_US).astype(np.int64)
    none = np.full(len(visit), _NONE)
    return Rows(user, at, at, kind, item, none, session[visit], none)


def _returns(rng: np.random.Generator, rows: Rows, parameters: ShopParameters) -> Rows:
    """Some purchase lines come back two days to some weeks later, at the price they were bought for."""
    back = rows.where((rows.kind == BUY) & (rng.random(len(rows)) < parameters.return_share))
    delay = ((2 + np.minimum(rng.exponential(6.0, len(back)), 40)) * DAY_US).astype(np.int64)
    none = np.full(len(back), _NONE)
    return Rows(back.user, back.at + delay, back.priced_at, none * 0 + RETURN, back.item, back.units, none, back.order)


def _bot_rows(rng: np.random.Generator, people: People, items: int, days: int, parameters: ShopParameters) -> Rows:
    """Bots read the whole catalogue all day long; once in fifty thousand views one buys."""
    bots = np.flatnonzero(people.is_bot)
    pace = parameters.bot_views_per_day * np.exp(0.5 * rng.standard_normal(len(bots)))
    user = np.repeat(bots, rng.poisson(pace * days))
    at = rng.integers(0, days * DAY_US, len(user))
    buys = rng.random(len(user)) < 2e-5
    hour = at // (DAY_US // 24)
    units, order = np.where(buys, 1, _NONE), np.where(buys, hour, _NONE)
    return Rows(user, at, at, np.where(buys, BUY, VIEW), rng.integers(0, items, len(user)), units, hour, order)


def _running_number(user: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """How many counted entries of the same user come before each entry; `user` is ascending."""
    before = np.cumsum(counted) - counted
    first = np.searchsorted(user, user, side="left")
    return before - before[first] if len(user) else before


def _hashed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A number in [0, 1) that two integers decide (splitmix64): lasting choices without a table of them."""
    mixed = one.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + other.astype(np.uint64) + np.uint64(1)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53

"""What the simulated shop sells and whom it serves: the catalogue, and what is true of each user but seen by nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from segmenter_plugin.data.shop_parameters import ShopParameters

TIERS = 3
_TIER_FACTORS = np.array([0.75, 1.0, 1.5])
_MAKERS = 60
#: Streams of random numbers below (seed, block): what is true of users must not move with how much happens to them.
_CATALOGUE_STREAM, _PEOPLE_STREAM, EVENTS_STREAM = 0, 1, 2


def generator(seed: int, stream: int, block: int = 0) -> np.random.Generator:
    """Independent random numbers for each (seed, stream, block)."""
    return np.random.default_rng([seed, stream, block])


@dataclass(frozen=True)
class Catalogue:
    """The shop's products. A product is sold in `TIERS` tiers, each an item of its own.

    Attributes:
        tastes: Mixture over categories of each taste, ``(tastes, categories)``.
        popularity: Cumulative popularity of a category's products by rank, ``(products_per_category,)``.
        prices: Price of each item in currency, ``(categories * products_per_category * TIERS,)``.
        items, departments, makers: Names; `item_makers` is each item's index into `makers`.
    """

    tastes: np.ndarray
    popularity: np.ndarray
    prices: np.ndarray
    items: pa.Array
    departments: pa.Array
    makers: pa.Array
    item_makers: np.ndarray


def make_catalogue(seed: int, parameters: ShopParameters) -> Catalogue:
    """The catalogue of a seed: the same whatever the number of users or days."""
    rng = generator(seed, _CATALOGUE_STREAM)
    categories, products = parameters.categories, parameters.products_per_category
    weights = np.arange(1, products + 1) ** -parameters.zipf_exponent
    logs = rng.normal(parameters.price_log_mean, parameters.price_log_std, (categories, products))
    # Every category has the same mean price: what a user likes must not show in what it spends.
    logs -= (logs * weights).sum(axis=1, keepdims=True) / weights.sum() - parameters.price_log_mean
    prices = np.exp(logs)[:, :, None] * _TIER_FACTORS
    makers = rng.integers(1, _MAKERS + 1, (categories, products, TIERS))
    makers[:, :, 0] = 0
    count = prices.size
    return Catalogue(
        tastes=rng.dirichlet(np.full(categories, 0.3), parameters.tastes),
        popularity=np.cumsum(weights) / weights.sum(),
        prices=prices.ravel(),
        items=pa.array([f"sku-{number:06d}" for number in range(count)]),
        departments=pa.array([f"department-{number:02d}" for number in range(categories)]),
        makers=pa.array(["house", *(f"maker-{number:02d}" for number in range(1, _MAKERS + 1))]),
        item_makers=makers.ravel().astype(np.int32),
    )


@dataclass(frozen=True)
class People:
    """Latent truth of one block of U users; days count from the shop's start.

    Attributes:
        first_user: Number of the block's first user.
        taste: Taste of each user, ``(U,)``.
        mixture: Its own mixture over categories, ``(U, categories)``.
        orders_per_year: Expected orders a year while active, ``(U,)``.
        basket_shift, tier_shift: What is added to the log basket size and to the price tier, ``(U,)``.
        joined_day, churned_day: First and last day of activity, ``(U,)``; churn may lie after the simulated time.
        is_bot: ``(U,)``.
        staple_categories: Replenished categories, ``(U, staples)``.
    """

    first_user: int
    taste: np.ndarray
    mixture: np.ndarray
    orders_per_year: np.ndarray
    basket_shift: np.ndarray
    tier_shift: np.ndarray
    joined_day: np.ndarray
    churned_day: np.ndarray
    is_bot: np.ndarray
    staple_categories: np.ndarray

    def __len__(self) -> int:
        return len(self.taste)


def make_people(seed: int, block: int, days: int, catalogue: Catalogue, parameters: ShopParameters) -> People:
    """The users of one block; always a whole block, so that a user is the same in a shop of any size."""
    rng = generator(seed, _PEOPLE_STREAM, block)
    count = parameters.block_users
    taste = rng.integers(0, parameters.tastes, count)
    weights = rng.standard_gamma(parameters.taste_concentration * catalogue.tastes[taste] + 0.02) + 1e-12
    mixture = weights / weights.sum(axis=1, keepdims=True)
    rho = parameters.value_correlation
    rate, basket, tier = rng.standard_normal((3, count))
    residual = np.sqrt(1 - rho**2)
    # Exponential lifetimes of which the share that ends within a year is as given; a share of 0 lives for ever.
    hazard = -np.log1p(-parameters.churn_year_share) / 365.25
    lifetime = rng.standard_exponential(count) / hazard if hazard > 0 else np.full(count, np.inf)
    late = rng.random(count) < parameters.late_joiner_share
    joined = np.where(late, rng.random(count) * days / 2, 0.0)
    return People(
        first_user=block * count,
        taste=taste,
        mixture=mixture,
        orders_per_year=np.exp(parameters.log_orders_mean + parameters.log_orders_std * rate),
        basket_shift=parameters.log_basket_user_std * (rho * rate + residual * basket),
        tier_shift=0.6 * (rho * rate + residual * tier),
        joined_day=joined,
        churned_day=joined + lifetime,
        is_bot=rng.random(count) < parameters.bot_share,
        staple_categories=draw_categories(rng, mixture, np.repeat(np.arange(count), parameters.staples)).reshape(
            count, parameters.staples
        ),
    )


def draw_categories(rng: np.random.Generator, mixture: np.ndarray, users: np.ndarray) -> np.ndarray:
    """One category for each entry of `users` (rows of `mixture`), by the user's own mixture."""
    rows, categories = mixture.shape
    # One ascending line over all users, user u's cumulative mixture lying in (u, u + 1]: a single search serves all.
    line = (np.cumsum(mixture, axis=1) + np.arange(rows)[:, None]).ravel()
    place = np.searchsorted(line, users + rng.random(len(users)), side="right")
    return np.clip(place - users * categories, 0, categories - 1)


def expected_lines_per_order(people: People, parameters: ShopParameters) -> np.ndarray:
    """Expected lines of an order of each user, ``(U,)``: the lognormal's mean, and one half for rounding up."""
    return np.exp(parameters.log_basket_mean + people.basket_shift + parameters.log_basket_std**2 / 2) + 0.5


def value_classes(people: People, parameters: ShopParameters) -> np.ndarray:
    """The third of the whole population that each user's lines a year fall in, lowest 0, ``(U,)``."""
    above = np.log(people.orders_per_year) - parameters.log_orders_mean + people.basket_shift
    orders, basket = parameters.log_orders_std, parameters.log_basket_user_std
    spread = np.sqrt(orders**2 + basket**2 + 2 * parameters.value_correlation * orders * basket)
    # 0.4307 standard deviations above the mean begins a normal distribution's upper third.
    return np.digitize(above / spread, [-0.4307, 0.4307])

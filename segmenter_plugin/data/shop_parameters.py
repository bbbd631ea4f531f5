"""Parameters of the simulated shop, frozen: later comparisons are judged against the shop that the defaults make."""

from __future__ import annotations

from dataclasses import dataclass, fields

from segmenter_plugin.errors import ConfigError

#: Monday to Sunday; the mean is 1. The Complete Journey's own week, in shares of purchase lines.
WEEKDAY_FACTORS = (0.97, 0.92, 0.86, 0.88, 0.91, 1.18, 1.28)


@dataclass(frozen=True)
class ShopParameters:
    """How the shop and its users behave.

    The defaults are set so that lines a year, gaps between orders, basket sizes and spend come near The Complete
    Journey's (the comparison is a table in the tests). Shares are in [0, 1), times in days unless named otherwise.

    Attributes:
        categories: Number of departments.
        products_per_category: Products in each; each is sold in three tiers (cheap, standard, premium).
        zipf_exponent: Popularity of the r-th product of a category is proportional to ``r ** -zipf_exponent``.
        tastes: Number of latent tastes, each a mixture over the categories.
        taste_concentration: How closely a user's own mixture follows its taste's (Dirichlet concentration).
        favourite_share: Share of picks that repeat one of a user's few favourites in the category.
        log_orders_mean, log_orders_std: Lognormal orders a year of a user.
        log_basket_mean, log_basket_user_std, log_basket_std: Lognormal lines of an order: between users, and within.
        value_correlation: Correlation of a user's log order rate with its log basket size and its price tier.
        price_log_mean, price_log_std: Lognormal price of a product.
        staple_share: Share of orders that come from a user's own regular replenishment cycles.
        staples: Replenished categories a user has; each has a cycle of its own.
        staple_regularity: Gamma shape of a cycle's gaps; their coefficient of variation is its inverse square root.
        interest_std, interest_memory_days: Slow rise and fall of a user's interest: log-scale spread, decay time.
        second_trip_share: Share of orders that are followed by another one within hours.
        plan_share: Share of unplanned orders that a narrow browsing session announces, days before.
        plan_lead_days: Mean of those days.
        wander_sessions: Browsing sessions a year that lead to nothing, spread over many products.
        view_share, cart_share: Share of purchase lines that are preceded by a view, by a cart.
        churn_year_share: Share of users that leave for good within a year.
        late_joiner_share: Share of users that first come during the first half of the time.
        return_share: Share of purchase lines sent back within some weeks.
        yearly_amplitude, yearly_drift: Seasonal swing (peak in mid-December) and growth of orders a year.
        seasonal_share: Share of picks from the month's category instead of the user's taste.
        popularity_drift: Share of a category's products by which popularity moves on each month.
        bot_share, bot_views_per_day: Share of users that are bots, and the median of their views a day.
        late_share: Share of rows that arrive hours or days after they happened.
        duplicate_share: Share of rows that are written twice, equal in every column.
        block_users: Users simulated at once; memory is bounded by their events.
    """

    categories: int = 40
    products_per_category: int = 80
    zipf_exponent: float = 1.0
    tastes: int = 8
    taste_concentration: float = 10.0
    favourite_share: float = 0.5
    log_orders_mean: float = 3.88
    log_orders_std: float = 0.78
    log_basket_mean: float = 1.5
    log_basket_user_std: float = 0.35
    log_basket_std: float = 1.1
    value_correlation: float = 0.1
    price_log_mean: float = 0.58
    price_log_std: float = 0.62
    staple_share: float = 0.35
    staples: int = 2
    staple_regularity: float = 40.0
    interest_std: float = 1.3
    interest_memory_days: float = 12.0
    second_trip_share: float = 0.06
    plan_share: float = 0.7
    plan_lead_days: float = 6.0
    wander_sessions: float = 25.0
    view_share: float = 0.5
    cart_share: float = 0.6
    churn_year_share: float = 0.15
    late_joiner_share: float = 0.1
    return_share: float = 0.02
    yearly_amplitude: float = 0.12
    yearly_drift: float = 0.05
    seasonal_share: float = 0.06
    popularity_drift: float = 0.02
    bot_share: float = 0.002
    bot_views_per_day: float = 300.0
    late_share: float = 0.01
    duplicate_share: float = 0.004
    block_users: int = 256

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") and not 0 <= value < 1:
                raise ConfigError(f"{field.name} = {value}; a share lies in [0, 1).", hint="give a fraction.")
            if field.type == "int" and value < 1:
                raise ConfigError(f"{field.name} = {value}; it must be 1 or more.", hint="give a positive number.")

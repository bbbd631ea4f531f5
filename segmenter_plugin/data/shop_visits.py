"""When the simulated shop's users come, and what for: orders, browsing that announces an order, and mere wandering.

What a sequence shows and a sum does not: each staple has a cycle of its own, so the day that the next one falls due
hides in the pairs of category and time; and a browsing session that circles one product announces an order, while one
of as many views that wanders announces nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np

from segmenter_plugin.data.shop_parameters import WEEKDAY_FACTORS, ShopParameters
from segmenter_plugin.data.shop_people import People, draw_categories

ORDER, PLAN, WANDER = 0, 1, 2
#: Share of a day's visits by hour of the day (UTC), The Complete Journey's in its own New York hours.
_HOUR_WEIGHTS = np.array([7, 3, 2, 2, 1, 1, 3, 7, 13, 25, 44, 63, 73, 77, 79, 82, 93, 105, 99, 82, 64, 43, 25, 12])
_HOURS = np.cumsum(_HOUR_WEIGHTS) / _HOUR_WEIGHTS.sum()


@dataclass(frozen=True)
class Visits:
    """V visits, in no order. `focus` is what the visit is about.

    Attributes:
        user: Row of the block's people, ``(V,)``.
        day: When it begins, in days from the shop's start, fraction included, ``(V,)``.
        purpose: `ORDER`, `PLAN` or `WANDER`, ``(V,)``.
        focus: Category, or -1 where it is about nothing in particular, ``(V,)``.
        topic: Equal for a plan and the order that it announces (they circle the same product), ``(V,)``.
    """

    user: np.ndarray
    day: np.ndarray
    purpose: np.ndarray
    focus: np.ndarray
    topic: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: np.ndarray) -> Visits:
        """The visits that `keep` (a mask or row numbers) selects."""
        return Visits(*(getattr(self, field.name)[keep] for field in fields(self)))

    @staticmethod
    def of(user: np.ndarray, day: np.ndarray, purpose: int, focus: np.ndarray | None, topic: np.ndarray) -> Visits:
        """Visits of one purpose."""
        nowhere = np.full(len(user), -1) if focus is None else focus
        return Visits(user, day, np.full(len(user), purpose), nowhere, topic)


def make_visits(
    rng: np.random.Generator, people: People, start: datetime, days: int, parameters: ShopParameters
) -> Visits:
    """All visits of a block within ``[0, days)``, each while its user is active; bots have none."""
    trips = _trips(rng, people, start, days, parameters)
    staples = _staples(rng, people, days, parameters)
    again = _second_trips(rng, _concatenate([trips, staples]), parameters)
    plans = _plans(rng, trips, parameters)
    visits = _concatenate([trips, staples, again, plans, _wandering(rng, people, days, parameters)])
    active = (visits.day >= people.joined_day[visits.user]) & (visits.day < people.churned_day[visits.user])
    return visits.where(active & (visits.day >= 0) & (visits.day < days) & ~people.is_bot[visits.user])


def season(start: datetime, days: int, parameters: ShopParameters) -> np.ndarray:
    """Factor on the orders of each day: week, year and drift, ``(days,)``."""
    day = np.arange(days)
    weekday = np.array(WEEKDAY_FACTORS)[(start.weekday() + day) % 7]
    day_of_year = start.timetuple().tm_yday + day
    yearly = 1 + parameters.yearly_amplitude * np.cos(2 * np.pi * (day_of_year - 350) / 365.25)
    return weekday * yearly * (1 + parameters.yearly_drift * day / 365.25)


def _interest(rng: np.random.Generator, users: int, days: int, parameters: ShopParameters) -> np.ndarray:
    """Factor of mean 1 that rises and falls slowly, ``(users, days)``: a log-scale first-order autoregression."""
    memory = np.exp(-1.0 / parameters.interest_memory_days)
    shocks = rng.standard_normal((days, users)) * parameters.interest_std
    level = np.empty_like(shocks)
    level[0] = shocks[0]
    for day in range(1, days):
        level[day] = memory * level[day - 1] + np.sqrt(1 - memory**2) * shocks[day]
    return np.exp(level - parameters.interest_std**2 / 2).T


def _trips(rng: np.random.Generator, people: People, start: datetime, days: int, parameters: ShopParameters) -> Visits:
    daily = people.orders_per_year * (1 - parameters.staple_share) / (1 + parameters.second_trip_share) / 365.25
    intensity = daily[:, None] * _interest(rng, len(people), days, parameters) * season(start, days, parameters)
    user, day = np.nonzero(counts := rng.poisson(intensity))
    times = counts[user, day]
    user, day = np.repeat(user, times), np.repeat(day, times)
    focus = draw_categories(rng, people.mixture, user)
    return Visits.of(user, _at_some_hour(rng, day), ORDER, focus, rng.integers(0, 2**31, len(user)))


def _staples(rng: np.random.Generator, people: People, days: int, parameters: ShopParameters) -> Visits:
    """Orders that a cycle brings: gaps of gamma shape, from a phase of its own."""
    per_year = people.orders_per_year * parameters.staple_share / (1 + parameters.second_trip_share)
    # Cycles of one user differ in length, so that their due days interleave.
    share = rng.dirichlet(np.full(parameters.staples, 4.0), len(people))
    period = (365.25 / np.maximum(per_year[:, None] * share, 1e-6)).ravel()
    length = np.ceil(1.3 * days / period).astype(np.int64) + 2
    cycle = np.repeat(np.arange(len(period)), length)
    shape = parameters.staple_regularity
    gaps = rng.standard_gamma(shape, len(cycle)) / shape * period[cycle]
    first = np.cumsum(length) - length
    gaps[first] = rng.random(len(first)) * period
    running = np.cumsum(gaps)
    day = running - (running[first] - gaps[first])[cycle]
    inside = day < days
    cycle, day = cycle[inside], day[inside]
    user = cycle // parameters.staples
    # The topic is the cycle's own, so that a staple is the same product time and again.
    topic = people.first_user * parameters.staples + cycle
    return Visits.of(user, _at_some_hour(rng, np.floor(day)), ORDER, people.staple_categories.ravel()[cycle], topic)


def _second_trips(rng: np.random.Generator, orders: Visits, parameters: ShopParameters) -> Visits:
    """What was forgotten: another order of the same day."""
    first = orders.where(rng.random(len(orders)) < parameters.second_trip_share)
    day = first.day + 0.01 + rng.exponential(0.08, len(first))
    return Visits.of(first.user, day, ORDER, None, rng.integers(0, 2**31, len(first)))


def _plans(rng: np.random.Generator, trips: Visits, parameters: ShopParameters) -> Visits:
    """Browsing some days before a trip, around the product that the trip then buys."""
    planned = trips.where(rng.random(len(trips)) < parameters.plan_share)
    lead = 0.05 + rng.exponential(parameters.plan_lead_days, len(planned))
    return Visits.of(planned.user, planned.day - lead, PLAN, planned.focus, planned.topic)


def _wandering(rng: np.random.Generator, people: People, days: int, parameters: ShopParameters) -> Visits:
    yearly = parameters.wander_sessions * np.exp(rng.normal(-0.18, 0.6, len(people)))
    user = np.repeat(np.arange(len(people)), rng.poisson(yearly * days / 365.25))
    day = _at_some_hour(rng, rng.integers(0, days, len(user)))
    return Visits.of(user, day, WANDER, None, rng.integers(0, 2**31, len(user)))


def _at_some_hour(rng: np.random.Generator, day: np.ndarray) -> np.ndarray:
    hour = np.searchsorted(_HOURS, rng.random(len(day)), side="right")
    return day + (hour + rng.random(len(day))) / 24


def _concatenate(parts: list[Visits]) -> Visits:
    return Visits(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Visits)))

"""BG/NBD and Gamma-Gamma: customers buy as a Poisson process until they leave, and spend by a gamma of their own.

Fader, Hardie and Lee 2005, "Counting Your Customers the Easy Way", Marketing Science 24(2); Fader and Hardie 2013, "The
Gamma-Gamma Model of Monetary Value". The libraries that fit them (`lifetimes`, `btyd`) are no longer kept; this is the
likelihood and scipy.

N: customers. x: repeat purchases, t_x: time of the last one, T: time observed, both since the first; any unit of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BgNbd:
    """Purchase rates are gamma(r, alpha); a customer leaves after a purchase with a probability that is beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float

    def log_likelihood(self, x: FloatArray, t_x: FloatArray, observed: FloatArray) -> FloatArray:
        """Of each customer, (N,): the paper's equation 6, in the logarithms of its appendix."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        purchases = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        staying = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
        alive = -(r + x) * np.log(alpha + observed)
        left = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + t_x)
        return purchases + staying + np.logaddexp(alive, np.where(x > 0, left, -np.inf))

    def alive(self, x: FloatArray, t_x: FloatArray, observed: FloatArray) -> FloatArray:
        """Probability that a customer has not left, (N,)."""
        ratio = ((self.alpha + observed) / (self.alpha + t_x)) ** (self.r + x)
        return np.where(x > 0, 1 / (1 + self.a / (self.b + np.maximum(x, 1) - 1) * ratio), 1.0)

    def any_purchase(self, x: FloatArray, t_x: FloatArray, observed: FloatArray, ahead: float) -> FloatArray:
        """Probability of at least one purchase in the next `ahead`, (N,).

        Given that a customer is alive, its rate is gamma(r + x, alpha + T), and leaving comes after purchases only.
        """
        none = ((self.alpha + observed) / (self.alpha + observed + ahead)) ** (self.r + x)
        return self.alive(x, t_x, observed) * (1 - none)

    def expected_purchases(self, x: FloatArray, t_x: FloatArray, observed: FloatArray, ahead: float) -> FloatArray:
        """Expected purchases in the next `ahead`, (N,): the paper's equation 10."""
        level = self.alpha + observed
        a, total = self.a, self.a + self.b + x - 1
        curve = hyp2f1(self.r + x, self.b + x, total, ahead / (level + ahead))
        bought = total / (a - 1) * (1 - (level / (level + ahead)) ** (self.r + x) * curve)
        return bought * self.alive(x, t_x, observed)


@dataclass(frozen=True)
class GammaGamma:
    """Spend per purchase is gamma(p, nu) of a customer, nu is gamma(q, gamma) among customers."""

    p: float
    q: float
    gamma: float

    def log_likelihood(self, x: FloatArray, mean: FloatArray) -> FloatArray:
        """Of each customer with x > 0 purchases of a mean amount, (N,)."""
        p, q, gamma = self.p, self.q, self.gamma
        constant = gammaln(p * x + q) - gammaln(p * x) - gammaln(q)
        amounts = (p * x - 1) * np.log(mean) + p * x * np.log(x)
        return constant + q * np.log(gamma) + amounts - (p * x + q) * np.log(gamma + x * mean)

    def expected_amount(self, x: FloatArray, mean: FloatArray) -> FloatArray:
        """Expected spend of a further purchase, (N,): between a customer's mean and everybody's."""
        return self.p * (self.gamma + x * mean) / (self.p * x + self.q - 1)


def fit_bgnbd(x: FloatArray, t_x: FloatArray, observed: FloatArray, penalty: float = 0.0) -> BgNbd:
    """Maximum likelihood; `penalty` draws the logarithms of the four parameters to 0."""
    # In units of the longest observation the parameters are of the order of 1, whatever the unit of time.
    unit = float(observed.max())

    def loss(logs: FloatArray) -> float:
        model = BgNbd(*np.exp(logs))
        return float(-model.log_likelihood(x, t_x / unit, observed / unit).mean() + penalty * (logs**2).sum())

    r, alpha, a, b = np.exp(_minimised(loss, 4))
    return BgNbd(r, alpha * unit, a, b)


def fit_gamma_gamma(x: FloatArray, mean: FloatArray, penalty: float = 0.0) -> GammaGamma:
    """Maximum likelihood on customers with x > 0 purchases of a positive mean amount."""
    unit = float(np.median(mean))

    def loss(logs: FloatArray) -> float:
        model = GammaGamma(*np.exp(logs))
        return float(-model.log_likelihood(x, mean / unit).mean() + penalty * (logs**2).sum())

    p, q, gamma = np.exp(_minimised(loss, 3))
    return GammaGamma(p, q, gamma * unit)


def _minimised(loss: Callable[[FloatArray], float], size: int) -> FloatArray:
    # The likelihood is flat along ridges, so a simplex finds its way better than gradients by differences.
    options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-5, "fatol": 1e-9}
    found: FloatArray = minimize(loss, np.zeros(size), method="Nelder-Mead", options=options).x
    return found

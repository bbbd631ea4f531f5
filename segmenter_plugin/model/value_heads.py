"""Heads whose answer is money.

Each has a logit of its own for "is there any?", trained by cross entropy, and says of the amount what its loss knows:

| `value_loss` | expected money is | percentiles |
|---|---|---|
| ziln | the mean of a zero-inflated lognormal | of that distribution |
| mse | what minimises the squared error of money | none |
| log_mse | what minimises that of log(1 + money), taken back: nearer a median than a mean | none |
| tweedie | the mean of a Tweedie distribution of power 1.5 | none |

A head without percentiles repeats the expected money in their columns: it knows a point, not a spread. All see money
divided by `scale`, the training labels' median, which makes the start sane in any currency.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.head import Head
from segmenter_plugin.tasks import PERCENTILES

#: exp(sigma^2 / 2) multiplies the expected value: 2 gives 7.4, far out already.
_SIGMA_RANGE = (0.1, 2.0)
#: A user of exp(10) times the median spender is not to be believed.
_LOG_LIMIT = 10.0
#: Between 1, where zeros are as rare as Poisson has them, and 2, where there are none.
_TWEEDIE_POWER = 1.5
_SMALLEST = 1e-6


class ValueHead(Head):
    """Money, and the probability of any."""

    #: Whether a binary task about purchases in the same window may own the logit.
    shares_logit = False

    def losses(self, raw: Tensor, label: Tensor, logit: Tensor | None) -> Tensor:
        """The amount's loss, plus the cross entropy of y > 0; that is left to the other head where it has the logit."""
        positive = (label > 0).to(raw.dtype)
        amounts = self.amount_losses(raw, label / self.target.scale, positive)
        return amounts if logit is not None else amounts + self.binary_losses(raw[:, :1], positive[:, None])[:, 0]

    def scores(self, raw: Tensor, logit: Tensor | None) -> dict[str, Tensor]:
        """Expected money, the probability of any, and percentiles."""
        probability = (raw[:, 0] if logit is None else logit).sigmoid()
        money = [amount * self.target.scale for amount in self.amounts(raw, probability)]
        return dict(zip(self.target.task.score_columns, (money[0], probability, *money[1:]), strict=True))

    @abstractmethod
    def amount_losses(self, raw: Tensor, amount: Tensor, positive: Tensor) -> Tensor:
        """Loss of each user's amount, (B,).

        Args:
            raw: (B, width); the first column is the logit.
            amount: Money / scale, (B,).
            positive: 1 where there is any, (B,).
        """

    @abstractmethod
    def amounts(self, raw: Tensor, probability: Tensor) -> tuple[Tensor, ...]:
        """Expected money / scale and its `PERCENTILES`, (B,) each."""


class LognormalHead(ValueHead):
    """Money as a zero-inflated lognormal (Wang, Liu and Miao 2019, arXiv 1912.07753, section 3.1).

    ``P(y > 0) = p``, and ``log(y / scale)`` is normal with mean mu and deviation sigma where y > 0, so that
    ``E[y] = p * scale * exp(mu + sigma^2 / 2)``. Sigma is clamped: one wild sigma would rank a user by its square.

    The quantile at q is 0 up to ``q = 1 - p``, where the zeros end, and ``scale * exp(mu + sigma * z)`` above, z being
    the normal quantile at ``1 - (1 - q) / p``.
    """

    shares_logit = True

    @staticmethod
    def width(target: Target) -> int:  # noqa: ARG004 - one signature for all heads
        """The logit, mu, and sigma before softplus."""
        return 3

    def amount_losses(self, raw: Tensor, amount: Tensor, positive: Tensor) -> Tensor:
        """The lognormal's negative log density, without what does not depend on the model."""
        mu, sigma = self._distribution(raw)
        log_amount = torch.log(amount.clamp_min(_SMALLEST))
        return positive * (((log_amount - mu) / sigma) ** 2 / 2 + torch.log(sigma))

    def amounts(self, raw: Tensor, probability: Tensor) -> tuple[Tensor, ...]:
        """Of the distribution."""
        mu, sigma = self._distribution(raw)
        quantiles = []
        for percentile in PERCENTILES:
            among_buyers = 1 - (1 - percentile / 100) / probability.clamp_min(_SMALLEST)
            amount = torch.exp(mu + sigma * torch.special.ndtri(among_buyers.clamp_min(_SMALLEST)))
            quantiles.append(torch.where(among_buyers > 0, amount, 0.0))
        return probability * torch.exp(mu + sigma**2 / 2), *quantiles

    def _distribution(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        low, high = _SIGMA_RANGE
        return raw[:, 1].clamp(-_LOG_LIMIT, _LOG_LIMIT), functional.softplus(raw[:, 2]).clamp(low, high)


class PointHead(ValueHead):
    """An amount without a spread."""

    @staticmethod
    def width(target: Target) -> int:  # noqa: ARG004
        """The logit, and the amount in the loss's own scale."""
        return 2

    def amounts(self, raw: Tensor, probability: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """The same amount in each place."""
        return (self.expected(raw[:, 1]),) * (1 + len(PERCENTILES))

    @abstractmethod
    def expected(self, output: Tensor) -> Tensor:
        """Money / scale that an output stands for, (B,)."""


class SquaredErrorHead(PointHead):
    """Squared error of money: big spenders are all that it hears."""

    def amount_losses(self, raw: Tensor, amount: Tensor, positive: Tensor) -> Tensor:  # noqa: ARG002
        """Squared error."""
        return (raw[:, 1] - amount) ** 2

    def expected(self, output: Tensor) -> Tensor:
        """What it is, but not below 0."""
        return output.clamp(0.0, math.exp(_LOG_LIMIT))


class LogSquaredErrorHead(PointHead):
    """Squared error of log(1 + money); no smearing takes the mean of the logarithm to the mean of money."""

    def amount_losses(self, raw: Tensor, amount: Tensor, positive: Tensor) -> Tensor:  # noqa: ARG002
        """Squared error of logarithms."""
        return (raw[:, 1] - torch.log1p(amount)) ** 2

    def expected(self, output: Tensor) -> Tensor:
        """The logarithm taken back."""
        return torch.expm1(output.clamp(0.0, _LOG_LIMIT))


class TweedieHead(PointHead):
    """Tweedie deviance with a log link: zeros and money in one distribution (Jorgensen 1987, section 5).

    ``2 * (y^(2-r) / ((1-r)(2-r)) - y m^(1-r) / (1-r) + m^(2-r) / (2-r))`` for the mean m and the power r.
    """

    def amount_losses(self, raw: Tensor, amount: Tensor, positive: Tensor) -> Tensor:  # noqa: ARG002
        """The deviance."""
        log_mean = raw[:, 1].clamp(-_LOG_LIMIT, _LOG_LIMIT)
        below, above = 1 - _TWEEDIE_POWER, 2 - _TWEEDIE_POWER
        fit = amount * torch.exp(below * log_mean) / below - torch.exp(above * log_mean) / above
        return 2 * (amount**above / (below * above) - fit)

    def expected(self, output: Tensor) -> Tensor:
        """The mean, by the log link."""
        return torch.exp(output.clamp(-_LOG_LIMIT, _LOG_LIMIT))


VALUE_LOSSES: dict[str, type[ValueHead]] = {
    "ziln": LognormalHead,
    "mse": SquaredErrorHead,
    "log_mse": LogSquaredErrorHead,
    "tweedie": TweedieHead,
}

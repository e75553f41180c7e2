"""Whether two groups of chains differ, said with an interval; standard library only.

Costs of chains are skewed: a few cost most of the money. So means are compared by a studentized
bootstrap of the logarithm of their ratio (Efron and Tibshirani, An Introduction to the Bootstrap,
12.5), whose coverage holds better for few skewed values than the percentile bootstrap's, and
shares by Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10). The seed
is fixed: the same chains always give the same interval.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

__all__ = ["ENOUGH", "Interval", "difference_of_shares", "ratio_of_means"]

ENOUGH = 20
"""Values in each group below which nothing is said."""
_LEVEL = 0.95
_DRAWS = 1000
_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and between what the true value lies with 95% confidence."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether chance alone hardly makes this of that true value."""
        return not self.low <= value <= self.high


def ratio_of_means(
    before: Sequence[float], after: Sequence[float], *, draws: int = _DRAWS
) -> Interval | None:
    """mean(after) / mean(before) of values that are never negative.

    None where that cannot be told: fewer than `ENOUGH` values in a group, or a mean of zero.
    """
    if min(len(before), len(after)) < ENOUGH:
        return None
    whole = _log_ratio(before, after)
    if whole is None:
        return None
    estimate, error = whole
    if error == 0:  # all values of a group are the same: there is nothing to draw
        return Interval(exp(estimate), exp(estimate), exp(estimate))
    dice = random.Random(_SEED)  # noqa: S311 no secret
    scaled = []
    for _ in range(draws):
        drawn = _log_ratio(dice.choices(before, k=len(before)), dice.choices(after, k=len(after)))
        if drawn is not None and drawn[1] > 0:
            scaled.append((drawn[0] - estimate) / drawn[1])
    if len(scaled) < draws // 2:
        return None
    scaled.sort()
    tail = (1 - _LEVEL) / 2
    low, high = _quantile(scaled, tail), _quantile(scaled, 1 - tail)
    # Never narrower than a normal interval: few distinct values make a bootstrap too sure.
    normal = NormalDist().inv_cdf(1 - tail)
    low, high = min(low, -normal), max(high, normal)
    return Interval(
        exp(estimate), _bounded(estimate - high * error), _bounded(estimate - low * error)
    )


def difference_of_shares(before: int, of_before: int, after: int, of_after: int) -> Interval | None:
    """after / of_after - before / of_before; None below `ENOUGH` in a group."""
    if min(of_before, of_after) < ENOUGH:
        return None
    first, second = before / of_before, after / of_after
    low_1, high_1 = _wilson(before, of_before)
    low_2, high_2 = _wilson(after, of_after)
    difference = second - first
    return Interval(
        difference,
        difference - sqrt((second - low_2) ** 2 + (high_1 - first) ** 2),
        difference + sqrt((high_2 - second) ** 2 + (first - low_1) ** 2),
    )


def _log_ratio(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """The logarithm of the ratio of the means, and its standard error by the delta method."""
    mean_1, relative_1 = _mean(before)
    mean_2, relative_2 = _mean(after)
    if mean_1 <= 0 or mean_2 <= 0:
        return None
    return log(mean_2 / mean_1), sqrt(relative_1 + relative_2)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the square of its standard error relative to it."""
    count = len(values)
    mean = sum(values) / count
    if mean <= 0:
        return mean, 0.0
    spread = sum([(value - mean) ** 2 for value in values]) / (count - 1)
    return mean, spread / count / mean**2


def _quantile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def _bounded(value: float) -> float:
    return exp(min(max(value, -50.0), 50.0))


def _wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    z = NormalDist().inv_cdf(0.5 + _LEVEL / 2)
    share = count / of
    middle = share + z * z / (2 * of)
    around = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    return max(0.0, (middle - around) / whole), min(1.0, (middle + around) / whole)

"""Whether two groups of chains differ, said with an interval; standard library only.

What chains cost is skewed, about lognormal: a few cost most of the money. So the typical ones are
compared by their geometric means (Welch's t interval on the logarithms), which one very large
chain does not decide. The bill is decided by arithmetic means; those are compared by a studentized
bootstrap of the logarithm of their ratio (Efron and Tibshirani, An Introduction to the Bootstrap,
12.5), whose coverage holds better for few skewed values than the percentile bootstrap's. Shares
are compared by Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10). The
seed is fixed: the same chains always give the same interval.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist, fmean, variance

__all__ = [
    "ENOUGH",
    "Interval",
    "difference_of_shares",
    "ratio_of_means",
    "ratio_of_typical",
    "typical",
]

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


def typical(values: Sequence[float]) -> float | None:
    """The geometric mean of those above zero; None where there are none."""
    logs = [log(value) for value in values if value > 0]
    return exp(fmean(logs)) if logs else None


def ratio_of_typical(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """typical(after) / typical(before); None for fewer than `ENOUGH` values above zero in a group.

    Values of zero have no logarithm and do not count.
    """
    logs_1, logs_2 = ([log(v) for v in values if v > 0] for values in (before, after))
    if min(len(logs_1), len(logs_2)) < ENOUGH:
        return None
    estimate = fmean(logs_2) - fmean(logs_1)
    error_1, error_2 = variance(logs_1) / len(logs_1), variance(logs_2) / len(logs_2)
    error = error_1 + error_2
    if error == 0:
        return Interval(exp(estimate), exp(estimate), exp(estimate))
    freedom = error**2 / (error_1**2 / (len(logs_1) - 1) + error_2**2 / (len(logs_2) - 1))
    around = _student(freedom) * sqrt(error)
    return Interval(exp(estimate), _bounded(estimate - around), _bounded(estimate + around))


def _student(freedom: float) -> float:
    """Student's t for the confidence level; the expansion is right to 0.001 from 15 degrees on."""
    z = NormalDist().inv_cdf(0.5 + _LEVEL / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


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

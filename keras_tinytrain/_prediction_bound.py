"""How far above the mean of some scores a further one may lie: Student's prediction bound, without TensorFlow."""

import math

MOST_SCORES = 128  # beyond which the bound hardly changes: by 2 percent at most


def prediction_bound(rate: float, count: int) -> float:
    """t sqrt(1 + 1/n), with Student's t of n - 1 degrees of freedom: so many standard deviations above the mean of n normally
    distributed scores lies what a further one exceeds with probability `rate`.

    Args:
        rate: fraction of 1.
        count: n, at least 2.

    Raises:
        ValueError: the rate is not between 0 and 0.5.

    Example:
        >>> round(prediction_bound(0.05, 3), 3)
        3.372
    """
    if not 0 < rate < 0.5:
        raise ValueError(f"Expected a rate between 0 and 0.5. Received: {rate}")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if 1 - _within(middle, count - 1) < 2 * rate else (middle, high)
    return math.tan(high) * math.sqrt(count - 1) * math.sqrt(1 + 1 / count)


def prediction_bounds(rate: float, count: int) -> tuple[float, ...]:
    """`prediction_bound` of 2 to `count` scores, and to `MOST_SCORES` at most."""
    return tuple(prediction_bound(rate, each) for each in range(2, max(2, min(count, MOST_SCORES)) + 1))


def _within(angle: float, degrees: int) -> float:
    """P(|T| <= t) at angle = atan(t / sqrt(degrees)): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    cosine, is_odd = math.cos(angle), degrees % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    for step in range(2 + is_odd, degrees + 1, 2):
        total += term
        term *= (step - 1) / step * cosine**2
    total = math.sin(angle) * total
    return 2 / math.pi * (angle + total) if is_odd else total

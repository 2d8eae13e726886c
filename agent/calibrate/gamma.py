"""Gamma law of healthy scores, the rule of the DCASE Task 2 baseline; NumPy is all there is.

Location 0, shape and scale by maximum likelihood: with `log mean - mean log` of the scores known,
the shape solves log a - digamma(a) = that (Minka 2002, "Estimating a Gamma distribution").
"""

from __future__ import annotations

import math

import numpy as np

from agent.score.scorer import Floats

_STEPS = 60
_TERMS = 2000
# Below this spread of the logarithms the scores are as good as one number.
_FLAT = 1e-12


def fit_gamma(values: Floats) -> tuple[float, float]:
    """Shape and scale by maximum likelihood, location 0.

    Args:
        values: Positive, shape `(n,)`, n >= 1.

    Returns:
        Shape a and scale b, both positive; the mean is a * b.

    Raises:
        ValueError: A value is not positive.
    """
    if not (values > 0).all():
        raise ValueError("a gamma law at location 0 has positive values only")
    mean = float(values.mean())
    spread = math.log(mean) - float(np.log(values).mean())
    if spread < _FLAT:
        return 0.5 / _FLAT, mean * 2.0 * _FLAT
    shape = (3.0 - spread + math.sqrt((spread - 3.0) ** 2 + 24.0 * spread)) / (12.0 * spread)
    for _ in range(_STEPS):
        # Newton's method on 1 / a, which converges in a handful of steps.
        error = math.log(shape) - digamma(shape) - spread
        slope = 1.0 / shape - trigamma(shape)
        inverse = 1.0 / shape + error / (shape * shape * slope)
        new = 1.0 / inverse if inverse > 0 else shape / 2.0
        if abs(new - shape) < 1e-12 * shape:
            break
        shape = new
    return shape, mean / shape


def gamma_quantile(share: float, shape: float, scale: float) -> float:
    """The value below which a share in (0, 1) of the law lies."""
    low, high = 0.0, max(1.0, shape)
    while lower_share(high, shape) < share:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        if lower_share(middle, shape) < share:
            low = middle
        else:
            high = middle
        if high - low <= 1e-13 * high:
            break
    return 0.5 * (low + high) * scale


def lower_share(x: float, shape: float) -> float:
    """Share of the law of scale 1 below x: the regularised lower incomplete gamma function.

    Series below `shape + 1`, Lentz's continued fraction above (Abramowitz and Stegun 6.5.29 and
    6.5.31). From a shape of 10^4 on, the cube root is normal to 10^-6 (Wilson and Hilferty 1931).
    """
    if x <= 0.0:
        return 0.0
    if shape > 1e4:
        z = 3.0 * math.sqrt(shape) * ((x / shape) ** (1.0 / 3.0) - 1.0 + 1.0 / (9.0 * shape))
        return 0.5 * math.erfc(-z / math.sqrt(2.0))
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1.0:
        term = total = 1.0 / shape
        for n in range(1, _TERMS):
            term *= x / (shape + n)
            total += term
            if term < 1e-16 * total:
                break
        return min(1.0, front * total)
    tiny = 1e-300
    b = x + 1.0 - shape
    c, d = 1.0 / tiny, 1.0 / b
    fraction = d
    for n in range(1, _TERMS):
        a = -n * (n - shape)
        b += 2.0
        d = 1.0 / (a * d + b or tiny)
        c = b + a / c or tiny
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return max(0.0, 1.0 - front * fraction)


def digamma(x: float) -> float:
    """Derivative of log Gamma at x > 0: recurrence up to 10, then the asymptotic series."""
    found = 0.0
    while x < 10.0:
        found -= 1.0 / x
        x += 1.0
    t = 1.0 / (x * x)
    series = t * (1 / 12 - t * (1 / 120 - t * (1 / 252 - t * (1 / 240 - t / 132))))
    return found + math.log(x) - 0.5 / x - series


def trigamma(x: float) -> float:
    """Derivative of `digamma`."""
    found = 0.0
    while x < 10.0:
        found += 1.0 / (x * x)
        x += 1.0
    t = 1.0 / (x * x)
    series = t * (1 / 6 - t * (1 / 30 - t * (1 / 42 - t * (1 / 30 - t * 5 / 66))))
    return found + 1.0 / x + 0.5 * t + series / x

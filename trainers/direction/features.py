"""Version 1 of what is known of a quote, built of it and of those before it; this imports NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RETURNS = 10
"""over which the volatility is"""


def v1(bid: Floats, ask: Floats) -> dict[str, Floats]:
    """The four features of each quote, in the order of time; none looks at a later quote.

    * mid_price = (bid + ask) / 2
    * spread = ask - bid
    * return_1 = mid_price / mid_price of the quote before - 1
    * volatility_10 = standard deviation of the last 10 return_1 around their mean, divided by 10

    What nobody knows yet is NaN: return_1 of the first quote, volatility_10 of the first ten.
    """
    mid = (bid + ask) / 2
    returns = np.full(len(mid), np.nan)
    returns[1:] = mid[1:] / mid[:-1] - 1
    return {
        "mid_price": mid,
        "spread": ask - bid,
        "return_1": returns,
        "volatility_10": _deviation(returns),
    }


def _deviation(values: Floats) -> Floats:
    """Of each value and the nine before it; each row is summed up by itself, and so is exact."""
    found = np.full(len(values), np.nan)
    count = len(values) - RETURNS + 1
    if count <= 0:
        return found
    windows = [values[first : first + count] for first in range(RETURNS)]
    mean = sum(windows[1:], windows[0]) / RETURNS
    squares = np.zeros(count)
    for window in windows:
        squares += np.square(window - mean)
    found[RETURNS - 1 :] = np.sqrt(squares / RETURNS)
    return found

"""Days of quotes that are made up, and always the same for a seed; importing it imports NumPy.

They are of a market in which a little can be foreseen, as in a real one. What weighs in the book
shows in its sizes before it moves the price, and the price that is quoted swings around the one
that is meant.
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainers import durable
from trainers.direction.market import read
from trainers.direction.options import DATE, FILE, V1, place
from trainers.tables.times import DAY, SECOND, told

Floats = NDArray[np.float64]
Columns = dict[str, Any]

META = "meta.json"
QUOTES, FEATURES = Path("quotes"), Path("features", "featureset=v1")
PER_S = 1.0
"""quotes, on average"""
PRICE, TICK = 100.0, 0.01
DAILY_MOVE = 0.02
"""of one day's first price against the middle of all"""
SIGMA = 0.5e-4
"""of the price that is meant, in a second"""
WEIGHT_S, WEIGHT_PULL = 20.0, 0.1e-4
"""how long the book leans to one side, and by how much that moves the price in a second"""
SWING_S, SWING = 3.0, 2e-4
"""how long a swing lasts, and how wide it is"""
RESTLESS_S, RESTLESS = 1800.0, 0.4
"""how long the market stays as restless, and by how much that varies, as a logarithm"""
SIZE = 2.0
_EPOCH = date(1970, 1, 1)


def day(symbol: str, on: date, *, seed: int = 1, per_s: float = PER_S) -> Columns:
    """The quotes of a day in UTC: time in nanoseconds, bid, ask, bid_size and ask_size.

    They depend on symbol, day and seed alone, whichever other days there are; a day ends about
    where the next one begins. Equal seeds give equal bytes, with one version of NumPy.
    """
    chance = _chance(seed, symbol, on)
    count = int(chance.poisson(per_s * DAY / SECOND))
    begins = (on - _EPOCH).days * DAY
    # Milliseconds, as an exchange tells them; some quotes have the same.
    times = begins + np.sort(chance.integers(0, DAY // 10**6, count)) * 10**6
    apart = np.diff(times, prepend=begins) / SECOND
    restless = np.exp(RESTLESS * _swinging(chance, apart, RESTLESS_S))
    weight, swing = _swinging(chance, apart, WEIGHT_S), _swinging(chance, apart, SWING_S)
    steps = WEIGHT_PULL * weight * apart
    steps += SIGMA * restless * np.sqrt(apart) * chance.standard_normal(count)
    first, last = (_level(seed, symbol, one) for one in (on, on + timedelta(days=1)))
    gone = (times - begins) / DAY
    meant = np.cumsum(steps)
    meant += first + gone * (last - first - (meant[-1] if count else 0.0))
    middle = PRICE * np.exp(meant + SWING * swing)
    ticks = 1 + chance.poisson(0.3 * restless)
    below = np.round(middle / TICK - ticks / 2).astype(np.int64)
    lean = 0.8 * weight
    sizes = [
        np.round(SIZE * np.exp(side * lean + 0.5 * chance.standard_normal(count)), 3) + 0.001
        for side in (1, -1)
    ]
    return {
        "time": times,
        "bid": below * TICK,
        "ask": (below + ticks) * TICK,
        "bid_size": sizes[0],
        "ask_size": sizes[1],
    }


def put(home: Path, symbol: str, on: date, *, seed: int = 1, per_s: float = PER_S) -> Path:
    """Write the quotes of a day where they belong within a home; the file."""
    file = home / QUOTES / place(symbol, on) / FILE
    _write(file, day(symbol, on, seed=seed, per_s=per_s))
    return file


def build(home: Path, symbol: str, on: date) -> Path:
    """Build the features of a day from its quotes, and say what they are; the file of features.

    Raises:
        DataLoadError: the quotes are not there, or not what they must be.
    """
    quotes = home / QUOTES / place(symbol, on) / FILE
    market = read([str(quotes.absolute())], None, V1)
    columns = {name: market.x[:, number] for number, name in enumerate(V1)}
    file = home / FEATURES / place(symbol, on) / FILE
    _write(file, {"time": market.times, **columns})
    parts = dict(part.split("=") for part in place(symbol, on).parts)
    meta = {
        "featureset": "v1",
        **parts,
        "columns": ["time", *V1],
        "rows": len(market.times),
        "from": told(int(market.times[0])),
        "to": told(int(market.times[-1])),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "quotes_sha256": hashlib.sha256(quotes.read_bytes()).hexdigest(),
    }
    content = msgspec.json.format(msgspec.json.encode(meta), indent=2)
    durable.write(file.with_name(META), content + b"\n")
    return file


def _write(file: Path, columns: Columns) -> None:
    """Write columns as Parquet, whole or not at all; what nobody knows is null."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    arrays["time"] = pa.array(columns["time"], pa.timestamp("ns", "UTC"))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink)
    durable.write(file, sink.getvalue().to_pybytes())


def _swinging(chance: np.random.Generator, apart: Floats, lasting_s: float) -> Floats:
    """What is pulled back to 0 and pushed by chance, of variance 1 (Ornstein and Uhlenbeck)."""
    keep = np.exp(-apart / lasting_s)
    pushes = np.sqrt(1 - np.square(keep)) * chance.standard_normal(len(apart))
    found, now = np.empty(len(apart)), float(chance.standard_normal())
    for row, (kept, pushed) in enumerate(zip(keep.tolist(), pushes.tolist(), strict=True)):
        now = kept * now + pushed
        found[row] = now
    return found


def _level(seed: int, symbol: str, on: date) -> float:
    """Where the price begins that day, as a logarithm around the middle of all."""
    return DAILY_MOVE * float(_chance(seed, symbol, on, "level").standard_normal())


def _chance(seed: int, symbol: str, on: date, *more: str) -> np.random.Generator:
    words = " ".join([str(seed), symbol, on.strftime(DATE), *more])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big"))

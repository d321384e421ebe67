"""Days of quotes are the same for a seed, and features know nothing of what comes after them."""

import hashlib
import json
from datetime import date
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.direction import quotes
from trainers.direction.__main__ import main
from trainers.direction.features import v1

DAY = date(2025, 12, 28)


def prices(draw_seed, rows):
    chance = np.random.default_rng(draw_seed)
    bid = 100 + np.cumsum(chance.normal(0, 0.01, rows))
    return bid, bid + chance.choice([0.0, 0.01, 0.02], rows)


@settings(max_examples=60)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 60), kept=st.integers(1, 60))
def test_no_feature_changes_with_the_quotes_that_come_after_it(seed, rows, kept):
    """Features of the first quotes are those of a table that ends with them, to the bit."""
    bid, ask = prices(seed, rows)
    whole, cut = v1(bid, ask), v1(bid[:kept], ask[:kept])
    for name, values in cut.items():
        assert np.array_equal(values, whole[name][:kept], equal_nan=True)


def test_features_are_what_their_names_say():
    """Each is calculated here in another way."""
    bid, ask = prices(3, 40)
    built = v1(bid, ask)
    mid = [(one + other) / 2 for one, other in zip(bid, ask, strict=True)]
    returns = [np.nan] + [later / before - 1 for before, later in pairwise(mid)]
    assert list(built) == ["mid_price", "spread", "return_1", "volatility_10"]
    assert built["mid_price"] == pytest.approx(mid)
    assert built["spread"] == pytest.approx(ask - bid)
    assert built["return_1"] == pytest.approx(returns, nan_ok=True)
    for row in range(40):
        last = returns[row - 9 : row + 1]
        wanted = np.std(last) if row >= 10 else np.nan
        assert built["volatility_10"][row] == pytest.approx(wanted, nan_ok=True)


def test_a_day_is_the_same_for_a_seed_and_another_for_any_other(tmp_path):
    """Whichever other days there are; the bytes of its file, too."""
    same = [
        quotes.put(tmp_path / name, "btcusdt", DAY, per_s=0.01).read_bytes() for name in ("a", "b")
    ]
    assert same[0] == same[1]
    days = [
        quotes.day("btcusdt", DAY, per_s=0.01),
        quotes.day("btcusdt", DAY, seed=2, per_s=0.01),
        quotes.day("ethusdt", DAY, per_s=0.01),
        quotes.day("btcusdt", date(2025, 12, 29), per_s=0.01),
    ]
    assert len({one["bid"].tobytes() for one in days}) == len(days)


def test_a_day_is_one_of_quotes_that_can_be():
    """In order, within the day in UTC, never crossed, on ticks; now and then two have one time."""
    day = quotes.day("btcusdt", DAY, per_s=0.2)
    times = day["time"].astype("datetime64[ns]")
    assert np.all(np.diff(day["time"]) >= 0)
    assert np.datetime64("2025-12-28") <= times[0] < times[-1] < np.datetime64("2025-12-29")
    assert np.all(day["bid"] < day["ask"])
    assert np.all(day["bid_size"] > 0)
    assert np.allclose(day["bid"] * 100, np.round(day["bid"] * 100))


def test_sizes_lead_the_price():
    """Where more is bid than asked, the price goes up within seconds, more often than not."""
    day = quotes.day("btcusdt", DAY)
    mid = (day["bid"] + day["ask"]) / 2
    later = np.searchsorted(day["time"], day["time"] + 20 * 10**9, side="right") - 1
    lean = np.log(day["bid_size"] / day["ask_size"])
    assert np.corrcoef(lean, mid[later] - mid)[0, 1] > 0.05


def test_the_commands_put_quotes_and_features_where_the_page_has_them(tmp_path, capsys):
    """With what is said of the features beside them."""
    asked = [str(tmp_path), "--symbol", "ethusdt", "--date", "20251228", "--days", "2"]
    assert main(["quotes", *asked, "--per-second", "0.01"]) == 0
    assert main(["features", *asked]) == 0
    told = capsys.readouterr().out.splitlines()
    place = "exchange=binance/stream=bbo/symbol=ethusdt/date={}/data.parquet"
    assert told == [
        str(tmp_path / folder / place.format(day))
        for folder in ("quotes", "features/featureset=v1")
        for day in ("20251227", "20251228")
    ]
    (raw, built) = (tmp_path / told[1], tmp_path / told[3])
    assert pq.read_schema(raw).names == ["time", "bid", "ask", "bid_size", "ask_size"]
    features = pq.read_table(built)
    assert features.column_names == ["time", *v1(np.ones(2), np.ones(2))]
    assert features["return_1"].null_count == 1
    assert features["volatility_10"].null_count == 10
    meta = json.loads(built.with_name("meta.json").read_bytes())
    assert meta["rows"] == len(features)
    assert meta["sha256"] == hashlib.sha256(built.read_bytes()).hexdigest()
    assert meta["quotes_sha256"] == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert (meta["symbol"], meta["date"]) == ("ethusdt", "20251228")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["quotes", "--date", "20251301"], "Must be a day such as 20251228"),
        (["features", "--date", "20251228"], "Table not found"),
        (["quotes", "--date", "20251228", "--symbol", "../up"], "'../up' is no name"),
        (["quotes", "--date", "20251228", "--days", "0"], "'0' is no number from 1 on"),
        (["quotes", "--date", "20251228", "--per-second", "nan"], "is no number above 0"),
        (["score", "rows", "--begin", "noon"], "'noon' is no time in ISO 8601"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_line(tmp_path, capsys, asked, said):
    """No day is guessed."""
    command, *more = asked
    try:
        code = main([command, str(tmp_path), *more])
    except SystemExit as left:
        code = left.code
    assert code != 0
    assert said in capsys.readouterr().err

"""What is read of quotes, what becomes of the price, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.tables import write
from trainers.direction.learner import prepared
from trainers.direction.market import Market, cost, moved_before, outcome, read
from trainers.direction.options import V1, Dataset, Options, Rule
from trainers.tables import DataLoadError

BEGIN = np.datetime64("2025-12-28T00:00:00", "ns")
SECOND = np.timedelta64(1, "s")
MILLISECOND = np.timedelta64(1, "ms")

HERE = Dataset(featurePath="quotes.parquet")


def quoted(seconds, mid, spread=0.02, **more):
    """Columns of quotes at these seconds around these prices."""
    mid = np.asarray(mid, dtype=np.float64)
    return {
        "time": BEGIN + (np.asarray(seconds) * 1000).astype(np.int64) * MILLISECOND,
        "bid": mid - spread / 2,
        "ask": mid + spread / 2,
        "bid_size": np.ones(len(mid)),
        "ask_size": np.ones(len(mid)),
    } | more


def rule(horizon_s=10, *, flat_bps=None, cost_bps=None, features=("spread",)):
    return Rule(features=features, horizon_s=horizon_s, flat_bps=flat_bps, cost_bps=cost_bps)


@pytest.fixture
def market(tmp_path):
    """Makes a market of quotes: `market(seconds, mid)`."""

    def make(*quotes, features=("spread",), **more):
        write(tmp_path / "quotes.parquet", quoted(*quotes, **more))
        return read(["quotes.parquet"], tmp_path, features)

    return make


@settings(max_examples=80, deadline=None)
@given(
    apart=st.lists(st.integers(1, 9000), min_size=2, max_size=60),
    seed=st.integers(0, 1000),
    horizon_s=st.sampled_from([1, 3, 10]),
    flat_bps=st.sampled_from([None, 0.0, 2.0]),
)
def test_a_label_is_what_a_slow_look_at_each_quote_finds(apart, seed, horizon_s, flat_bps):
    """Quote by quote: which is the last within the horizon, and how far its price is away."""
    chance = np.random.default_rng(seed)
    seconds = np.cumsum(apart) / 1000
    mid = np.round(100 + np.cumsum(chance.normal(0, 0.02, len(apart))), 2)
    market = Market(
        times=quoted(seconds, mid)["time"].astype(np.int64),
        mid=mid,
        spread=np.full(len(mid), 0.02),
        x=np.empty((len(mid), 0)),
        sha256="",
        remarks=(),
        memory_bytes=0,
    )
    came = outcome(market, rule(horizon_s, flat_bps=flat_bps))
    for row, at in enumerate(seconds):
        within = [i for i in range(row + 1, len(apart)) if seconds[i] <= at + horizon_s + 1e-6]
        known = bool(within) and seconds[-1] >= at + horizon_s - 1e-6
        assert came.known[row] == known
        if not known:
            assert np.isnan(came.moved[row])
            continue
        moved = mid[within[-1]] - mid[row]
        limit = 0.01 if flat_bps is None else mid[row] * flat_bps / 1e4
        label = 0 if moved < -limit - 1e-6 else 2 if moved > limit + 1e-6 else 1
        assert came.classes[row] == label
        assert came.moved[row] == pytest.approx(moved / mid[row], abs=1e-12)


def test_a_move_of_half_the_spread_is_flat_and_a_little_more_is_not(market):
    """However the numbers round: prices lie on ticks."""
    flat = market([0, 1, 2, 20], [100.0, 100.01, 100.01, 100.01], spread=0.02)
    assert outcome(flat, rule(2)).classes[0] == 1
    up = market([0, 1, 2, 20], [100.0, 100.015, 100.015, 100.015], spread=0.02)
    assert outcome(up, rule(2)).classes[0] == 2


def test_a_quote_after_which_there_is_silence_has_no_label(market):
    """Whether the price stood still, or quotes were lost, nobody knows; it is said."""
    came = outcome(market([0, 5, 100, 105, 120], [1.0, 2.0, 3.0, 4.0, 5.0]), rule(10))
    assert came.known.tolist() == [True, False, True, False, False]
    assert "2 quotes are the last for more than 10 s" in came.remarks[0].line


def test_of_several_quotes_with_one_time_the_last_one_is_what_is_known(market):
    """What is built knows nothing of the others."""
    seen = market([0, 1, 1, 1, 2], [100.0, 7.0, 8.0, 101.0, 102.0], features=("return_1",))
    assert seen.mid.tolist() == [100.0, 101.0, 102.0]
    assert seen.x[1:, 0] == pytest.approx([0.01, 102 / 101 - 1])


def test_the_last_move_is_told_by_what_was_known_then(market):
    """No later quote changes it, and before the first horizon it is flat."""
    seen = market([0, 5, 10, 12, 21], [100.0, 101.0, 102.0, 99.0, 99.0])
    assert moved_before(seen, rule(10)).tolist() == [1, 1, 2, 0, 0]


def test_a_trade_costs_the_spread_or_what_is_said(market):
    seen = market([0, 1], [100.0, 200.0], spread=0.02)
    assert cost(seen, rule()) == pytest.approx([0.0002, 0.0001])
    assert cost(seen, rule(cost_bps=3.0)) == pytest.approx([0.0003, 0.0003])


def test_quotes_and_the_features_of_them_are_one_market(home_of_a_day):
    """Whoever has only the quotes trains on the same rows."""
    one, other = (read([place], home_of_a_day, V1) for place in ("quotes", "features"))
    assert one.sha256 == other.sha256


def test_days_in_a_folder_are_read_in_the_order_of_their_times(tmp_path):
    """Each is by itself: its first quote has no return."""
    later = quoted([100, 101, 102], [3.0, 4.0, 5.0])
    write(tmp_path / "a.parquet", later)
    (tmp_path / "b").mkdir()
    write(tmp_path / "b/x.csv", quoted([0, 1], [1.0, 2.0]))
    seen = read(["."], tmp_path, ("return_1",))
    assert seen.mid == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])
    assert np.isnan(seen.x[:, 0]).tolist() == [True, False, True, False, False]
    write(tmp_path / "c.parquet", later)
    with pytest.raises(DataLoadError, match="two files have quotes of 2025-12-28T00:01:40Z"):
        read(["."], tmp_path, ("return_1",))


def test_another_column_of_the_table_is_a_feature_where_it_is_named(market):
    seen = market([0, 1], [1.0, 2.0], features=("bid_size", "spread"))
    assert seen.x.tolist() == [[1.0, pytest.approx(0.02)], [1.0, pytest.approx(0.02)]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"bid": [1.0, 9.0, 1.0]}, "bid is above ask, 9 above 2.01, in 1 of 3 rows"),
        ({"bid": [1.0, -1.0, 1.0]}, "column bid is no price above 0 in 1 of 3 rows"),
        ({"ask": [1.01, 2.01, 0.0], "bid": [1.0, 2.0, 0.0]}, "column bid is no price above 0"),
        ({"ask": [1.01, np.inf, 4.0]}, "column ask is infinite in 1 of 3 rows, the first at 2025-"),
        ({"bid": [1.0, np.nan, 1.0]}, "column bid is missing in 1 of 3 rows"),
        ({"bid": ["a", "b", "c"]}, "column bid must be numbers, and is text"),
        ({"time": BEGIN + np.array([0, 2, 1]) * SECOND}, "time is not in order: row 3"),
        ({"spread": [1, 1, 1], "mid_price": [1.0, 0.0, 1.0]}, "column mid_price is no price above"),
        ({"spread": [1, -1, 1], "mid_price": [1.0, 1.0, 1.0]}, "column spread is below 0 in 1"),
    ],
)
def test_what_no_quotes_are_is_refused_in_one_line(tmp_path, columns, said):
    """With the rows that it is about."""
    there = quoted([0, 1, 2], [1.0, 2.0, 3.0])
    write(tmp_path / "quotes.parquet", there | columns)
    with pytest.raises(DataLoadError) as refused:
        read(["quotes.parquet"], tmp_path, ("spread",))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("gone", ["time", "ask"])
def test_a_column_that_is_not_there_is_named(tmp_path, gone):
    there = quoted([0, 1], [1.0, 2.0])
    del there[gone]
    write(tmp_path / "quotes.parquet", there)
    with pytest.raises(DataLoadError, match=f"Column not found: {gone} in quotes.parquet"):
        read(["quotes.parquet"], tmp_path, ("spread",))


def test_a_place_where_nothing_lies_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataLoadError, match="Table not found: features"):
        read(["features"], tmp_path, V1)
    with pytest.raises(DataLoadError, match="empty has no file that ends in"):
        read(["empty"], tmp_path, V1)


def test_the_parts_follow_each_other_with_a_gap_of_the_horizon(market):
    """No label of a part knows a price of the part that follows, nor is a quote in two parts."""
    chance = np.random.default_rng(1)
    seconds = np.cumsum(chance.exponential(1.0, 600))
    seen = market(seconds, 100 + np.cumsum(chance.normal(0, 0.02, 600)))
    quotes = prepared(seen, Options(dataset=HERE, validation_split=0.3, test_split=0.1))
    parts = (quotes.train, quotes.validation, quotes.test)
    horizon = 10 * 10**9
    for before, after in pairwise(parts):
        assert before.times[-1] + horizon < after.times[0]
    rows = [len(part) for part in parts]
    labelled = int(outcome(seen, rule()).known.sum())
    assert rows[2] == pytest.approx(0.1 * labelled, abs=1)
    assert labelled - 60 < sum(rows) <= labelled


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (np.arange(12), "of 12 quotes 2 have one 10 s later: too few for this split"),
        (np.arange(25), "none is left for the training part"),
        (np.arange(200), "quotes of the training part come to flat"),
    ],
)
def test_too_few_quotes_or_one_class_alone_are_refused(market, seconds, said):
    """A line says how many there are."""
    seen = market(seconds, np.full(len(seconds), 100.0))
    with pytest.raises(DataLoadError) as refused:
        prepared(seen, Options(dataset=HERE))
    assert said in str(refused.value)

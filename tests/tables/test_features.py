"""What is built of a series knows nothing that is younger than the horizon."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.tables import FIRST, HOUR, hourly, wanted, write
from trainers import tables
from trainers.tables import features
from trainers.tables.table import Column, Table, series_of
from trainers.tables.times import local, nanoseconds, spacing


def series(values, *, step=HOUR, times=None, fill=False):
    times = FIRST + np.arange(len(values)) * step if times is None else times
    instants = times.astype(np.int64)
    columns = {"load": Column(np.asarray(values, dtype=np.float64))}
    return series_of(Table(instants, columns, True, spacing(instants)), fill=fill)


def built(name, over, *, horizon=1, zone="UTC", at=None):
    config = wanted(features=(name,), horizon=horizon, zone=zone)
    (feature,) = features.plan(config, ["load", "time"])
    positions = over.spacing.positions if at is None else np.asarray(at)
    return features.values(feature, over, positions, config)


NAMES = st.sampled_from(
    ["hour_of_day", "day_of_week", "day_of_month", "month", "is_weekend", "historical_avg_24h",
     "historical_std_24h", "historical_min_24h", "historical_max_24h", "load_rolling_mean_5",
     "load_rolling_std_5h", "load_rolling_max_2"]
)  # fmt: skip


@settings(max_examples=60)
@given(
    name=NAMES | st.integers(0, 30).map(lambda more: more),
    horizon=st.integers(1, 30),
    at=st.integers(0, 119),
    gone=st.sets(st.integers(0, 119), max_size=4),
    fill=st.booleans(),
    seed=st.integers(0, 100),
)
def test_no_feature_changes_with_what_comes_after_it_could_be_known(
    name, horizon, at, gone, fill, seed
):
    """All that is younger than the horizon before a row may be anything: its features stay."""
    name = f"load_lag_{horizon + name}" if isinstance(name, int) else name
    chance = np.random.default_rng(seed)
    values = chance.normal(size=120)
    values[list(gone)] = np.nan
    other = values.copy()
    later = np.arange(120) > at - horizon
    other[later] = chance.choice([np.nan, 1e9, -1.0], size=int(later.sum()))
    one, two = (
        built(name, series(some, fill=fill), horizon=horizon, at=[at]) for some in (values, other)
    )
    np.testing.assert_array_equal(one, two)


def test_what_is_built_is_what_its_name_says():
    """Lags and windows by hand: a window ends where the horizon begins."""
    over = series(np.arange(100.0) ** 2)
    assert built("load_lag_3", over, at=[50]) == 47**2
    assert np.isnan(built("load_lag_51", over, at=[50]))
    last = np.arange(50 - 6 - 23, 50 - 6 + 1) ** 2.0
    for statistic, value in (
        ("avg", last.mean()), ("std", last.std(ddof=1)), ("min", last[0]), ("max", last[-1])
    ):  # fmt: skip
        name = f"historical_{statistic}_24h"
        assert built(name, over, horizon=6, at=[50]) == pytest.approx(value)
    assert built("load_rolling_mean_2", over, at=[10]) == (64 + 81) / 2
    assert np.isnan(built("load_rolling_mean_2", over, at=[1]))


def test_hours_are_steps_of_the_data():
    """Of half hours, 24 h are 48 steps, and a lag without a unit counts steps."""
    over = series(np.arange(200.0), step=HOUR // 2)
    assert built("load_lag_24h", over, at=[150]) == 150 - 48
    assert built("load_lag_24", over, at=[150]) == 150 - 24
    assert built("historical_min_24h", over, at=[150]) == 150 - 48
    with pytest.raises(tables.ConfigValidationError, match="1 h are no whole number of steps"):
        built("load_lag_1h", series(np.arange(9.0), step=3 * HOUR))


def test_a_lag_is_one_in_time_where_rows_are_missing():
    """A day before is a day before, whatever rows lie between; what is missing may be filled."""
    times = FIRST + np.delete(np.arange(60), [10, 30, 31]) * HOUR
    values = np.delete(np.arange(60.0), [10, 30, 31])
    over = series(values, times=times)
    at = over.spacing.positions[over.spacing.positions >= 24]
    found = built("load_lag_24", over, at=at)
    there = ~np.isin(at, [34, 54, 55])
    np.testing.assert_array_equal(found[there], (at - 24.0)[there])
    assert np.isnan(found[~there]).all()
    assert built("load_lag_24", series(values, times=times, fill=True), at=[34]) == 9


def test_months_are_a_step():
    """They are not equally long, and a lag of twelve of them is a year."""
    months = np.arange("2020-01", "2023-01", dtype="datetime64[M]").astype("datetime64[ns]")
    over = series(np.arange(36.0), times=months)
    assert over.spacing.words == "month"
    assert built("load_lag_12", over, at=[20]) == 8
    np.testing.assert_array_equal(built("month", over), np.arange(36) % 12 + 1)
    assert over.times_at(np.array([36]))[0] == np.datetime64("2023-01", "ns").astype(np.int64)


def test_times_without_a_step_have_no_lags():
    """What needs a step is refused by name, the calendar needs none."""
    times = FIRST + np.cumsum([0, 7, 11, 2, 30, 1, 13]) * np.timedelta64(1001, "ms")
    over = series(np.arange(7.0), times=times)
    assert over.spacing.step is None
    with pytest.raises(tables.ConfigValidationError, match="load_lag_1 needs rows that are evenly"):
        built("load_lag_1", over)
    assert (built("hour_of_day", over) == 0).all()


@settings(max_examples=30)
@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]),
    hour=st.integers(0, 24 * 366 * 2),
)
def test_the_calendar_is_that_of_the_zone(zone, hour):
    """Also when the clocks change; Monday is day 0."""
    moment = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    there = moment.astimezone(ZoneInfo(zone))
    clock = local(np.array([nanoseconds(moment)]), zone)
    found = [features.calendar(name, clock)[0] for name in features.CALENDAR]
    is_weekend = there.weekday() > 4
    assert found == [there.hour, there.weekday(), there.day, there.month, is_weekend]


def test_a_day_on_which_clocks_change():
    """In Berlin an hour is left out in spring, and one comes twice in autumn."""
    for day, hours in (
        ("2024-03-31", [0, 1, 3, 4]), ("2024-10-27", [0, 1, 2, 2, 3])
    ):  # fmt: skip
        midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
        first = nanoseconds(midnight.astimezone(UTC))
        clock = local(first + np.arange(len(hours)) * 3600 * 10**9, "Europe/Berlin")
        assert features.calendar("hour_of_day", clock).tolist() == hours


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("temprature", r"Column not found: temprature, and nothing .*; did you mean 'temperature'"),
        ("wind_lag_3", r"Column not found: wind, which wind_lag_3 is made of; there are: time, lo"),
        ("load_rolling_std_1", "load_rolling_std_1: its window must be at least 2"),
        ("load_rolling_mean_0", "its window must be at least 1"),
    ],
)
def test_what_cannot_be_built(tmp_path, name, line):
    """It is named, and so is what was perhaps meant."""
    write(tmp_path / "table.parquet", hourly(100))
    with pytest.raises(tables.TableError, match=line):
        tables.prepare(wanted(features=(name,)), tmp_path)


def test_a_column_goes_before_what_could_be_built(tmp_path):
    """Its owner knows best what it means; its name is looked at all the same."""
    write(tmp_path / "table.parquet", hourly(100, hour_of_day=np.arange(100) % 7))
    found = tables.prepare(wanted(features=("hour_of_day",)), tmp_path)
    assert found.card["features"] == [
        {"name": "hour_of_day", "kind": "column", "column": "hour_of_day"}
    ]
    assert found.train.x[:9, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]

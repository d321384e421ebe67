"""What tells a model what it cannot know is found before it is trained, and named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.tables import demand, hourly, wanted, write
from trainers import tables

ROWS = 1200


def prepared(home, columns, **more):
    write(home / "table.parquet", columns)
    return tables.prepare(wanted(**more), home)


def shifted(values, steps):
    """What the series will be some steps later, in each row; nothing at its end."""
    found = np.roll(values, -steps)
    if steps > 0:
        found[-steps:] = values[-1]
    else:
        found[:-steps] = values[0]
    return found


LOAD = hourly(ROWS)["load"]
NOISE = np.random.default_rng(5).normal(size=ROWS)
SAME_ORDER = r"has the order \(rank correlation 1\.000000\) of"


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (LOAD, "copy", "x is load at the same time"),
        (3 - LOAD / 7, "copy", "x is load at the same time"),
        (LOAD + NOISE / 10, "copy", r"x is nearly \(correlation 0\.99\d+\) load at the same time"),
        (np.exp(LOAD / 10), "copy", f"x {SAME_ORDER} load at the same time"),
        (1 / LOAD, "copy", f"x {SAME_ORDER} load at the same time"),
        (np.exp(shifted(LOAD, 7) / 10), "future", "x .* load 7 steps later"),
        (shifted(LOAD, 1), "future", "x is load 1 steps later"),
        (shifted(LOAD, 24), "future", "x is load 24 steps later"),
        (shifted(LOAD, 100) * 2, "future", "x is load 100 steps later"),
        (shifted(LOAD, -5), "copy", "x is load 5 steps earlier, within the horizon"),
    ],
)  # fmt: skip
def test_a_column_that_is_the_target_is_refused(tmp_path, values, kind, words):
    """At its time, later, or earlier than can be known; in other units, bent, with noise, too."""
    columns, more = hourly(ROWS, x=values), {"features": ("x", "hour_of_day"), "horizon": 24}
    more["preprocessing"] = tables.Preprocessing(missing="drop")
    if kind == "future":  # the last rows are made up
        columns = {name: column[: -int(words.split()[-3])] for name, column in columns.items()}
    with pytest.raises(
        tables.ConfigValidationError, match=f"features: Leakage: {words}; allow"
    ) as (caught):
        prepared(tmp_path, columns, **more)
    (found,) = caught.value.details["leakage"]
    assert (found["feature"], found["kind"], found["severity"]) == ("x", kind, "error")
    allowed = prepared(tmp_path, columns, allow_leakage=("x",), **more)
    assert allowed.card["leakage"]["verdict"] == "allowed"
    assert allowed.card["leakage"]["allowed"] == ["x"]
    assert allowed.card["leakage"]["findings"][0]["severity"] == "allowed"
    assert any("(allowed)" in line for line in allowed.card["remarks"])


def test_what_can_be_known_is_no_leak(tmp_path):
    """A lag of the horizon that the table brings, and neighbours in a smooth series."""
    columns = hourly(ROWS, past=shifted(LOAD, -24))
    more = {"features": ("past", "temperature"), "horizon": 24}
    assert prepared(tmp_path, columns, **more).card["leakage"]["verdict"] == "clean"
    smooth = np.cumsum(np.cumsum(NOISE))
    columns = hourly(ROWS, load=smooth, past=shifted(smooth, -2), warm=LOAD)
    more = {"features": ("past", "warm", "load_lag_2"), "horizon": 2}
    assert prepared(tmp_path, columns, **more).card["leakage"]["verdict"] == "clean"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"features": ("temperature", "load")}, "load is the target itself"),
        (
            {"features": ("load_lag_24", "load_lag_23"), "horizon": 24},
            "load_lag_23 is 23 steps old, and a forecast 24 steps ahead knows nothing that young",
        ),
        (
            {"features": ("load_lag_12h",), "horizon": 24},
            "load_lag_12h is 12 steps old",
        ),
        ({"features": ("temperature_lag_1",), "horizon": 2}, "temperature_lag_1 is 1 steps old"),
        ({"features": ("load_lag_0",)}, "load_lag_0 is 0 steps old"),
        ({"features": ("flag", "humidity"), "labels": "flag"}, "flag is the labels itself"),
    ],
)
def test_what_its_name_gives_away(tmp_path, more, words):
    """The target, and lags that are shorter than the horizon, built or brought."""
    columns = hourly(ROWS, flag=(NOISE > 2).astype(float), load_lag_23=NOISE)
    with pytest.raises(tables.ConfigValidationError) as caught:
        prepared(tmp_path, columns, **more)
    assert words in str(caught.value)
    del columns["load_lag_23"]
    allow = tuple(name for name in more["features"] if name in words)
    found = prepared(tmp_path, columns, allow_leakage=allow, **more)
    assert found.card["leakage"]["verdict"] == "allowed"


@pytest.mark.parametrize(
    ("statistic", "window", "before"),
    [
        ("mean", 24, 0),
        ("mean", 5, 0),
        ("std", 24, 0),
        ("max", 168, 0),
        ("min", 3, 1),
        ("mean", 48, 23),
    ],
)
def test_a_window_that_ends_too_late_is_refused(tmp_path, statistic, window, before):
    """A mean that nobody has shifted has the target itself in it, whatever it is called."""
    end = ROWS - before
    windows = np.lib.stride_tricks.sliding_window_view(LOAD, window)[: end - window + 1]
    made = np.full(ROWS, np.nan)
    made[before + window - 1 :] = getattr(windows, statistic)(axis=1)
    more = {
        "features": ("historical_avg_24h", "load_lag_24"),
        "horizon": 24,
        "preprocessing": tables.Preprocessing(missing="drop"),
    }
    columns = hourly(ROWS, historical_avg_24h=made)
    words = f"is the {statistic} of {window} values of load, the last of them {before} steps old"
    with pytest.raises(tables.ConfigValidationError, match=f"historical_avg_24h {words}"):
        prepared(tmp_path, columns, **more)
    columns["historical_avg_24h"] = np.roll(made, 24 - before)
    assert prepared(tmp_path, columns, **more).card["leakage"]["verdict"] == "clean"


def test_all_that_leaks_is_named_at_once(tmp_path):
    """So that nobody has to mend one after the other."""
    columns = hourly(ROWS, x=LOAD, y=shifted(LOAD, -1))
    with pytest.raises(tables.ConfigValidationError) as caught:
        prepared(tmp_path, columns, features=("x", "y", "temperature"), horizon=4)
    assert [one["feature"] for one in caught.value.details["leakage"]] == ["x", "y"]


def test_labels_are_no_feature_under_another_name(tmp_path):
    """What says which rows are anomalies is used to judge, and never to find them."""
    flag = (NOISE > 2).astype(float)
    more = {"model_type": "anomaly", "target": None, "labels": "flag", "horizon": 0}
    columns = hourly(ROWS, flag=flag, alarm=1 - flag)
    with pytest.raises(tables.ConfigValidationError, match="alarm is flag at the same time"):
        prepared(tmp_path, columns, features=("load", "alarm"), **more)
    found = prepared(tmp_path, columns, features=("load", "temperature"), **more)
    assert np.isnan(found.train.y).all()
    np.testing.assert_array_equal(found.train.labels, flag[: len(found.train)])


def test_columns_that_are_warned_of(tmp_path):
    """Ids, and what was scaled by rows that are held out: by name, and it is trained."""
    trend = NOISE + np.arange(ROWS) / 100
    columns = hourly(
        ROWS,
        id=np.random.default_rng(1).permutation(ROWS),
        scaled=(trend - trend.mean()) / trend.std(),
        between=(trend - trend.min()) / (trend.max() - trend.min()),
    )
    found = prepared(tmp_path, columns, features=("id", "scaled", "between", "temperature"))
    lines = {one["feature"]: one for one in found.card["leakage"]["findings"]}
    assert {name: one["kind"] for name, one in lines.items()} == {
        "id": "unique", "scaled": "scaled", "between": "scaled"
    }  # fmt: skip
    assert {one["severity"] for one in lines.values()} == {"warning"}
    assert found.card["leakage"]["verdict"] == "warned"
    assert lines["id"]["line"] == "id has 1,199 values in 1,199 rows, as an id has"
    assert "leakage: " + lines["scaled"]["line"] in found.card["remarks"]


def test_rows_that_are_on_both_sides_of_the_cut(tmp_path):
    """They are counted, unless a table repeats itself anyway."""
    columns = hourly(ROWS)
    for name in ("load", "temperature", "humidity"):
        columns[name][1000:1100] = columns[name][100:200]
    more = {"features": ("temperature", "humidity", "hour_of_day")}
    found = prepared(tmp_path, columns, **more)
    (line,) = [one["line"] for one in found.card["leakage"]["findings"]]
    assert line == "100 of 240 rows that are held out are in the training part, too"
    coarse = {name: np.round(values) % 3 for name, values in hourly(ROWS).items() if name != "time"}
    coarse["time"] = columns["time"]
    found = prepared(tmp_path, coarse, **more)
    assert found.card["leakage"]["verdict"] == "clean"


def test_a_real_series_and_its_lags_are_clean(tmp_path):
    """Half-hourly demand a day ahead, as whoever forecasts it would ask."""
    load = demand()
    times = np.datetime64("2000-06-05", "ns") + np.arange(len(load)) * np.timedelta64(1800, "s")
    columns = {"time": times, "load": load, "yesterday": shifted(load, -48)}
    found = prepared(
        tmp_path,
        columns,
        features=("yesterday", "hour_of_day", "day_of_week", "load_lag_336", "historical_avg_24h"),
        horizon=48,
    )
    assert found.card["leakage"]["verdict"] == "clean"


SERIES = {
    "noise": lambda chance, rows: chance.normal(size=rows),
    "a walk": lambda chance, rows: np.cumsum(chance.normal(size=rows)),
    "a smooth walk": lambda chance, rows: np.cumsum(np.cumsum(chance.normal(size=rows))),
    "days and weeks": lambda chance, rows: (
        np.sin(np.arange(rows) * 2 * np.pi / 24)
        + np.sin(np.arange(rows) * 2 * np.pi / 168) / 2
        + chance.normal(0, 0.05, rows)
    ),
}
made = st.sampled_from(sorted(SERIES))
seeds = st.integers(0, 10**6)


@settings(max_examples=40)
@given(kind=made, seed=seeds, shift=st.integers(1, 2400), holes=st.booleans())
def test_a_shift_of_any_length_is_seen(tmp_path_factory, kind, seed, shift, holes):
    """By a step, or by four fifths of the series; with holes, too."""
    home, chance = tmp_path_factory.mktemp("home"), np.random.default_rng(seed)
    rows = 3000
    load = SERIES[kind](chance, rows)
    x = np.append(load[shift:], chance.normal(size=shift)) if kind == "noise" else np.append(
        load[shift:], np.full(shift, np.nan)
    )  # fmt: skip
    if holes:
        x[chance.integers(0, rows, 30)] = np.nan
    columns = hourly(rows, load=load, x=x)
    more = {"preprocessing": tables.Preprocessing(missing="median"), "horizon": 24}
    with pytest.raises(tables.ConfigValidationError, match=f"x is load {shift} steps later"):
        prepared(home, columns, features=("x", "hour_of_day"), **more)


@settings(max_examples=40)
@given(
    one=st.sampled_from(["noise", "a walk", "days and weeks"]),
    other=st.sampled_from(["noise", "a walk", "days and weeks"]),
    seed=seeds,
    past=st.integers(24, 2000),
)
def test_what_is_no_shift_is_none(tmp_path_factory, one, other, seed, past):
    """Series that have nothing to do with each other, and any lag that can be known."""
    home, chance = tmp_path_factory.mktemp("home"), np.random.default_rng(seed)
    rows = 3000
    load, x = SERIES[one](chance, rows), SERIES[other](chance, rows)
    lag = np.append(np.full(past, np.nan), load[:-past])
    columns = hourly(rows, load=load, x=x, lag=lag)
    more = {"preprocessing": tables.Preprocessing(missing="median"), "horizon": 24}
    found = prepared(home, columns, features=("x", "lag"), **more)
    assert [it for it in found.card["leakage"]["findings"] if it["severity"] == "error"] == []


def test_what_repeats_itself_is_no_future(tmp_path):
    """Of a period without any noise each is like each: what was known tells as much."""
    wave = np.sin(np.arange(6000) * 2 * np.pi / 1500)
    columns = hourly(6000, load=wave, x=np.roll(wave, 100))
    found = prepared(tmp_path, columns, features=("x", "hour_of_day"), horizon=24)
    assert found.card["leakage"]["verdict"] == "clean"


def test_a_real_series_far_ahead_is_seen(tmp_path):
    """Of half-hourly demand eight weeks ahead, and of the weeks before nothing."""
    load = demand()
    times = np.datetime64("2000-06-05", "ns") + np.arange(len(load)) * np.timedelta64(1800, "s")
    for weeks in range(1, 11):
        ahead = np.append(load[336 * weeks :], np.full(336 * weeks, np.nan))
        columns = {"time": times, "load": load, "x": ahead, "past": shifted(load, -336)}
        more = {"preprocessing": tables.Preprocessing(missing="median"), "horizon": 48}
        with pytest.raises(tables.ConfigValidationError) as caught:
            prepared(tmp_path, columns, features=("x", "past"), **more)
        assert [one["feature"] for one in caught.value.details["leakage"]] == ["x"]
        assert f"x is load {336 * weeks} steps later" in str(caught.value)

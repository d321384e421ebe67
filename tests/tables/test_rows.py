"""Rows that nothing can be learnt from are refused by one line, before anything is trained."""

import json
import sqlite3
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testkit.tables import FIRST, HOUR, hourly, wanted, write
from trainers import tables
from trainers.tables import memory

ROWS = 240


def prepared(home, columns=None, **more):
    if columns is not None:
        write(home / "table.parquet", columns)
    return tables.prepare(wanted(**more), home)


def changed(name, row, value, *, kind=np.float64):
    columns = hourly(ROWS)
    columns[name] = columns[name].astype(kind)
    columns[name][row] = value
    return columns


def times(change):
    columns = hourly(ROWS)
    columns["time"] = change(columns["time"].copy())
    return columns


def swapped(at):
    at[[3, 4]] = at[[4, 3]]
    return at


def without(*rows):
    return {name: np.delete(values, rows) for name, values in hourly(ROWS).items()}


def mixed():
    text = [str(one)[:19] for one in hourly(ROWS)["time"]]
    text[7] += "+02:00"
    return hourly(ROWS) | {"time": text}


TROUBLES = [
    (
        {key: value[:0] for key, value in hourly(ROWS).items()},
        "table.parquet has no rows",
    ),
    (
        {key: value for key, value in hourly(ROWS).items() if key != "load"},
        "Column not found: load; there are: time, temperature, humidity",
    ),
    (
        times(swapped),
        "time is not in order: row 5, 2024-01-01T03:00:00Z, comes after 2024-01-01T04:00:00Z",
    ),
    (
        times(lambda at: np.concatenate((at[:9], at[8:-1]))),
        "1 rows have the time of another, the first at 2024-01-01T08:00:00Z",
    ),
    (
        mixed(),
        "time column time: row 8, '2024-01-01T07:00:00+02:00', has a zone, unlike rows before",
    ),
    (
        hourly(ROWS) | {"time": ["2024-01-01", *["soon"] * (ROWS - 1)]},
        "no column holds times",
    ),
    (
        hourly(ROWS) | {"time": pa.array([None, *range(1, ROWS)], pa.timestamp("s"))},
        "time column time: row 1 has no time",
    ),
    (
        without(10, 11, 50),
        "3 rows are missing in 2 gaps, the first after 2024-01-01T09:00:00Z, where rows",
    ),
    (
        changed("temperature", [3, 9], np.nan),
        "column temperature misses 2 of 240 values, the first at 2024-01-01T03:00:00Z; prepro",
    ),
    (
        changed("load", 3, np.nan),
        "column load misses 1 of 240 values",
    ),
    (
        changed("temperature", 5, -np.inf),
        "column temperature is infinite in 1 rows, the first at 2024-01-01T05:00:00Z",
    ),
    (
        hourly(ROWS, temperature=np.full(ROWS, 7.5)),
        "column temperature is constant: it is 7.5 in every row",
    ),
    (
        hourly(ROWS, temperature=["mild"] * ROWS),
        "column temperature is constant: it is mild in every row",
    ),
    (
        hourly(ROWS, load=["a", "b"] * (ROWS // 2)),
        "column load must be numbers, and has 'a'",
    ),
    (
        hourly(ROWS, temperature=[*[str(one) for one in range(ROWS - 1)], "1O"]),
        "column temperature must be numbers: row 240 has '1O'",
    ),
    (
        hourly(ROWS, temperature=[[1.0]] * ROWS),
        "column temperature must be numbers or text, and is list",
    ),
]


@pytest.mark.parametrize(("columns", "line"), TROUBLES)
def test_each_trouble_has_its_line(tmp_path, columns, line):
    """It says what is wrong, where, and where that helps what to do."""
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, columns)
    assert str(caught.value).startswith("Failed to load training data: ")
    assert line in str(caught.value)
    assert caught.value.details["reason"] in str(caught.value)
    assert "\n" not in str(caught.value)


NO_ROWS, ORDER, NESTED = 0, 2, 15
"""places of troubles that are told otherwise, that only files have, and only Parquet"""


@pytest.mark.parametrize(
    ("columns", "line"), [it for place, it in enumerate(TROUBLES) if place not in (NO_ROWS, NESTED)]
)
def test_a_csv_file_has_the_same_lines(tmp_path, columns, line):
    """Word for word."""
    write(tmp_path / "table.csv", columns)
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, data="table.csv")
    assert line in str(caught.value)


def in_sqlite(path, columns):
    """A table `t` of a database, with what is missing as NULL."""
    names = list(columns)
    table = pa.table({**columns, "time": pa.array(columns["time"])})
    values = [table[name].to_pylist() for name in names]
    values[0] = [one if isinstance(one, str | None) else str(one)[:19] for one in values[0]]
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(names)})")
        rows = [
            [None if one != one else one for one in row]  # noqa: PLR0124 - NaN
            for row in zip(*values, strict=True)
        ]
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO t VALUES ({marks})", rows)  # noqa: S608
    connection.close()


@pytest.mark.parametrize(
    ("columns", "line"),
    [it for place, it in enumerate(TROUBLES) if place not in (NO_ROWS, ORDER, NESTED)],
)
def test_a_database_has_the_same_lines(tmp_path, columns, line):
    """Word for word; only order it has none."""
    in_sqlite(tmp_path / "rows.db", columns)
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, data="sqlite:///rows.db", table="t")
    assert line in str(caught.value)


def test_a_time_that_is_none(tmp_path):
    """Its row is named."""
    text = [str(one)[:19] for one in hourly(ROWS)["time"]]
    text[200] = "soon"
    with pytest.raises(tables.DataLoadError, match="row 201 has 'soon', which is no time"):
        prepared(tmp_path, hourly(ROWS) | {"time": text}, time="time")


def test_no_such_time_column(tmp_path):
    """As any column that is not there."""
    with pytest.raises(tables.DataLoadError, match="not found: tmie; did you mean 'time'"):
        prepared(tmp_path, hourly(ROWS), time="tmie")


@pytest.mark.parametrize(
    ("asked", "field", "error"),
    [
        ({"validation_split": 1.5}, "validation_split", "Must be between 0.0 and 1.0"),
        ({"validation_split": float("nan")}, "validation_split", "Must be between 0.0 and 1.0"),
        ({"test_split": -0.1}, "test_split", "Must be between 0.0 and 1.0"),
        ({"validation_split": 0.0}, "validation_split", "With test_split it must hold out"),
        ({"test_split": 0.8}, "validation_split", "With test_split it must hold out"),
        ({"features": ()}, "features", "Must name at least one"),
        ({"features": ("load_lag_1", "load_lag_1")}, "features", "load_lag_1 stands there twice"),
        ({"target": None}, "target", "Must name the column that is forecast"),
        ({"horizon": 0}, "horizon", "Must be at least 1"),
        ({"horizon": 24, "gap": 23}, "gap", "Must be at least the horizon, 24"),
        ({"backtest": tables.Backtest(gap=0)}, "backtest.gap", "Must be at least the horizon, 1"),
        ({"training_start": "soon"}, "training_start", "Must be a time in ISO 8601"),
        ({"training_start": "2024", "training_end": "2023"}, "training_start", "Must be"),
        (
            {"training_start": "2024-01-02", "training_end": "2024-01-01"},
            "training_start",
            "Must be before training_end",
        ),
        ({"zone": "Europe/Bonn"}, "zone", "There is no time zone 'Europe/Bonn'"),
        ({"allow_leakage": ("x",)}, "allow_leakage", "x is none of the features"),
        (
            {"training_options": tables.TrainingOptions(use_sample=0.0)},
            "training_options.use_sample",
            "Must be more than 0.0, and at most 1.0",
        ),
    ],
)
def test_what_can_never_work_is_known_before_anything_is_read(tmp_path, asked, field, error):
    """The field is named, in the words of the document where it has some."""
    with pytest.raises(tables.ConfigValidationError) as caught:
        tables.prepare(wanted(**asked), tmp_path / "nowhere")
    assert caught.value.details["field"] == field
    assert caught.value.details["error"].startswith(error)
    assert str(caught.value).startswith(f"Invalid training configuration: {field}: {error}")


def test_the_document_s_own_example_is_a_configuration():
    """Word for word, but what is its trainer's."""
    import msgspec  # noqa: PLC0415

    asked = {
        "model_type": "forecast",
        "training_start": "2024-01-01T00:00:00",
        "training_end": "2024-12-31T23:59:59",
        "features": [
            "temperature", "humidity", "day_of_week", "hour_of_day", "load_lag_1", "load_lag_24"
        ],
        "target": "load",
        "validation_split": 0.2,
        "random_seed": 42,
        "training_options": {"batch_size": 1000, "use_sample": 0.5},
    }  # fmt: skip
    config = msgspec.convert(asked, tables.Config)
    tables.check(config)
    plain = tables.Config(features=config.features, target="load")
    assert (plain.validation_split, plain.random_seed, plain.horizon) == (0.2, 42, 1)


@pytest.mark.parametrize("missing", ["drop", "ffill", "median"])
def test_gaps_and_what_is_missing_can_be_lived_with(tmp_path, missing):
    """A row without a target is never trained on, and what is said tells the gaps."""
    columns = without(100, 101)
    columns["temperature"][[50, 60]] = np.nan
    columns["load"][150] = np.nan
    found = prepared(
        tmp_path, columns, preprocessing=tables.Preprocessing(missing=missing), test_split=0.1
    )
    everything = np.concatenate([found.train.x, found.validation.x, found.test.x])
    assert not np.isnan(everything).any()
    there = np.concatenate([part.times for part in (found.train, found.validation, found.test)])
    gone = (FIRST + np.array([100, 101, 152]) * HOUR).astype(np.int64)
    assert not np.isin(gone, there).any()
    assert not np.isnan(np.concatenate([found.train.y, found.validation.y])).any()
    assert any(line.startswith("2 rows are missing in 1 gaps") for line in found.card["remarks"])
    dropped = np.isin((FIRST + np.array([50, 102, 125]) * HOUR).astype(np.int64), there)
    assert dropped.tolist() == [missing != "drop"] * 3
    if missing == "ffill":
        at = int(np.searchsorted(found.train.times, (FIRST + 50 * HOUR).astype(np.int64)))
        assert found.train.x[at, 0] == found.train.x[at - 1, 0]


def test_too_few_rows(tmp_path):
    """The line says how many are left for what."""
    with pytest.raises(tables.DataLoadError, match="of 30 rows with a target 6 have all features"):
        prepared(tmp_path, hourly(30), test_split=0.1)
    asked = tables.Backtest(folds=5, step=20)
    with pytest.raises(tables.DataLoadError, match="40 rows are too few for 5 folds of 20"):
        prepared(tmp_path, hourly(40), features=("temperature",), backtest=asked)


def test_memory_is_refused_before_the_kernel_does(tmp_path, monkeypatch):
    """The line says what is needed, what is there, and what would need less."""
    write(tmp_path / "table.parquet", hourly(ROWS))
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    with pytest.raises(tables.ResourceError) as caught:
        prepared(tmp_path)
    assert "use_sample" in str(caught.value)
    assert caught.value.details["rows"] == ROWS
    assert caught.value.details["needed_bytes"] > caught.value.details["available_bytes"] == 10_000
    monkeypatch.setattr(memory, "available", lambda: None)
    assert len(prepared(tmp_path).train)


def test_a_sample_needs_less_memory_and_a_hungry_algorithm_more():
    """As the rest of what goes into the estimate."""
    asked = {"columns": 5, "features": 50, "value": 8}
    whole = memory.needed(10**6, factor=1, share=1, **asked)
    assert memory.needed(10**6, factor=1, share=0.1, **asked) < whole / 2
    assert memory.needed(10**6, factor=3, share=1, **asked) > 1.5 * whole
    assert memory.needed(2 * 10**6, factor=1, share=1, **asked) > 1.8 * whole
    assert memory.needed(10**6, factor=0, share=0.1, function=True, **asked) > whole


LIMITED = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
from pathlib import Path
from trainers import tables
asked = tables.Config(data=sys.argv[1], features=("c0", "load_lag_1"), target="load")
try:
    found = tables.prepare(asked, Path())
except tables.ResourceError as error:
    print(json.dumps({"needed": error.details["needed_bytes"], "line": str(error)}))
else:
    # That of `getrusage` would be no less than that of whoever has started this process.
    (peak,) = [line for line in Path("/proc/self/status").open() if line.startswith("VmHWM:")]
    print(json.dumps({"rows": len(found.train), "peak": int(peak.split()[1]) * 1024}))
"""


def test_five_million_rows_within_a_limit_of_memory(tmp_path):
    """They are read where they fit, and refused before they are read where not; nothing fails."""
    rows, chance = 5_000_000, np.random.default_rng(0)
    minutes = FIRST + np.arange(rows) * np.timedelta64(60, "s")
    columns = {"time": minutes, "load": chance.random(rows), "c0": chance.random(rows)}
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    del columns, minutes

    def prepared_within(mib):
        words = [sys.executable, "-c", LIMITED, str(path), str(mib * 2**20)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    refused = prepared_within(1400)
    assert "5,000,000 rows with 2 features need about" in refused["line"]
    enough = prepared_within(3600)
    assert enough["rows"] == 3_999_998
    assert 0.6 * refused["needed"] < enough["peak"] < refused["needed"] + 200 * 2**20


def test_what_limits_memory_is_looked_for(tmp_path, monkeypatch):
    """That of the machine, and that of each group that a process is in."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "a/b").mkdir(parents=True)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUP", groups)
    (proc / "self/statm").write_text("1000 10 10")
    assert memory.available() is None
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  5000 kB\n")
    assert memory.available() == 5000 * 1024
    (proc / "self/cgroup").write_text("0::/a/b\n")
    (groups / "a/memory.max").write_text("3000000\n")
    (groups / "a/memory.current").write_text("2000000\n")
    (groups / "a/memory.stat").write_text("anon 7\ninactive_file 500000\n")
    (groups / "a/b/memory.max").write_text("max\n")
    (groups / "a/b/memory.current").write_text("5\n")
    assert memory.available() == 1_500_000

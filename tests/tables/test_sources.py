"""Rows are the same wherever they lie, and what cannot be read is told in one line."""

import sqlite3
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy

from testkit.tables import hourly, wanted, write
from trainers import tables
from trainers.contract import Failure
from trainers.tables import sources

ROWS = 240


def prepared(home, **more):
    return tables.prepare(wanted(**more), home)


@pytest.fixture
def home(tmp_path):
    write(tmp_path / "table.parquet", hourly(ROWS))
    return tmp_path


def database(path, name="load_forecasting", columns=None, *, shuffled=True):
    columns = columns or hourly(ROWS)
    moments = [str(one)[:19] for one in columns["time"]]
    numbers = [columns[key].tolist() for key in ("load", "temperature", "humidity")]
    rows = list(zip(moments, *numbers, strict=True))
    with sqlite3.connect(path) as connection:
        connection.execute(f'CREATE TABLE "{name}" (time TEXT, load, temperature, humidity REAL)')
        order = np.random.default_rng(1).permutation(len(rows)) if shuffled else range(len(rows))
        connection.executemany(
            f'INSERT INTO "{name}" VALUES (?, ?, ?, ?)',  # noqa: S608 - names of the tests
            [rows[place] for place in order],
        )
    connection.close()


def same(one, other):
    for part in ("train", "validation", "test"):
        for what in ("x", "y", "times"):
            ours, theirs = getattr(getattr(one, part), what), getattr(getattr(other, part), what)
            np.testing.assert_array_equal(ours, theirs)
    assert one.card["data"]["sha256"] == other.card["data"]["sha256"]


def test_every_place_gives_the_same_rows(home):
    """CSV, Parquet, a folder of both and a database: the same matrices, and the same hash."""
    whole = prepared(home)
    write(home / "other.csv", hourly(ROWS))
    same(prepared(home, data="other.csv"), whole)
    same(prepared(home, data="other"), whole)
    (home / "folder").mkdir()
    columns = hourly(ROWS)
    # By name the last comes first: their times say in which order they are.
    for name, begin, end in (
        ("c.csv", 0, 100), ("b.parquet", 100, 150), ("a.csv", 150, ROWS)
    ):  # fmt: skip
        write(home / "folder" / name, {key: value[begin:end] for key, value in columns.items()})
    same(prepared(home, data="folder"), whole)
    database(home / "rows.db")
    same(prepared(home, data="sqlite:///rows.db", table="load_forecasting"), whole)
    database(home / "named.db", "features.load_forecasting")
    same(prepared(home, data="sqlite:///named.db"), whole)


def test_the_table_that_the_document_means_is_a_file_of_its_name(home):
    """Where nobody says where data are, it is `features.load_forecasting` of the home."""
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(home, data=None)
    error = caught.value
    assert str(error) == (
        "Failed to load training data: Table not found: features.load_forecasting"
    )
    assert (error.error, error.message) == ("DataLoadError", "Failed to load training data")
    reason = "Table not found: features.load_forecasting"
    assert error.details["reason"] == reason
    assert error.failure == Failure(kind="DataLoadError", reason=reason)
    write(home / "features.load_forecasting.csv", hourly(ROWS))
    assert len(prepared(home, data=None).train)


def test_a_database_is_read_and_never_made(home):
    """One that is not there stays so, and a table that is not there is named."""
    with pytest.raises(tables.DataLoadError, match=r"there is no database none\.db"):
        prepared(home, data="sqlite:///none.db")
    assert not (home / "none.db").exists()
    database(home / "rows.db", "other")
    with pytest.raises(tables.DataLoadError, match=r"Table not found: features\.load_forecasting"):
        prepared(home, data="sqlite:///rows.db")
    (home / "broken.db").write_bytes(b"no database" * 100)
    with pytest.raises(tables.DataLoadError, match="file is not a database"):
        prepared(home, data="sqlite:///broken.db", table="t")


def test_a_database_that_somebody_writes_to_is_asked_again(home, monkeypatch):
    """What may be over at the next start ends no run for ever; so does one that does not answer."""
    database(home / "a row? #1.db", "t")
    more = {"data": "sqlite:///a row%3F #1.db?timeout=0", "table": "t"}
    writer = sqlite3.connect(home / "a row? #1.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(tables.SourceAway, match="database is locked"):
        prepared(home, **more)
    writer.execute("ROLLBACK")
    writer.close()
    assert len(prepared(home, **more).train)

    def silent(*_, **__):
        raise sqlalchemy.exc.OperationalError("", {}, OSError("connection refused"))

    monkeypatch.setattr(sqlalchemy, "create_engine", lambda *_, **__: None)
    monkeypatch.setattr(sqlalchemy, "inspect", silent)
    with pytest.raises(tables.SourceAway, match=r"me:\*\*\*@host/db: connection refused"):
        prepared(home, data="postgresql://me:secret@host/db", table="t")


def test_no_password_is_ever_shown(home):
    """Of the URL of a database, what is told has none."""
    url = "mysql+none://me:secret@host/db"
    with pytest.raises(tables.ConfigValidationError) as caught:
        prepared(home, data=url)
    assert str(caught.value).startswith(
        "Invalid training configuration: data: Its driver is missing"
    )
    assert "secret" not in str(caught.value)
    with pytest.raises(tables.ConfigValidationError, match="data: Must be a path") as caught:
        prepared(home, data="://me:secret@host")
    assert "secret" not in str(caught.value)


def test_only_a_database_has_tables(home):
    """A name of a table beside a file is a mistake that is told, and so is a choice of its rows."""
    with pytest.raises(tables.ConfigValidationError, match="table: Only for a database"):
        prepared(home, table="t")
    with pytest.raises(tables.ConfigValidationError, match="only: Only for a database"):
        prepared(home, only={"tenant_id": "acme"})


def test_some_rows_of_a_database_are_told_from_others_to_the_letter(home, monkeypatch):
    """Also where its own comparison takes `ACME` for `acme`; where nothing can, it is refused."""
    database(home / "alone.db", "t")
    alone = prepared(home, data="sqlite:///alone.db", table="t")
    database(home / "shared.db", "t")
    with sqlite3.connect(home / "shared.db") as shared:
        shared.execute("ALTER TABLE t ADD tenant_id TEXT COLLATE NOCASE DEFAULT 'acme'")
        names = ", ".join(alone.card["data"]["schema"])
        shared.execute(
            f"INSERT INTO t (time, tenant_id, {names}) SELECT time, 'ACME', {names} FROM t"  # noqa: S608
        )
    more = {"data": "sqlite:///shared.db", "table": "t"}
    same(prepared(home, **more, only={"tenant_id": "acme"}), alone)
    with pytest.raises(tables.DataLoadError, match="rows have the time of another"):
        prepared(home, **more)
    monkeypatch.delitem(sources.TO_THE_LETTER, "sqlite")
    with pytest.raises(tables.ConfigValidationError, match="only: Only for PostgreSQL and SQLite"):
        prepared(home, **more, only={"tenant_id": "acme"})


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda at: (at / "table.parquet").write_bytes(b"PAR1 no"), "table.parquet cannot be read"),
        (lambda at: (at / "table.parquet").unlink(), "Table not found: table.parquet"),
    ],
)
def test_a_file_that_is_broken_or_gone(home, make, line):
    """It is named."""
    make(home)
    with pytest.raises(tables.DataLoadError, match=line):
        prepared(home)


def test_a_folder_without_tables(home):
    """It says which files it looks for."""
    (home / "empty").mkdir()
    with pytest.raises(tables.DataLoadError, match=r"no file that ends in \.parquet or \.csv"):
        prepared(home, data="empty")


def test_files_of_a_folder_that_do_not_fit(home):
    """The column whose kind differs is named, and so is one that a file has not."""
    (home / "folder").mkdir()
    write(home / "folder/a.parquet", hourly(50))
    later = {"time": hourly(100)["time"][50:]}
    text = hourly(50) | later | {"temperature": ["warm"] * 50}
    write(home / "folder/b.parquet", text)
    with pytest.raises(tables.DataLoadError, match="column temperature is not of one kind"):
        prepared(home, data="folder")
    fewer = hourly(50) | later
    del fewer["temperature"]
    write(home / "folder/b.parquet", fewer)
    with pytest.raises(tables.DataLoadError, match=r"Column not found: temperature in b\.parquet"):
        prepared(home, data="folder")


def times_as(kind):
    columns = hourly(ROWS)
    moments = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(ROWS)]  # noqa: DTZ001
    made = {
        "date and time": pa.array(moments, pa.timestamp("us")),
        "with a zone": pa.array(moments, pa.timestamp("ms", tz="Europe/Berlin")),
        "text": [one.isoformat() for one in moments],
        "text in Z": [one.isoformat() + "Z" for one in moments],
        "text with an offset": [
            (one + timedelta(hours=2)).isoformat(" ") + "+02:00" for one in moments
        ],
        "basic": [one.strftime("%Y%m%dT%H%M%S") for one in moments],
        "seconds": [1704067200 + 3600 * hour for hour in range(ROWS)],
        "milliseconds": [1000 * (1704067200 + 3600 * hour) for hour in range(ROWS)],
        "float": [1704067200.0 + 3600 * hour for hour in range(ROWS)],
    }
    return columns | {"time": made[kind]}


@pytest.mark.parametrize(
    "kind",
    ["date and time", "with a zone", "text", "text in Z", "text with an offset", "basic",
     "seconds", "milliseconds", "float"],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_time_is_a_time_however_it_is_written(home, kind, suffix):
    """As a value, as text, as a number since 1970: the same moment."""
    whole = prepared(home)
    write(home / f"other.{suffix}", times_as(kind))
    found = prepared(home, data=f"other.{suffix}", time="time")
    same(found, whole)
    naive = kind not in ("with a zone", "text in Z", "text with an offset")
    if not kind.endswith(("seconds", "float")):
        assert ("times have no zone: they are taken for UTC" in found.card["remarks"]) is naive


@pytest.mark.parametrize("kind", ["date and time", "text", "text in Z"])
def test_the_only_column_with_times_needs_no_name(home, kind):
    """Where there are two, or none, the line says so."""
    write(home / "table.parquet", times_as(kind))
    assert prepared(home).card["data"]["time"] == "time"
    write(home / "table.parquet", times_as(kind) | {"loaded_at": times_as(kind)["time"]})
    with pytest.raises(tables.DataLoadError, match="several columns hold times: time, loaded_at"):
        prepared(home)
    assert len(prepared(home, time="time").train)
    columns = hourly(ROWS)
    del columns["time"]
    write(home / "table.parquet", columns)
    with pytest.raises(tables.DataLoadError, match="no column holds times; there are: load"):
        prepared(home)


def test_only_rows_between_the_bounds_count(home):
    """Both of them count, and a time without a zone is UTC."""
    found = prepared(
        home, training_start="2024-01-03T00:00:00", training_end="2024-01-08T01:00:00+01:00"
    )
    assert found.card["rows"] == 5 * 24 + 1
    with pytest.raises(tables.DataLoadError, match="no row lies between"):
        prepared(home, training_start="2025-01-01")


def test_only_what_is_needed_is_read(home):
    """A broken column that nobody asks for is no trouble."""
    write(home / "table.parquet", hourly(ROWS, junk=[{"a": 1}] * ROWS))
    assert "junk" not in prepared(home).card["data"]["schema"]


def test_importing_it_is_light():
    """Neither NumPy nor Arrow is imported by who only checks what is asked."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    code = (
        "import sys; from trainers import tables; "
        "tables.check(tables.Config(features=('a',), target='b')); "
        "print([m for m in ('numpy', 'pyarrow', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_was_fitted_is_used_on_other_rows(home):
    """They are what they were in the table that was trained on, with or without a target."""
    write(home / "table.parquet", hourly(ROWS, city=["abc"[row % 3] for row in range(ROWS)]))
    asked = wanted(
        features=("temperature", "city", "load_lag_24"),
        preprocessing=tables.Preprocessing(scale="standard", categories="ordinal"),
        horizon=24,
    )
    whole = tables.prepare(asked, home)
    again = tables.rows_of(asked, home, whole.fitted)
    first = int(np.searchsorted(again.times, whole.validation.times[0]))
    np.testing.assert_array_equal(again.x[first:], whole.validation.x)
    np.testing.assert_array_equal(again.y[first:], whole.validation.y)
    columns = hourly(ROWS, city=["abc"[row % 3] for row in range(ROWS)])
    columns["load"] = np.where(np.arange(ROWS) < ROWS - 24, columns["load"], np.nan)
    write(home / "later.parquet", columns)
    later = tables.rows_of(msgspec.structs.replace(asked, data="later.parquet"), home, whole.fitted)
    np.testing.assert_array_equal(later.x, again.x)
    assert np.isnan(later.y).sum() == 24
    asked_of = msgspec.structs.replace(asked, data="later.parquet")
    assert len(tables.rows_of(asked_of, home, whole.fitted, step=whole.card["step"]))
    daily = columns | {"time": columns["time"][0] + np.arange(ROWS) * np.timedelta64(86400, "s")}
    write(home / "later.parquet", daily)
    with pytest.raises(tables.DataLoadError, match=r"the step of its rows is 1 d, and .* 1 h"):
        tables.rows_of(asked_of, home, whole.fitted, step=whole.card["step"])
    write(home / "later.parquet", columns | {"city": np.arange(ROWS)})
    with pytest.raises(tables.DataLoadError, match="city was text when the model was trained"):
        tables.rows_of(msgspec.structs.replace(asked, data="later.parquet"), home, whole.fitted)


def test_what_is_built_from_the_past_reaches_past_the_last_row(home):
    """The steps of the horizon after the last row have features, and no target yet."""
    asked = wanted(features=("hour_of_day", "load_lag_24", "load_lag_48"), horizon=24)
    whole = tables.prepare(asked, home)
    rows = tables.rows_of(asked, home, whole.fitted)
    assert len(rows) == ROWS - 48 + 24
    assert np.isnan(rows.y[-24:]).all()
    assert not np.isnan(rows.y[:-24]).any()
    np.testing.assert_array_equal(rows.x[-24:, 1], hourly(ROWS)["load"][-24:])
    np.testing.assert_array_equal(rows.x[-24:, 0], np.arange(24) % 24)


LONG = 60_000
"""rows of a CSV file that is longer than what a look at its beginning sees"""


def late(path, first, last):
    """Such a file, with a column that is something else in its last hundred rows."""
    columns = hourly(LONG)
    del columns["humidity"]
    write(path, columns)
    head, *lines = path.read_text().splitlines()
    fields = [first(row) if row < LONG - 100 else last(row) for row in range(LONG)]
    lines = [f"{line},{field}" for line, field in zip(lines, fields, strict=True)]
    path.write_text("\n".join([f"{head},humidity", *lines, ""]))


@pytest.mark.parametrize("first", ["7", ""])
def test_what_a_column_holds_is_not_decided_by_its_first_rows(home, first):
    """Whole numbers get a fraction, empty fields become numbers: they are numbers throughout."""
    late(home / "late.csv", lambda _: first, lambda row: f"{row % 7}.5")
    more = {
        "data": "late.csv",
        "features": ("humidity", "hour_of_day"),
        "preprocessing": tables.Preprocessing(missing="error" if first else "drop"),
        "validation_split": 0.0005,
    }
    found = prepared(home, **more)
    assert found.validation.x[-1, 0] == (LONG - 1) % 7 + 0.5
    assert found.categories == {}


def test_a_word_at_the_end_of_numbers_is_found(home):
    """With its row, as if it had stood at the beginning."""
    late(home / "late.csv", lambda row: f"{row}.5", lambda _: "mild")
    line = "column humidity must be numbers: row 59901 has 'mild'"
    with pytest.raises(tables.DataLoadError, match=line):
        prepared(home, data="late.csv", features=("humidity",))


def test_times_that_change_their_form_late_are_times(home):
    """Fractions of seconds at the end of a CSV file; a zone there is a mistake, and is told."""
    columns = hourly(LONG)
    times = [str(one)[:19] for one in columns["time"]]
    write(home / "late.csv", columns | {"time": [*times[:-1], times[-1] + ".250"]})
    found = prepared(home, data="late.csv", time="time", features=("hour_of_day",))
    assert found.validation.times[-1] % 10**9 == 250_000_000
    write(home / "late.csv", columns | {"time": [*times[:-1], times[-1] + "Z"]})
    with pytest.raises(tables.DataLoadError, match=r"row 60000, .*, has a zone, unlike rows"):
        prepared(home, data="late.csv", time="time")

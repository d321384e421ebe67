"""Tables of a real PostgreSQL server are as good as files, and it may go away at any time."""

import json
import socket
import time

import numpy as np
import pytest

from testkit import servers
from testkit.mortal import live
from testkit.tables import hourly, table_run, wanted, write
from trainers import tables
from trainers.contract import EXIT_DONE
from trainers.tables import sources

ROWS = 400


@pytest.fixture(scope="session")
def server():
    with servers.postgresql() as server:
        yield server


@pytest.fixture
def sql(server):
    """Runs statements in the database, which is empty at first."""
    with server.master() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS features CASCADE")
        cursor.execute("CREATE SCHEMA features")
        yield cursor.execute


def filled(sql, columns, kinds, name="features.load_forecasting"):
    """A table with rows in any order."""
    declared = ", ".join(f"{column} {kind}" for column, kind in kinds.items())
    sql(f"CREATE TABLE {name} ({declared})")
    order = np.random.default_rng(3).permutation(len(columns["time"]))
    rows = list(zip(*(columns[column] for column in kinds), strict=True))
    with sql("SELECT 1").copy(f"COPY {name} FROM STDIN") as copy:
        for place in order:
            copy.write_row(rows[place])


def text(columns):
    moments = [str(one)[:19] for one in columns["time"]]
    return columns | {"time": moments}


KINDS = {
    "time": "timestamp",
    "load": "double precision",
    "temperature": "double precision",
    "humidity": "double precision",
}


def prepared(home, server, **more):
    return tables.prepare(wanted(**({"data": server.url_with_password} | more)), home)


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "text"])
def test_the_same_rows_are_the_same_whether_of_a_server_or_a_file(server, sql, tmp_path, kind):
    """The document's table, in any order, in any kind of times: to the hash those of a CSV file."""
    columns = hourly(ROWS)
    zone = "Z" if kind == "timestamptz" else ""
    times = [f"{one}{zone}" for one in text(columns)["time"]]
    filled(sql, columns | {"time": times}, KINDS | {"time": kind})
    found = prepared(tmp_path, server)
    write(tmp_path / "table.csv", columns)
    whole = prepared(tmp_path, server, data="table.csv")
    assert found.card["data"]["sha256"] == whole.card["data"]["sha256"]
    np.testing.assert_array_equal(found.train.x, whole.train.x)
    naive = "times have no zone: they are taken for UTC" in found.card["remarks"]
    assert naive is (kind != "timestamptz")
    assert not _holds(str(found.card).encode())
    assert found.card["data"]["source"] == server.url_with_password.replace(servers.QUOTED, "***")


def test_a_night_on_which_clocks_change_is_as_long_as_it_is(server, sql, tmp_path):
    """In the session's own zone an hour comes twice, and in the table it does not."""
    columns = hourly(ROWS)
    columns["time"] = columns["time"] + (np.datetime64("2024-10-20") - columns["time"][0])
    times = [f"{one}Z" for one in text(columns)["time"]]
    filled(sql, columns | {"time": times}, KINDS | {"time": "timestamptz"})
    write(tmp_path / "table.csv", columns)
    one, other = prepared(tmp_path, server), prepared(tmp_path, server, data="table.csv")
    assert one.card["data"]["sha256"] == other.card["data"]["sha256"]


def test_decimals_and_days_are_numbers_and_times(server, sql, tmp_path):
    """NUMERIC becomes the nearest float, DATE is midnight, BOOLEAN is 0 or 1, NULL is missing."""
    columns = hourly(ROWS)
    days = columns["time"][0].astype("datetime64[D]") + np.arange(ROWS)
    load = [f"{one:.7f}" for one in columns["load"]]
    temperature = [None if row in (7, 300) else f"{one:.3f}" for row, one in
                   enumerate(columns["temperature"])]  # fmt: skip
    given = {"time": [str(day) for day in days], "load": load, "temperature": temperature}
    given["humidity"] = [one > 0.5 for one in columns["humidity"]]
    kinds = {"time": "date", "load": "numeric", "temperature": "numeric(9, 3)", "humidity": "bool"}
    filled(sql, given, kinds)
    more = {
        "features": ("temperature", "humidity", "load_lag_7"),
        "preprocessing": tables.Preprocessing(missing="ffill"),
    }
    found = prepared(tmp_path, server, **more)
    assert found.card["step"] == "1 d"
    np.testing.assert_array_equal(
        found.train.y, [float(one) for one in load[7 : 7 + len(found.train)]]
    )
    at = 7 + np.arange(len(found.train))
    np.testing.assert_array_equal(found.train.x[:, 1], (columns["humidity"] > 0.5)[at])
    known = [float(one) if one else None for one in temperature]
    known[7], known[300] = known[6], known[299]
    np.testing.assert_array_equal(found.train.x[:, 0], np.array(known)[at])
    with pytest.raises(
        tables.DataLoadError, match="temperature misses 2 of 400 values, the first at 2024-01-08"
    ):
        prepared(tmp_path, server, features=("temperature",))


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        ("numeric", "'Infinity'", "column temperature is infinite in 1 rows"),
        ("double precision", "'NaN'", "column temperature misses 1 of 400 values"),
        ("jsonb", "'{}'", "column temperature must be numbers or text, and is struct"),
        ("interval", "'1 hour'", "column temperature must be numbers or text, and is duration"),
    ],
)
def test_what_is_no_number_has_its_line(server, sql, tmp_path, kind, value, line):
    """As in a file."""
    columns = text(hourly(ROWS))
    filled(sql, columns, KINDS)
    first = "" if kind in ("numeric", "double precision") else f"USING {value}::{kind}"
    sql(f"ALTER TABLE features.load_forecasting ALTER temperature TYPE {kind} {first}")
    sql(f"UPDATE features.load_forecasting SET temperature = {value} WHERE time = '2024-01-02'")  # noqa: S608
    with pytest.raises(tables.DataLoadError, match=line):
        prepared(tmp_path, server)


def test_what_is_not_there_is_told_in_the_document_s_words(server, sql, tmp_path):
    """A table, one with its schema, a column."""
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, server)
    assert str(caught.value) == (
        "Failed to load training data: Table not found: features.load_forecasting"
    )
    with pytest.raises(tables.DataLoadError, match=r"Table not found: nowhere\.loads"):
        prepared(tmp_path, server, table="nowhere.loads")
    filled(sql, text(hourly(ROWS)), KINDS)
    with pytest.raises(tables.DataLoadError, match=r"not found: temprature, .* mean 'temperature'"):
        prepared(tmp_path, server, features=("temprature",))
    sql("DELETE FROM features.load_forecasting")
    with pytest.raises(tables.DataLoadError, match=r"features\.load_forecasting has no rows"):
        prepared(tmp_path, server, time="time")


def test_views_are_tables(server, sql, tmp_path):
    """Materialized ones, too."""
    filled(sql, text(hourly(ROWS)), KINDS)
    for kind in ("VIEW", "MATERIALIZED VIEW"):
        name = f"features.{kind.split()[0].lower()}"
        sql(f"CREATE {kind} {name} AS TABLE features.load_forecasting")
        assert len(prepared(tmp_path, server, table=name).train)


def test_a_server_that_is_not_there_is_asked_again_later(server, tmp_path):
    """It refuses, or it accepts and is silent: neither takes for ever, and no password is told."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        url = f"postgresql://me:secret@127.0.0.1:{port}/db?connect_timeout=2"
        with pytest.raises(tables.SourceAway, match=r"me:\*\*\*@127.*refused") as caught:
            prepared(tmp_path, server, data=url)
        assert "secret" not in str(caught.value)
        silent.listen()
        began_s = time.monotonic()
        with pytest.raises(tables.SourceAway, match="timeout") as caught:
            prepared(tmp_path, server, data=f"{url}&sslpassword=secret")
        assert time.monotonic() - began_s < 10
        assert "secret" not in str(caught.value)


def test_a_server_that_stops_in_the_midst_of_a_read_is_asked_again_later(
    server, sql, tmp_path, monkeypatch
):
    """Half a table is none."""
    filled(sql, text(hourly(ROWS)), KINDS)
    monkeypatch.setattr(sources, "ROWS_AT_ONCE", 50)
    heard = []

    def working():
        heard.append(1)
        if len(heard) == 4:
            server.stop()

    try:
        with pytest.raises(tables.SourceAway, match=r"reader:\*\*\*@127"):
            tables.prepare(wanted(data=server.url_with_password), tmp_path, working=working)
        assert len(heard) >= 4
    finally:
        server.start()
    assert len(prepared(tmp_path, server).train)


def test_a_table_is_read_in_pieces(server, sql, tmp_path, monkeypatch):
    """The server keeps what was not fetched yet, so that a large table never lies in the driver."""
    filled(sql, text(hourly(ROWS)), KINDS)
    monkeypatch.setattr(sources, "ROWS_AT_ONCE", 50)
    asked = []

    def working():
        found = sql("SELECT query FROM pg_stat_activity WHERE query LIKE 'FETCH %'")
        asked.extend(query for (query,) in found)

    tables.prepare(wanted(data=server.url_with_password), tmp_path, working=working)
    assert len(asked) == ROWS / 50
    assert max(int(query.split()[2]) for query in asked) == 50


def test_what_a_run_leaves_does_not_know_the_password(tmp_path, server, sql):
    """Neither its card nor its checkpoint, its log or its heartbeat: the spec alone has it."""
    filled(sql, text(hourly(ROWS)), KINDS)
    address = server.url_with_password
    asked = {"features": ["load_lag_24"], "target": "load", "hyperparameters": {"n_estimators": 5}}
    run = table_run(tmp_path, "tabular", data=address, table="features.load_forecasting", **asked)
    assert live((run, "NEVER", 0)) == [EXIT_DONE]
    card = json.loads((run / "model_card.json").read_bytes())
    assert card["options"]["data"] == card["data"]["source"]
    holders = [path.name for path in run.rglob("*") if path.is_file() and _holds(path.read_bytes())]
    assert holders == ["spec.json"]


def _holds(content):
    """Whether the password is in it, plain or as an address has it."""
    return servers.SECRET.encode() in content or servers.QUOTED.encode() in content

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
        sql(f"CREATE {kind} {name} AS SELECT *, 'a' AS whose FROM features.load_forecasting")  # noqa: S608 - names of the test
        assert prepared(tmp_path, server, table=name, only={"whose": "a"}).card["rows"] == ROWS
        with pytest.raises(tables.DataLoadError, match="has no rows"):
            prepared(tmp_path, server, table=name, time="time", only={"whose": "b"})


ACME = "acme"
OTHERS = ("ACME", "acme ", "acme-2", "\u0430cme", "", None, "%", "acme' OR ''='")
"""whoever is not `acme`, by what is nearly the same"""


def shared(sql, kind="text"):
    """A table with rows of several, all with the same times; those of `acme`, as columns."""
    sql(
        "CREATE COLLATION IF NOT EXISTS any_case "
        "(provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
    )
    mine = text(hourly(ROWS))
    columns = {key: [] for key in (*KINDS, "tenant_id")}
    for number, whose in enumerate((ACME, *OTHERS)):
        for key, values in (mine if not number else text(hourly(ROWS, seed=number))).items():
            columns[key].extend(values)
        columns["tenant_id"].extend([whose] * ROWS)
    filled(sql, columns, KINDS | {"tenant_id": kind})
    return hourly(ROWS)


@pytest.mark.parametrize("kind", ["text", "text COLLATE any_case"])
def test_rows_of_one_are_told_from_those_of_all_others(server, sql, tmp_path, kind):
    """To the letter, also where the column is told to take `ACME` for `acme`."""
    write(tmp_path / "mine.csv", shared(sql, kind))
    mine = prepared(tmp_path, server, data="mine.csv")
    found = prepared(tmp_path, server, only={"tenant_id": ACME})
    assert found.card["data"]["sha256"] == mine.card["data"]["sha256"]
    assert found.card["rows"] == ROWS
    assert "tenant_id" not in found.card["data"]["schema"]


def test_what_is_padded_is_told_without_its_blanks(server, sql, tmp_path):
    columns = hourly(ROWS) | {"tenant_id": [ACME] * ROWS}
    filled(sql, text(columns), KINDS | {"tenant_id": "char(9)"})
    assert prepared(tmp_path, server, only={"tenant_id": ACME}).card["rows"] == ROWS


@pytest.mark.parametrize(
    ("only", "more", "line"),
    [
        ({"tenant_id": "nobody"}, {"time": "time"}, "load_forecasting has no rows"),
        ({"tenant_id": "acme%"}, {"time": "time"}, "load_forecasting has no rows"),
        ({"tenant_id": "x' OR 'a'='a"}, {"time": "time"}, "load_forecasting has no rows"),
        ({"whose": ACME}, {}, "features.load_forecasting has no column whose, which says"),
        ({"tenant_id": ACME, "load": "1"}, {}, "column load of .* which rows count, and must be"),
        ({"tenant_id": ACME}, {"features": ("tenant_id",)}, "Column not found: tenant_id"),
        ({"tenant_id": ACME}, {"target": "tenant_id"}, "Column not found: tenant_id"),
        ({"tenant_id": ACME}, {"time": "tenant_id"}, "Column not found: tenant_id"),
    ],
)
def test_what_says_which_rows_count_leads_to_no_others(server, sql, tmp_path, only, more, line):
    """And is no column that can be learnt from."""
    shared(sql)
    with pytest.raises(tables.TableError, match=line) as caught:
        prepared(tmp_path, server, only=only, **more)
    assert "acme-2" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("features.numbered", "column tenant_id of features.numbered says which rows count"),
        ("features.listed", "column tenant_id of features.listed says which rows count"),
        ("features.hidden", "features.hidden has no column tenant_id, which says which"),
        ("pg_catalog.pg_authid", "pg_catalog.pg_authid has no column tenant_id"),
        ("information_schema.columns", "information_schema.columns has no column tenant_id"),
        ("load_forecasting", "Table not found: load_forecasting"),
        ("features.Load_Forecasting", "Table not found: features.Load_Forecasting"),
        ('features"."load_forecasting', "Table not found: "),
        ("features.load_forecasting; SELECT 1", "Table not found: "),
        ("features.l\u043ead_forecasting", "Table not found: "),
        ("features.load_forecasting\0", "cannot contain NUL"),
    ],
)
def test_a_table_that_does_not_say_whose_its_rows_are_has_none_for_anybody(
    server, sql, tmp_path, table, line
):
    """Nor has one whose name is only nearly that of another."""
    shared(sql)
    sql("CREATE TABLE features.numbered AS SELECT time, load, 1 AS tenant_id FROM "
        "features.load_forecasting")  # fmt: skip
    sql("CREATE TYPE features.whose AS ENUM ('acme')")
    sql("CREATE TABLE features.listed AS SELECT time, load, 'acme'::features.whose AS tenant_id "
        "FROM features.load_forecasting LIMIT 1")  # fmt: skip
    sql("CREATE VIEW features.hidden AS SELECT time, load FROM features.load_forecasting")
    with pytest.raises(tables.DataLoadError, match=line):
        prepared(tmp_path, server, table=table, only={"tenant_id": ACME})


def test_an_index_on_what_says_which_rows_count_is_used(server, sql, tmp_path, monkeypatch):
    """A table of many is not read whole for the rows of one."""
    shared(sql)
    sql("CREATE INDEX ON features.load_forecasting (tenant_id)")
    sql("ANALYZE features.load_forecasting")
    asked = []
    monkeypatch.setattr(
        sources._Database, "_select", _noting(sources._Database._select, asked.append)
    )
    prepared(tmp_path, server, only={"tenant_id": ACME})
    for query in asked:
        plan = "\n".join(line for (line,) in sql(f"EXPLAIN {query}"))
        assert "Index Cond: (tenant_id = " in plan, plan


def _noting(select, note):
    """What a query is, in whole SQL, to be noted when it is made."""

    def noted(self, *what):
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - of this test alone

        query = select(self, *what)
        words = {"literal_binds": True}
        note(str(query.compile(dialect=postgresql.dialect(), compile_kwargs=words)))
        return query

    return noted


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

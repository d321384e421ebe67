"""Real databases are asked read-only, in time, and what is wrong with one is a line."""

import datetime as dt
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from supervisor.core.quiet_hours import QuietHours, UsageSource
from supervisor.usage.analysis import History, analyse
from supervisor.usage.gathering import gather
from supervisor.usage.ring import Ring
from supervisor.usage.sources import Asking, SourceTrouble, ask, look
from testkit import servers
from testkit.game_servers import GameServer
from testkit.patience import PATIENCE_S

BERLIN = ZoneInfo("Europe/Berlin")
NOW = dt.datetime(2026, 11, 2, 12, tzinfo=BERLIN).timestamp()
SECRETS = {"READER": servers.SECRET}
ASKING = Asking(here=Path("/"), zone=BERLIN, since=NOW - 30 * 86_400, until=NOW)


@pytest.fixture(scope="module")
def mariadb():
    with servers.mariadb() as server:
        server.run(
            "CREATE TABLE loginlog (time DATETIME, ip VARCHAR(15), user VARCHAR(23), rcode INT)",
            "CREATE TABLE `char` (account_id INT, online INT, last_login DATETIME)",
        )
        server.fill(
            "INSERT INTO `char` VALUES (%s, %s, %s)",
            [(number, number % 3 == 0, "2026-11-01 20:00:00") for number in range(30)],
        )
        yield server


@pytest.fixture(scope="module")
def postgresql():
    with servers.postgresql() as server:
        server.run(
            "CREATE TABLE ml_system_health (timestamp timestamptz, cpu_percent real,"
            " memory_percent real, active_monsters int)",
            "CREATE TABLE naive (at timestamp, value real)",
        )
        yield server


def source(server, kind, **more):
    """A source whose password the environment has."""
    fields = {"kind": kind, "url": server.url, "password_env": "READER", **more}
    return UsageSource(**fields)


def why(asked, environment=SECRETS, asking=ASKING):
    """In which line it is said that nothing is told; no secret is in it."""
    with pytest.raises(SourceTrouble) as trouble:
        ask(asked, asking, environment)
    line = str(trouble.value)
    assert servers.SECRET not in line
    assert "\n" not in line
    return line


def test_logins_are_counted_by_hour_and_failed_ones_tell_that_it_was_up(mariadb):
    """Naive times are those of the zone; an hour of failed logins has none, and is told."""
    mariadb.run("DELETE FROM loginlog")
    mariadb.fill(
        "INSERT INTO loginlog VALUES (%s, '1.2.3.4', 'somebody', %s)",
        [
            *[("2026-10-20 18:00:00", 100)] * 3,
            ("2026-10-20 18:59:59", 100),
            ("2026-10-20 19:10:00", 1),
            ("2020-01-01 00:00:00", 100),
        ],
    )
    told = ask(source(mariadb, "loginlog"), ASKING, SECRETS)
    (series,) = told.series
    six = dt.datetime(2026, 10, 20, 18, tzinfo=BERLIN).timestamp()
    assert (series.metric, series.counted) == ("players", True)
    assert sorted(series.points) == [(six, 4.0), (six + 3600, 0.0)]
    assert told.rows == 4


def test_an_hour_that_a_night_has_twice_is_told_of_both(mariadb):
    """A naive time in it may be of either: each has half of its logins."""
    mariadb.run("DELETE FROM loginlog")
    mariadb.fill(
        "INSERT INTO loginlog VALUES (%s, '1.2.3.4', 'somebody', 100)",
        [("2026-10-25 02:30:00",)] * 6,
    )
    (series,) = ask(source(mariadb, "loginlog"), ASKING, SECRETS).series
    first = dt.datetime(2026, 10, 25, 0, tzinfo=dt.UTC).timestamp()
    assert sorted(series.points) == [(first, 3.0), (first + 3600, 3.0)]


def test_who_is_online_is_one_number_and_last_logins_are_asked_for(mariadb):
    """The query of a sample is read-only, and so is that of the biased table."""
    told = look(source(mariadb, "online"), Path("/"), SECRETS, NOW)
    assert told.series[0].points == ((NOW, 10.0),)
    assert ask(source(mariadb, "last_login"), ASKING, SECRETS).rows == 30


def test_health_is_three_metrics_with_aware_times(postgresql):
    """A `timestamptz` is a moment, whatever the zone of the session; an empty value is none."""
    at = dt.datetime(2026, 10, 25, 1, 30, tzinfo=dt.UTC)
    postgresql.run("DELETE FROM ml_system_health")
    postgresql.fill("INSERT INTO ml_system_health VALUES (%s, %s, %s, %s)", [(at, 12.5, None, 300)])
    told = ask(source(postgresql, "health"), ASKING, SECRETS)
    points = {one.metric: one.points for one in told.series}
    moment = at.timestamp()
    assert points == {"cpu": ((moment, 12.5),), "memory": (), "monsters": ((moment, 300.0),)}


def test_naive_times_of_postgresql_are_of_the_zone_that_is_said(postgresql):
    """The same number on the clock is another moment in another zone."""
    postgresql.run("DELETE FROM naive", "INSERT INTO naive VALUES ('2026-10-20 18:00:00', 7)")
    query = "SELECT at, value FROM naive WHERE at >= :since"
    for zone in ("Europe/Berlin", "Asia/Kolkata"):
        asked = source(postgresql, "query", query=query, zone=zone)
        (series,) = ask(asked, ASKING, SECRETS).series
        expected = dt.datetime(2026, 10, 20, 18, tzinfo=ZoneInfo(zone)).timestamp()
        assert series.points == ((expected, 7.0),)


def test_a_month_of_a_game_in_real_tables(mariadb, postgresql, tmp_path, monkeypatch):
    """Some 60,000 logins and 8,640 rows of health: the windows lie where few really were."""
    monkeypatch.setenv("READER", servers.SECRET)
    server = GameServer(40_007, weeks=5)
    begin = dt.datetime.fromtimestamp(NOW - 30 * 86_400, BERLIN).replace(tzinfo=None)
    hours = [begin + dt.timedelta(hours=number) for number in range(719)]  # an hour is twice
    mariadb.run("DELETE FROM loginlog")
    mariadb.fill(
        "INSERT INTO loginlog VALUES (%s, '1.2.3.4', 'somebody', 100)",
        [(at,) for at, count in zip(hours, server.logins, strict=False) for _ in range(5 * count)],
    )
    steps = [NOW - 300 * number for number in range(8640)]
    postgresql.run("DELETE FROM ml_system_health")
    rows = [(20, 40, 300, at) for at in steps]
    postgresql.fill(
        "INSERT INTO ml_system_health (cpu_percent, memory_percent, active_monsters, timestamp)"
        " VALUES (%s, %s, %s, to_timestamp(%s))",
        rows,
    )
    sources = {"log": source(mariadb, "loginlog"), "health": source(postgresql, "health")}
    settings = QuietHours(zone="Europe/Berlin", sources=sources)
    known = gather(settings, "Europe/Berlin", Ring(tmp_path), tmp_path, NOW)
    assert known["log"].rows == 5 * sum(server.logins[:719])
    found = analyse(settings, History(told=known, now=NOW, zone="Europe/Berlin"))
    assert set(found.windows.metrics_used) == {"players", "cpu", "memory", "monsters"}
    assert any("logins an hour" in note for note in found.notes)
    offset = begin.weekday() * 24 + begin.hour
    real = [sum(server.expected[n % 168 + k] for k in range(8)) for n in range(168)]
    chosen = [(24 * one.start_weekday + one.start_hour - offset) % 168
              for one in found.windows.windows]  # fmt: skip
    assert sum(real[n] for n in chosen) < 3 * 1.1 * min(real)


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_a_wrong_password_and_none_are_a_line(kind, request):
    """Neither the wrong one nor the right one is in it."""
    server = request.getfixturevalue(kind)
    for environment in ({"READER": "Wrong-Pa55"}, {}):
        line = why(source(server, "query", query="SELECT 1 AS at, 1 AS value"), environment)
        assert "Wrong-Pa55" not in line
        assert re.search("denied|failed|no READER", line)


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_nothing_can_be_written(kind, request):
    """Even where its rights would allow it, the transaction is read-only."""
    server = request.getfixturevalue(kind)
    if kind == "mariadb":
        server.run("CREATE TABLE scratch (value INT)")
        server.run(f"GRANT ALL ON game.scratch TO {servers.USER}@'127.0.0.1'")
        query = "INSERT INTO scratch VALUES (1)"
    else:
        server.run("CREATE SEQUENCE scratch", f"GRANT ALL ON SEQUENCE scratch TO {servers.USER}")
        query = "SELECT nextval('scratch') AS value, now() AS at"
    line = why(source(server, "query", query=query))
    assert re.search("(?i)read.only", line)


@pytest.mark.parametrize(
    ("kind", "slow"), [("mariadb", "SELECT SLEEP(30)"), ("postgresql", "SELECT pg_sleep(30)")]
)
def test_a_query_beyond_its_deadline_is_ended(kind, slow, request):
    """By the server where that is awake, within about the time that the settings give."""
    begun = time.monotonic()
    line = why(source(request.getfixturevalue(kind), "query", query=slow, query_max_s=0.6))
    assert time.monotonic() - begun < 25
    assert re.search("timeout|max_statement_time|query_max_s|returns", line)


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_a_server_that_freezes_costs_its_deadline_and_no_more(kind, request):
    """It takes the connection and never answers: the child that asks is killed."""
    server = request.getfixturevalue(kind)
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        line = why(source(server, "query", query="SELECT 1", connect_max_s=0.5))
        assert time.monotonic() - begun < 25
        assert "connect_max_s = 0.5" in line
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("kind", "slow"), [("mariadb", "SELECT SLEEP(30)"), ("postgresql", "SELECT pg_sleep(30)")]
)
def test_a_server_that_freezes_in_mid_query_costs_that_deadline(kind, slow, request):
    """It can neither end the query nor say so."""
    server = request.getfixturevalue(kind)
    timer = threading.Timer(0.7, _signal, (server, signal.SIGSTOP))
    timer.start()
    try:
        line = why(source(server, "query", query=slow, query_max_s=1.5))
        timer.join(PATIENCE_S)
        assert re.search("query_max_s = 1.5|connect_max_s", line)  # of a machine that is slow
    finally:
        _signal(server, signal.SIGCONT)


def _signal(server, number):
    """Send a signal to all processes of a server, those that serve somebody too."""
    whose = str(server.process.pid)
    words = ["ps", "--pid", whose, "--ppid", whose, "-o", "pid="]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    for pid in found:
        os.kill(int(pid), number)


@pytest.mark.parametrize(
    ("kind", "slow"), [("mariadb", "SELECT SLEEP(30)"), ("postgresql", "SELECT pg_sleep(30)")]
)
def test_a_server_that_is_killed_in_mid_query_is_a_line(kind, slow):
    """What was asked ends at once, and says so."""
    with getattr(servers, kind)() as server:
        timer = threading.Timer(1.0, os.killpg, (server.process.pid, signal.SIGKILL))
        timer.start()
        line = why(source(server, "query", query=slow))
        assert re.search("(?i)lost|closed|gone|refused|reset", line)
        assert "refused" in why(source(server, "query", query=slow)).lower()


def test_a_port_that_says_nothing_is_a_line():
    """Whatever listens there is no database."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("mariadb", "postgresql"):
            asked = UsageSource(
                kind="query",
                url=f"{scheme}://me@127.0.0.1:{port}/game",
                query="SELECT 1",
                connect_max_s=0.4,
            )
            assert "connect_max_s" in why(asked, {})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1 AS a, 2 AS b", "`at, value` or `hour, count` are needed"),
        ("SELECT NOW() AS at, 2 AS count", "are needed"),
        ("SELECT 'noon' AS at, 2 AS value", "'noon' is no time"),
        ("SELECT NOW() AS at, 'many' AS value", "is no number"),
        ("SELECT NOW() AS at, -5 AS value", "it tells -5, which is less than nothing"),
        ("SELECT nonsense FROM nowhere", "(error "),
    ],
)
def test_what_is_no_answer_is_said(mariadb, query, said):
    """The line says what would be one."""
    assert said in why(source(mariadb, "query", query=query))


def test_what_postgresql_refuses_has_its_number_and_no_statement(postgresql):
    """As what MariaDB refuses has."""
    line = why(source(postgresql, "query", query="SELECT at, value FROM nowhere"))
    assert line == 'relation "nowhere" does not exist (error 42P01)'


@pytest.mark.parametrize("scheme", ["mariadb", "postgresql"])
def test_a_host_that_nobody_knows_is_a_line(scheme):
    """With its name."""
    url = f"{scheme}://me@no-such-host.invalid/game"
    line = why(UsageSource(kind="query", url=url, query="SELECT 1", connect_max_s=20.0), {})
    assert re.search("no-such-host.invalid|connect_max_s", line)


def test_a_server_that_asks_for_tls_is_a_line(mariadb):
    """The one that it says itself."""
    whose = f"{servers.USER}@'{servers.HERE}'"
    mariadb.run(f"ALTER USER {whose} REQUIRE SSL")
    try:
        assert "(error 1045)" in why(source(mariadb, "last_login"))
    finally:
        mariadb.run(f"ALTER USER {whose} REQUIRE NONE")


def test_a_password_comes_from_a_file_of_ones_own_or_a_credential(mariadb, tmp_path):
    """One that others can read is refused, and so is one that is missing."""
    path = tmp_path / "password"
    path.write_text(f"{servers.SECRET}\n")
    path.chmod(0o600)
    asking = msgspec.structs.replace(ASKING, here=tmp_path)
    query = {"query": "SELECT NOW() AS at, 1 AS value", "password_env": None}
    there = source(mariadb, "query", password_file=path.name, **query)
    assert ask(there, asking, {}).rows == 0  # it is later than the end of the history
    path.chmod(0o640)
    assert "can be read by others (mode 0640)" in why(there, {}, asking)
    path.unlink()
    assert "No such file" in why(there, {}, asking)
    (tmp_path / servers.USER).write_text(servers.SECRET)
    credential = source(mariadb, "query", password_credential=servers.USER, **query)
    assert ask(credential, asking, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).rows == 0
    assert "has given no credentials" in why(credential, {}, asking)


def test_no_secret_stands_in_the_arguments_of_a_process(mariadb):
    """While the child that asks is at it, nobody sees the password among the processes."""
    seen = []

    def peep():
        for _ in range(20):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(path.read_bytes())
                except OSError:
                    continue
            time.sleep(0.02)

    thread = threading.Thread(target=peep)
    thread.start()
    ask(source(mariadb, "query", query="SELECT NOW() AS at, SLEEP(0.3) AS value"), ASKING, SECRETS)
    thread.join(PATIENCE_S)
    assert not any(b"Marked-S3cret" in line for line in seen)


def test_no_child_is_left(mariadb):
    """Each is waited for, however it ended."""
    ask(source(mariadb, "last_login"), ASKING, SECRETS)
    why(source(mariadb, "query", query="SELECT SLEEP(9)", query_max_s=0.2))
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "stat="],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "Z" not in children

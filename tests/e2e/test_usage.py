"""`analyze-usage` and `sample-usage`, as a person and a timer type them, with a real database."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import yaml

from state import samples, windows
from supervisor.host.home import machine_id
from supervisor.usage.grid import Point
from supervisor.usage.ring import Ring
from testkit import servers
from testkit.machine import CAMPAIGN, Machine
from testkit.servers import Server
from testkit.written_life import WrittenLife
from trainers import durable

HOURS = 24 * 25


@pytest.fixture(scope="module")
def game() -> Iterator[Server]:
    """The database of a game: twelve accounts, four of them online."""
    with servers.mariadb() as server:
        server.run(
            "CREATE TABLE `char` (account_id INT, online INT, last_login DATETIME)",
            "CREATE TABLE loginlog (time DATETIME, ip VARCHAR(15), user VARCHAR(23), rcode INT)",
        )
        server.fill(
            "INSERT INTO `char` VALUES (%s, %s, NOW())", [(n, n % 3 == 0) for n in range(12)]
        )
        yield server


def settings(url: str, more: str = "") -> str:
    return (
        f'{CAMPAIGN}\n[quiet_hours]\nzone = "Europe/Berlin"\n{more}\n'
        f'[quiet_hours.sources.online]\nkind = "online"\nurl = "{url}"\n'
        f'password_file = "password"\n'
        f'[quiet_hours.sources.log]\nkind = "loginlog"\nurl = "{url}"\n'
        f'password_file = "password"\n'
    )


def prepared(machine: Machine, url: str, more: str = "") -> None:
    """Settings, a password that its owner alone reads, and 25 days of samples."""
    machine.configure(settings(url, more))
    password = machine.home / "password"
    password.write_text(servers.SECRET)
    password.chmod(0o600)
    folder = machine.home / "usage"
    folder.mkdir()
    now = time.time()  # noqa: TID251 - the command reads the same clock
    ring = Ring(folder)
    for hour in range(1, HOURS):
        at = now - 3600 * hour
        ring.add("online", Point(at, 2.0 if at // 3600 % 24 < 9 else 40.0))


@pytest.fixture
def prepared_machine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One whose database nobody reaches."""
    monkeypatch.setattr("trainers.durable.os.fsync", lambda _: None)  # hundreds of samples
    prepared(machine, "mariadb://reader@127.0.0.1:1/game")
    return machine


def test_an_analysis_is_shown_written_and_told_to_machines(prepared_machine: Machine) -> None:
    """With a source that refuses: it is a line, and the others do."""
    machine = prepared_machine
    picture = machine.home / "week.png"
    answer = machine("analyze-usage", "--picture", str(picture))
    assert answer.returncode == 0, answer.stderr
    assert "in weeks held out" in answer.stdout
    assert "Connection refused" in answer.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    kept = windows.read(machine.home / "windows.json")
    assert kept is not None
    assert kept.zone == "Europe/Berlin"
    assert [(one.name, one.used) for one in kept.sources] == [("online", True), ("log", False)]
    whole = json.loads(machine("analyze-usage", "--json").stdout)
    assert whole["windows"]["windows"][0]["players_mean"] == pytest.approx(2.0)
    assert len(whole["week"]) == 168
    assert whole["written"]


def test_without_a_zone_the_clock_of_the_machine_counts(prepared_machine: Machine) -> None:
    """As the environment says it, or else the system."""
    machine = prepared_machine
    text = (machine.home / "supervisor.toml").read_text()
    machine.configure(text.replace('zone = "Europe/Berlin"\n', ""))
    machine.extra = {"TZ": "Asia/Tokyo"}
    assert machine("analyze-usage").returncode == 0
    kept = windows.read(machine.home / "windows.json")
    assert kept is not None
    assert kept.zone == "Asia/Tokyo"


def test_a_dry_run_writes_nothing_and_says_whether_training_would_start(
    prepared_machine: Machine,
) -> None:
    """Its last line has the condition and its number."""
    machine = prepared_machine
    before = sorted(path.name for path in machine.home.iterdir())
    answer = machine("analyze-usage", "--dry-run")
    assert answer.returncode == 0
    assert sorted(path.name for path in machine.home.iterdir()) == before
    last = answer.stdout.splitlines()[-1]
    assert last.startswith(("would training start now: yes.", "would training start now: no."))
    assert "quiet_hours: " in last
    text = (machine.home / "supervisor.toml").read_text()
    machine.configure(text.replace("[quiet_hours]\n", "[quiet_hours]\nenabled = false\n"))
    last = machine("analyze-usage", "--dry-run").stdout.splitlines()[-1]
    assert last == (
        "would training start now: yes. quiet_hours: off; guard: off; person: no pause; "
        "runs: 5 of 5 left"
    )


def test_a_dry_run_says_in_which_of_its_windows_the_runs_end(prepared_machine: Machine) -> None:
    """From how fast they were, though these windows are written nowhere."""
    machine = prepared_machine
    ring = samples.Ring(machine.home / "samples", machine=machine_id(), max_bytes=2**24)
    now = time.time()  # noqa: TID251 - the command reads the same clock
    for back in range(400, 0, -1):
        at = now - 30.0 * back
        rates = (samples.Rate(run="drill-A", steps_per_s=100.0),)
        moment = {"at": at, "monotonic_s": at, "boottime_s": at, "boot_id": machine.boot}
        ring.write(samples.Sample(**moment, running=1, covers_s=30.0, rates=rates))
    ring.close()
    last = machine("analyze-usage", "--dry-run").stdout.splitlines()[-1]
    assert re.search(
        r"; runs: 5 of 5 left, which end in \d+ windows?: .*, by \w{3} 20[-0-9]+ \d\d:\d\d CES?T$",
        last,
    ), last
    assert not (machine.home / "windows.json").exists()


def test_each_condition_of_a_start_has_its_say(prepared_machine: Machine) -> None:
    """The guard looks at the real machine; limits that nothing is below say no."""
    machine = prepared_machine
    text = (machine.home / "supervisor.toml").read_text()
    machine.configure(f"{text}\n[guard]\nstart_memory_percent = 0.001\n")
    answer = json.loads(machine("analyze-usage", "--dry-run", "--json").stdout)
    assert answer["would_start"] is False
    _, guard, person, runs = answer["conditions"]
    assert re.fullmatch(
        r"guard: others use \d+ % of the processors \(starts below 30\), "
        r"\d+ % of the memory that is left \(starts below 0.001\), which must last 60 s",
        guard.partition("; GPUs")[0],
    )
    assert (person, runs) == ("person: no pause", "runs: 5 of 5 left")
    machine.configure(f"{text}\n[guard]\nenabled = false\n")  # somebody else may use the machine
    remember(machine, pauses=("person",), any_hour_until_at=4e9)
    last = machine("analyze-usage", "--dry-run").stdout.splitlines()[-1]
    assert last.startswith(
        "would training start now: no. quiet_hours: a person trains in any hour until 2096-10-02 "
    )
    assert "; person: paused by one; " in last
    remember(machine, any_hour_until_at=4e9)
    answer = json.loads(machine("analyze-usage", "--dry-run", "--json").stdout)
    assert answer["would_start"] is True, answer["conditions"]
    assert json.loads(machine("analyze-usage", "--json").stdout)["would_start"] is None


def remember(machine: Machine, **goal: object) -> None:
    """Give the home a memory with such a goal."""
    life = WrittenLife()
    life.memory = msgspec.structs.replace(
        life.memory, goal=msgspec.structs.replace(life.memory.goal, **goal)
    )
    life.save(machine.home)


def test_where_nothing_can_be_claimed_the_windows_before_stay(prepared_machine: Machine) -> None:
    """The exit code says that it is to be tried again; why, the line."""
    machine = prepared_machine
    assert machine("analyze-usage").returncode == 0
    kept = (machine.home / "windows.json").read_bytes()
    text = (machine.home / "supervisor.toml").read_text()
    for more, rest in (("min_data_points = 1000000", "wait"), ('on_unknown = "train"', "train")):
        text = text.replace("[quiet_hours]\n", f"[quiet_hours]\n{more}\n")
        machine.configure(text)
        answer = machine("analyze-usage")
        assert answer.returncode == 75
        assert "599 samples, and min_data_points is 1000000" in answer.stdout
        assert (machine.home / "windows.json").read_bytes() == kept
        dry = machine("analyze-usage", "--dry-run").stdout.splitlines()[-1]
        assert re.search(r"quiet_hours: .* window .*, as was found on \w{3} 20[-0-9: ]+; ", dry)
        (machine.home / "windows.json").unlink()
        dry = machine("analyze-usage", "--dry-run").stdout.splitlines()[-1]
        assert f"on_unknown is {rest}; " in dry
        (machine.home / "windows.json").write_bytes(kept)


def test_a_picture_that_cannot_be_written_costs_nothing_else(prepared_machine: Machine) -> None:
    """What was found is shown and kept, and the place is told as it was named."""
    machine = prepared_machine
    answer = machine("analyze-usage", "--picture", "/nowhere/week.png")
    assert answer.returncode == 1
    assert answer.stderr == (
        "supervisor: cannot write /nowhere/week.png: No such file or directory\n"
    )
    assert answer.stdout.splitlines()[-1].startswith("written: ")


def test_what_has_not_looked_yet_or_is_off_is_not_said_to_be_missing(
    prepared_machine: Machine,
) -> None:
    """By `why`, before any supervisor has run."""
    machine = prepared_machine
    text = (machine.home / "supervisor.toml").read_text()
    machine.configure(text.replace("[quiet_hours]\n", "[guard]\n[quiet_hours]\nenabled = false\n"))
    rejected = machine("why", "--now").stdout
    assert re.search(r"^guarded +the guard has not looked yet$", rejected, re.MULTILINE)
    assert re.search(r"^quiet_hours +the quiet hours are off$", rejected, re.MULTILINE)


def test_a_timer_repeats_no_young_analysis_and_says_each_in_a_line(
    prepared_machine: Machine,
) -> None:
    """Whoever has made it, and a person who asks gets a new one all the same."""
    machine = prepared_machine
    path = machine.home / "windows.json"
    first = machine("analyze-usage", "--timer")
    assert (first.returncode, first.stderr) == (0, "")
    assert re.fullmatch(
        r"usage has been analysed: 3 windows, (a|no) quiet window until .*\n", first.stdout
    )
    kept = windows.read(path)
    assert kept is not None
    again = machine("analyze-usage", "--timer")
    assert (again.returncode, windows.read(path)) == (0, kept)
    assert re.fullmatch(r"usage was analysed \d+ s ago: there is nothing to do\n", again.stdout)
    assert machine("analyze-usage").returncode == 0
    newer = windows.read(path)
    assert newer is not None
    assert newer.made_at > kept.made_at
    windows.write(path, msgspec.structs.replace(newer, made_at=newer.made_at - 13 * 3600))
    assert "has been analysed" in machine("analyze-usage", "--timer").stdout


def test_a_timer_whose_analysis_fails_knows_who_tries_again(prepared_machine: Machine) -> None:
    """A supervisor on this home; else the timer itself, for which the exit code is another."""
    machine = prepared_machine
    text = (machine.home / "supervisor.toml").read_text()
    machine.configure(text.replace("[quiet_hours]\n", "[quiet_hours]\nmin_data_points = 10000\n"))
    alone = machine("analyze-usage", "--timer")
    assert (alone.returncode, alone.stdout) == (1, "")
    (line,) = alone.stderr.splitlines()
    assert "599 samples, and min_data_points is 10000" in line
    assert line.endswith("; no supervisor runs to try again")
    lock = durable.hold(machine.home)
    try:
        beside = machine("analyze-usage", "--timer")
    finally:
        lock.release()
    assert beside.returncode == 75
    assert beside.stderr.endswith("; the supervisor tries again each hour\n")
    machine.configure("[quiet_hours]\n")
    answer = machine("analyze-usage", "--timer")
    assert (answer.returncode, "there is nobody to ask" in answer.stderr) == (78, True)


def test_two_never_analyse_at_once(prepared_machine: Machine) -> None:
    """Nor does the supervisor's own process; who only looks is not in the way."""
    machine = prepared_machine
    place = machine.home / "usage" / "analysis"
    place.mkdir()
    lock = durable.hold(place)
    try:
        answer = machine("analyze-usage", "--timer")
        assert (answer.returncode, answer.stdout) == (75, "")
        assert "somebody else analyses at this moment" in answer.stderr
        assert machine("analyze-usage", "--dry-run").returncode == 0
    finally:
        lock.release()
    assert not (machine.home / "windows.json").exists()


def test_a_home_with_its_own_samples_alone_learns_quiet_hours(machine: Machine) -> None:
    """Nobody was asked but the machine itself."""
    machine.configure('[quiet_hours]\n[quiet_hours.sources.here]\nkind = "machine"\n')
    ring = samples.Ring(machine.home / "samples", machine=machine_id(), max_bytes=2**24)
    now = time.time()  # noqa: TID251 - the command reads the same clock
    for hour in range(HOURS, 0, -1):
        at = now - 3600 * hour
        busy = 60.0 if at // 3600 % 24 < 12 else 2.0
        ring.write(
            samples.Sample(
                at=at,
                monotonic_s=at,
                boottime_s=at,
                boot_id=machine.boot,
                cpu_percent=busy + 30,
                cpu_own_percent=30.0,
            )
        )
    ring.close()
    answer = machine("analyze-usage")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    kept = windows.read(machine.home / "windows.json")
    assert kept is not None
    assert (kept.metrics_used, kept.windows[0].players_mean) == (("cpu",), None)


def test_samples_are_taken_of_a_real_database(machine: Machine, game: Server) -> None:
    """One number each time, also when two ask at once, and no secret is anywhere."""
    machine.configure(settings(game.url))
    password = machine.home / "password"
    password.write_text(f"{servers.SECRET}\n")
    password.chmod(0o600)
    for _ in range(2):
        answer = machine("sample-usage")
        assert (answer.returncode, answer.stdout) == (0, "online: 4\n"), answer.stderr
    command = [*machine.program, "sample-usage", "--json"]
    two = [
        subprocess.Popen(command, env=machine.environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [one.communicate()[0] for one in two]
    taken = [one for one in two if one.returncode == 0]
    assert {one.returncode for one in two} <= {0, 75}
    assert '"online": 4.0' in "".join(outputs)
    assert len(Ring(machine.home / "usage").read("online", 0.0)) == 2 + len(taken)
    asked = machine("doctor")
    assert (
        "usage       online: answers, 4 are online; its password's file is closed" in asked.stdout
    )
    assert "usage       log: answers, 0 rows in 30 days" in asked.stdout
    assert len(Ring(machine.home / "usage").read("online", 0.0)) == 2 + len(taken)
    refused = machine("analyze-usage")
    assert refused.returncode == 75
    password.write_text("Wrong-Pa55")
    wrong = machine("sample-usage")
    assert wrong.returncode == 75
    assert "Access denied" in wrong.stderr
    password.chmod(0o644)
    lax = machine("sample-usage")
    assert "can be read by others" in lax.stderr
    said = "".join(one.stdout + one.stderr for one in (asked, refused, wrong, lax)) + "".join(
        outputs
    )
    written = [path for path in machine.home.rglob("*") if path.is_file() and path != password]
    for secret in ("Marked-S3cret", "Wrong-Pa55"):
        assert secret not in said
        assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_what_a_document_keeps_secret_is_in_two_files_and_nowhere_else(
    machine: Machine, game: Server, tmp_path: Path
) -> None:
    """With one that is right and one that is wrong, while the daemon has both databases asked.

    Not in settings, logs, state or answers, and not among the arguments or the surroundings of
    any process.
    """
    wrong = "Wrong-Pa55/ö 'x'"
    host, port = game.url.partition("@")[2].partition("/")[0].split(":")
    with servers.postgresql() as metrics:
        content = {
            "mariadb_host": host,
            "mariadb_port": int(port),
            "mariadb_database": "game",
            "mariadb_user": servers.USER,
            "mariadb_password": servers.SECRET,
            "postgres_host": host,
            "postgres_port": metrics.port,
            "postgres_database": "game",
            "postgres_user": servers.USER,
            "postgres_password": wrong,
        }
        document = tmp_path / "scheduler_config.yaml"
        document.write_text(yaml.safe_dump({"database": content}))
        said, seen = [machine("import-settings", str(document))], set[bytes]()
        assert said[0].returncode == 0, said[0].stderr
        daemon = machine.start()

        def analysed() -> bool:
            for path in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    around = (path / "environ").read_bytes()
                    if bytes(machine.home) in around:  # others may run this very test
                        seen.update((around, (path / "cmdline").read_bytes()))
            return bool(machine.events("usage.unknown"))

        machine.until(analysed, "the analysis has ended")
        said += [
            machine(*words.split())
            for words in (
                "doctor",
                "analyze-usage --dry-run",
                "analyze-usage --json",
                "check-config",
                "show-state --json",
                "why",
                "decisions --json -n 1000",
                "replay",
            )
        ]
        assert machine.stop(daemon) == 0
    said.append(machine("analyze-usage"))  # one of the two is gone
    told = "".join(one.stdout + one.stderr for one in said) + machine.screen.read_text()
    for line in ("mariadb-password in the home", "authentication failed", "refused"):
        assert line in told
    secrets = {"mariadb-password": servers.SECRET, "postgres-password": wrong}
    forms = {
        form.encode()
        for secret in secrets.values()
        for form in (secret, quote(secret, safe=""), ascii(secret)[1:-1], secret.split("/")[0])
    }
    holding = [
        path.name
        for path in machine.home.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]
    assert sorted(holding) == sorted(secrets)
    assert not any(form in told.encode() for form in forms)
    assert any(b"supervisor.helpers.usage" in one for one in seen)
    assert not any(form in one for one in seen for form in forms)


def test_without_its_settings_each_says_what_is_missing(machine: Machine) -> None:
    """With the code of settings that are wrong."""
    answer = machine("analyze-usage")
    assert (answer.returncode, "no [quiet_hours]" in answer.stderr) == (78, True)
    machine.configure("[quiet_hours]\n")
    answer = machine("sample-usage")
    assert (answer.returncode, 'kind = "online"' in answer.stderr) == (78, True)
    for text in ("# nothing\n", "[quiet_hours]\n"):  # each five minutes, in the journal
        machine.configure(text)
        answer = machine("sample-usage", "--timer")
        assert (answer.returncode, answer.stdout, answer.stderr) == (78, "", "")
    answer = machine("analyze-usage")
    assert answer.returncode == 75
    assert "there are no sources" in answer.stdout
    assert not Path(machine.home / "windows.json").exists()

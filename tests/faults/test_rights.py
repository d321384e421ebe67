"""Who may do what in a home: its owner everything, root the same as its owner, others nothing."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.host.home import Home
from supervisor.host.owner import become
from supervisor.host.process import start_ticks
from testkit.accounts import (
    ANOTHER,
    STRANGER,
    apart,
    busy,
    common_ground,
    living,
    needs_root,
    take_on,
)
from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S

ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')
WRITABLE = 0o022


@pytest.fixture
def ground() -> Iterator[Path]:
    with common_ground() as folder:
        yield folder


@pytest.fixture
def foreign(ground: Path) -> Iterator[Machine]:
    """A machine whose home is another account's."""
    machine = Machine(ground / "home", screen=ground / "screen.log")
    machine.configure(ONE_RUN)
    for path in (machine.home, machine.home / "supervisor.toml"):
        os.chown(path, STRANGER, STRANGER)
    yield machine
    machine.crash()


def start_as_its_owner(machine: Machine) -> subprocess.Popen[str]:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "run"],
        env=machine.environment(),
        stdin=subprocess.DEVNULL,
        stdout=machine.screen.open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Its first act, and the only thread: the program may lie where that account sees nothing.
        preexec_fn=lambda: become(STRANGER, machine.home),  # noqa: PLW1509 - see above
    )
    machine.daemons.append(daemon)
    machine.until_steps("A", 20)
    return daemon


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text


def lax(home: Path) -> list[str]:
    """What others could write to."""
    paths = [home, *home.rglob("*")]
    return [str(p) for p in paths if not p.is_symlink() and p.stat().st_mode & WRITABLE]


@needs_root
def test_whoever_flips_a_folder_of_its_home_gains_nothing_from_roots_requests(
    foreign: Machine, ground: Path
) -> None:
    """The inbox is a link now to nowhere, now to a folder of root's, while root asks for things."""
    target = ground / "roots"
    target.mkdir()
    inbox, aside = foreign.home / "inbox", foreign.home / "aside"

    def flip() -> None:
        for leads_to in (ground / "nowhere", target):
            aside.unlink(missing_ok=True)
            aside.symlink_to(leads_to)
            aside.replace(inbox)

    before = target.stat()
    with busy(STRANGER, flip):
        for words in (("pause",), ("resume",), ("reset", "--yes"), ("stop",)) * 3:
            foreign(*words)
    after = target.stat()
    assert list(target.iterdir()) == []
    assert (after.st_uid, after.st_gid, after.st_mode) == (0, 0, before.st_mode)
    assert not (ground / "nowhere").exists()


@needs_root
def test_root_asks_as_the_owner_and_both_are_told(foreign: Machine) -> None:
    """What root writes is the owner's, who can use it; the log has the login and the account."""
    daemon = start_as_its_owner(foreign)
    foreign.extra["LOGNAME"] = "ada"
    answer = foreign("pause")
    assert answer.returncode == 0, answer.stderr
    (line,) = foreign.events("goal.changed")
    assert line["reason"].startswith("ada (account nobody) asked")
    for words in (("show-state",), ("decisions",), ("logs", "A"), ("doctor",), ("resume",)):
        answer = foreign(*words)
        assert answer.returncode == 0, (words, answer.stderr)
    assert foreign("reset", "--yes").returncode == 0
    owners = {path.stat().st_uid for path in (foreign.home, *foreign.home.rglob("*"))}
    assert owners == {STRANGER}
    assert foreign("stop").returncode == 0
    assert daemon.wait(PATIENCE_S) == 0
    assert foreign("run").returncode == 73, "but root is not its supervisor"


@needs_root
@pytest.mark.parametrize("victim_of", [0, ANOTHER, STRANGER])
def test_a_process_that_a_home_only_names_is_not_touched(foreign: Machine, victim_of: int) -> None:
    """Whoever owns the home holds its lock, and names another process: `stop` asks nobody."""
    victim = subprocess.Popen(["sleep", "1000"], user=victim_of, group=victim_of, extra_groups=[])
    said = {"pid": victim.pid, "boot_id": foreign.boot, "started_at": 0.0}
    said["start_ticks"] = start_ticks(victim.pid) or 0

    def hold() -> None:
        (foreign.home / "daemon.json").write_text(json.dumps(said))
        for name in ("lock", "."):
            handle = os.open(foreign.home / name, os.O_CREAT * (name == "lock"), 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)

    try:
        with living(STRANGER, hold):
            answer = foreign("stop")
        assert answer.returncode == 1
        assert one_line(answer.stderr)
        assert f"(pid {victim.pid}) is none" in answer.stderr
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@needs_root
def test_what_the_owner_may_not_do_root_is_told(foreign: Machine, ground: Path) -> None:
    """What root names is used with the owner's rights, or refused in one line."""
    closed = ground / "closed"
    closed.mkdir(mode=0o700)
    (closed / "settings.toml").write_text(ONE_RUN)
    for words in (
        ("--config", str(closed / "settings.toml"), "show-state"),
        ("record", "A", "-o", str(closed / "a.gif")),
    ):
        answer = foreign(*words)
        assert answer.returncode == 73
        assert one_line(answer.stderr)
        assert "the home belongs to nobody" in answer.stderr
    assert foreign("show-state").returncode == 0


@needs_root
def test_nobody_has_root_type_a_command(foreign: Machine) -> None:
    """How a service is stopped is ours to say, and not the home's."""
    said = {"pid": os.getpid(), "boot_id": foreign.boot, "started_at": 0.0}
    said["stop_command"] = "rm -r /"
    (foreign.home / "daemon.json").write_text(json.dumps(said))
    os.chown(foreign.home / "daemon.json", STRANGER, STRANGER)
    with living(STRANGER, lambda: fcntl.flock(os.open(foreign.home, 0), fcntl.LOCK_EX)):
        assert "rm" not in foreign("stop").stderr


@needs_root
def test_no_stranger_keeps_a_supervisor_from_starting(ground: Path) -> None:
    """An older home that everybody could look into is closed, and told, whoever has locked it."""
    machine = Machine(ground / "home", screen=ground / "screen.log")
    try:
        machine.configure(ONE_RUN)
        run = machine.home / "runs/drill-A"
        run.mkdir(parents=True)
        for path in (machine.home, run.parent, run):
            path.chmod(0o777)

        def lock() -> None:
            for path in (machine.home, run):
                fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)

        with living(STRANGER, lock):
            daemon = machine.start()
            machine.until_steps("A", 20)
            assert machine.state()["daemon"]["pid"] == daemon.pid
            late = machine("run")
            assert (late.returncode, "already runs" in late.stderr) == (75, True)
        assert machine.home.stat().st_mode & 0o777 == 0o700
        assert lax(machine.home) == []
        assert machine("stop").returncode == 0
        machine.start()
        assert len(machine.events("home.closed")) == 1, "told once"
    finally:
        machine.crash()


@needs_root
def test_the_group_of_a_home_may_look_and_no_more(ground: Path) -> None:
    """It sees who runs; it neither holds what the supervisor holds, nor keeps one from starting."""
    machine = Machine(ground / "home", screen=ground / "screen.log")
    try:
        machine.configure(ONE_RUN)
        os.chown(machine.home, 0, ANOTHER)
        machine.home.chmod(0o750)

        def look() -> str:
            take_on(STRANGER, ANOTHER)
            os.environ["BOOT_ID"] = machine.boot
            holder = Home(machine.home).holder()
            return str(holder.pid if holder else None)

        def lock() -> None:
            fcntl.flock(os.open(machine.home, os.O_RDONLY), fcntl.LOCK_EX)

        assert apart(look) == "None"
        with living(ANOTHER, lock):
            daemon = machine.start()
            assert apart(look) == str(daemon.pid)
        assert machine.home.stat().st_mode & 0o777 == 0o750
        assert machine.events("home.closed") == []
        assert machine.stop(daemon) == 0
        assert apart(look) == "None"
    finally:
        machine.crash()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_whatever_the_umask_nobody_else_writes_to_a_home(machine: Machine, umask: int) -> None:
    """Neither to what the supervisor makes nor to what its trainers make."""
    settings = machine.home.parent / "settings.toml"
    settings.write_text(ONE_RUN)
    machine.extra["SUPERVISOR_CONFIG"] = str(settings)
    (machine.home / "supervisor.toml").unlink()
    machine.home.rmdir()
    usual = os.umask(umask)
    try:
        daemon = machine.start()
        machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
        assert machine("pause").returncode == 0
        assert machine("resume").returncode == 0
        assert machine.stop(daemon) == 0
        assert machine("pause").returncode == 0
    finally:
        os.umask(usual)
    assert list((machine.home / "inbox").glob("*.json")), "a request that waits"
    assert list((machine.home / "runs/drill-A/checkpoints").iterdir())
    assert machine.home.stat().st_mode & 0o777 == 0o700
    assert lax(machine.home) == []


@pytest.mark.parametrize("words", [("run",), ("resume",), ("reset", "--yes"), ("tune",)])
def test_a_home_that_is_read_only_is_told_in_one_line(
    machine: Machine, words: tuple[str, ...]
) -> None:
    """With exit code 73."""
    machine.configure(ONE_RUN)
    machine("pause")  # what a home holds is there
    bind = ["mount", "--bind", str(machine.home), str(machine.home)]
    with suppress(OSError):
        if subprocess.run(bind, check=False, capture_output=True).returncode == 0:
            read_only = ["mount", "-o", "remount,ro,bind", str(machine.home)]
            subprocess.run(read_only, check=True, capture_output=True)
    if os.access(machine.home, os.W_OK):
        pytest.skip("NOT TESTED: a read-only home; needs the right to mount")
    answer = machine(*words)
    assert (answer.returncode, answer.stdout) == (73, "")
    assert one_line(answer.stderr.replace("finding out what is quickest", "", 1))
    assert "cannot be used" in answer.stderr
    assert machine("show-state").returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        *("state.json", "decisions.jsonl", "monitor.jsonl", "boots.jsonl", "daemon.json"),
        *("settings.last.json", "tuning.json", "lock"),
    ],
)
def test_a_folder_where_a_file_belongs_is_told_in_one_line(machine: Machine, name: str) -> None:
    """With exit code 73 and its name, by whoever would need to write there."""
    machine.configure(ONE_RUN)
    (machine.home / name).mkdir()
    for words in (("run",), ("pause",)):
        answer = machine(*words)
        assert answer.returncode == 73, (words, answer.stderr)
        assert one_line(answer.stderr)
        assert f"{name}: Is a directory" in answer.stderr


def test_a_stop_by_signal_is_heard_whatever_lies_in_the_home(machine: Machine) -> None:
    """A daemon that reads a named pipe in place of each of its files leaves when asked to."""
    machine.configure(ONE_RUN)
    daemon = machine.start()
    machine.until_steps("A", 20)
    kept = {"supervisor.toml", "runs"}
    for path in [path for path in machine.home.iterdir() if path.name not in kept]:
        path.rename(machine.home.parent / path.name)
        os.mkfifo(path)
    assert machine("show-state").returncode in (0, 1)
    os.kill(daemon.pid, signal.SIGTERM)
    assert daemon.wait(PATIENCE_S) in (0, 1)
    assert machine.trainers() == {}

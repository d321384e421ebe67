"""What does not belong in a home is refused; nothing outside of it is read, written or ended."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.runners.local import read_heartbeat
from testkit.machine import SETTINGS, Machine
from trainers.contract import MARKER, RunFolder

ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')
BYTES = b"x" * (17 * 1024 * 1024)  # more than any log keeps
IN_A_RUN = ("output.log", "output.log.1", "heartbeat.json", "spec.json", "metrics.jsonl")
IN_A_HOME = (
    "state.json",
    "state.last.json",
    "decisions.jsonl",
    "monitor.jsonl",
    "boots.jsonl",
    "daemon.json",
    "inbox/00000000000000000001-abcdef01.json",
)


def one_line(text: str) -> bool:
    """Whether a person can read it, and no terminal obeys it."""
    return text.rstrip("\n").isprintable()


@pytest.mark.parametrize("name", IN_A_RUN)
def test_a_link_in_a_run_folder_leads_nowhere(machine: Machine, tmp_path: Path, name: str) -> None:
    """The file at the other end keeps every byte, and the other run trains."""
    victim = tmp_path / "victim"
    victim.write_bytes(BYTES)
    link = machine.home / "runs/drill-A" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    machine.start()
    machine.until_steps("B", 50)
    given_up = {"run.died", "run.failed"}
    machine.until(
        lambda: machine.heartbeat("A") or given_up & {line["event"] for line in machine.events()},
        "A trains in files of its own, or cannot start",
    )
    assert victim.read_bytes() == BYTES
    assert machine("logs", "A").returncode in (0, 1)
    assert "x" * 100 not in machine("logs", "A").stdout


@pytest.mark.parametrize("name", ["runs/drill-A", "runs/drill-A/checkpoints"])
def test_a_link_in_place_of_a_folder_leads_nowhere(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    """Nothing is made in the folder at the other end, and the other run trains."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = machine.home / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    machine.start()
    machine.until_steps("B", 50)
    machine.until(
        lambda: machine.events("run.died") or machine.events("run.failed"), "A cannot start"
    )
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", IN_A_HOME)
def test_a_link_in_the_home_leads_nowhere(machine: Machine, tmp_path: Path, name: str) -> None:
    """Whichever of the supervisor's files it is, what it leads to keeps every byte."""
    victim = tmp_path / "victim"
    victim.write_bytes(BYTES)
    machine.configure(ONE_RUN)
    link = machine.home / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim)
    with machine.screen.open("w") as screen:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run"],
            env=machine.environment(),
            stdout=screen,
            stderr=screen,
            text=True,
        )
    machine.daemons.append(daemon)
    machine.until(
        lambda: machine.heartbeat("A").get("step", 0) >= 50 or daemon.poll(),
        "A trains, or the supervisor has refused to start",
    )
    if daemon.poll() is None:
        assert machine("show-state").returncode == 0
        assert machine.stop(daemon) == 0
    else:
        assert name in machine.screen.read_text()
        assert one_line(machine.screen.read_text())
    assert victim.read_bytes() == BYTES


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.write_bytes(b"[" * 60_000), id="deep"),
        pytest.param(lambda path: path.open("wb").truncate(2**40), id="huge"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe\0" * 100), id="no text"),
        pytest.param(lambda path: path.write_bytes(b'{"pid": NaN}'), id="not a number"),
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(Path.mkdir, id="a folder"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="a device"),
    ],
)
def test_a_heartbeat_that_is_none_is_unknown(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Whatever lies where a heartbeat belongs is read within bounds, and tells nothing."""
    make(tmp_path / "heartbeat.json")
    assert read_heartbeat(RunFolder(tmp_path)) is None


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
    "a folder": Path.mkdir,
}
OF_A_RUN = (
    *("output.log", "output.log.1", "heartbeat.json", ".heartbeat.json.new", "spec.json"),
    *(".spec.json.new", "metrics.jsonl", "checkpoints", "checkpoints/7", "checkpoints/.7.new"),
    "lock",
)
OF_A_HOME = (
    *("state.json", "state.last.json", ".state.json.new", "state.link", "decisions.jsonl.1"),
    *("monitor.jsonl", "daemon.json", "boots.jsonl", "tuning.json", "settings.last.json", "lock"),
    "inbox/00000000000000000001-abcdef01.json",
)


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_in_a_run_costs_that_run_at_most(machine: Machine, kind: str) -> None:
    """Nobody waits for it: the other runs train, and it trains, too, or its trouble is told."""
    modes = machine.home / "modes"
    modes.mkdir()
    load = f"rung = 0\nslots = {len(OF_A_RUN) + 1}\n"
    (modes / "all.toml").write_text(load)
    names = [f"r{number}" for number in range(len(OF_A_RUN))]
    queue = json.dumps(["well", *names])
    wide = SETTINGS.replace('["A", "B", "C", "D", "E"]', queue)
    machine.configure(f'modes_dir = "modes"\n{wide}\n[warm]\ntrainers = []\n')
    for name, odd in zip(names, OF_A_RUN, strict=True):
        place = machine.home / f"runs/drill-{name}" / odd
        place.parent.mkdir(parents=True)
        ODD[kind](place)
    daemon = machine.start()
    machine.until_steps("well", 50)

    def trains_or_is_told(name: str) -> bool:
        told = {line["event"] for line in machine.events() if line.get("run") == f"drill-{name}"}
        trains = (machine.home / f"runs/drill-{name}/heartbeat.json").is_file()
        return bool(trains or told & {"run.died", "run.failed"})

    for name in names:
        machine.until(lambda name=name: trains_or_is_told(name), f"{name} trains or is told")
    for line in machine.events("run.died"):
        assert one_line(line["reason"])
    assert machine("logs", names[0]).returncode in (0, 1)
    assert machine.stop(daemon) == 0
    assert machine.trainers() == {}


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_what_is_no_file_in_a_home_costs_that_file_at_most(machine: Machine, kind: str) -> None:
    """With one in the place of every file the supervisor starts, trains, answers and leaves."""
    machine.configure(ONE_RUN)
    for odd in OF_A_HOME:
        place = machine.home / odd
        place.parent.mkdir(exist_ok=True)
        ODD[kind](place)
    daemon = machine.start()
    machine.until_steps("A", 50)
    assert machine("pause").returncode == 0
    assert machine.events("state.damaged")
    assert len(machine.events("request.unreadable")) == 1
    assert machine.stop(daemon) == 0


@pytest.mark.parametrize("name", ["inbox", "runs", "decisions.jsonl"])
def test_a_pipe_in_place_of_what_the_supervisor_lives_from_is_told(
    machine: Machine, name: str
) -> None:
    """It starts, says it in one line, and leaves when it is asked to."""
    machine.configure(ONE_RUN)
    os.mkfifo(machine.home / name)
    with machine.screen.open("w") as screen:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run"],
            env=machine.environment(),
            stdout=screen,
            stderr=screen,
            text=True,
        )
    machine.daemons.append(daemon)
    word = {
        "inbox": "the inbox cannot be read",
        "runs": "Not a directory",
        "decisions.jsonl": "cannot write",
    }
    machine.until(lambda: word[name] in machine.screen.read_text(), "it is told")
    assert machine("show-state").returncode == 0
    if name != "runs":
        machine.until_steps("A", 20)
    if name == "inbox":
        assert machine("pause").returncode == 73
    assert machine.stop(daemon) == 0


def test_hostile_files_in_the_inbox_are_refused(machine: Machine) -> None:
    """Whatever is no request is moved away and told, and the daemon goes on."""
    inbox = machine.home / "inbox"
    inbox.mkdir()
    (inbox / "deep.json").write_text("[" * 100_000)
    (inbox / "huge.json").write_bytes(b" " * 1_000_000)
    (inbox / "link.json").symlink_to("/etc/passwd")
    (inbox / "folder.json").mkdir()
    (inbox / "evil\x1b[31m.json").write_text('{"kind": "pause"}')
    request = {"kind": "pin", "mode": "../../etc", "by": "ada", "asked_at": 0}
    (inbox / "traversal.json").write_text(json.dumps(request | {"id": "../traversal"}))
    (inbox / "mode.json").write_text(json.dumps(request | {"id": "mode"}))
    (inbox / "by.json").write_text(
        json.dumps({**request, "id": "by", "mode": None, "by": "\x1b[2J"})
    )
    hostile = len(list(inbox.iterdir()))
    machine.start()
    machine.until_steps("A")
    told = [line["reason"] for line in machine.events("request.unreadable")]
    assert len(told) == hostile
    assert all(map(one_line, told))
    assert [path.name for path in inbox.iterdir() if not path.name.startswith(".")] == []
    assert machine.state()["bounds"] == []


def test_a_mark_that_names_no_run_is_nobodys(machine: Machine, tmp_path: Path) -> None:
    """A process that carries nonsense for a run is a stranger: neither ended nor followed."""
    machine.configure(ONE_RUN)
    runs, environment = machine.home / "runs", machine.environment()
    strangers = [
        subprocess.Popen(
            ["sleep", "1000"], env={**environment, MARKER: f"{runs}/{run}"}, cwd=tmp_path
        )
        for run in ("../../outside", "a\x1b[31mb\n", "x" * 10_000, "", ".", "a/b")
    ]
    daemon = machine.start()
    machine.until_steps("A", 50)
    assert machine.stop(daemon) == 0
    assert [one.poll() for one in strangers] == [None] * len(strangers)
    assert all(one_line(line.get("run", "")) for line in machine.events())
    assert machine.events("run.killed") == []


def test_a_stray_trainer_of_this_home_is_ended(machine: Machine, tmp_path: Path) -> None:
    """A process that carries the mark of a run that is in no queue does not live on."""
    marked = {**machine.environment(), MARKER: f"{machine.home / 'runs/gone'}"}
    stray = subprocess.Popen(["sleep", "1000"], env=marked, cwd=tmp_path)
    machine.start()
    machine.until(lambda: stray.poll() is not None, "it is ended")
    machine.until_steps("A")


@pytest.mark.parametrize(
    "words",
    [
        ("pin", "../../etc"),
        ("pin", "light\n\x1b[2J"),
        ("logs", "../../../etc/passwd"),
        ("logs", "drill-A/../../state.json"),
        ("evaluate", "../../x"),
        ("evaluate", "A\x1b[31m"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(machine: Machine, words: tuple[str, ...]) -> None:
    """One clear line that no terminal obeys, and nothing else."""
    (machine.home / "state.json").write_text("secret")
    answer = machine(*words)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert one_line(answer.stderr)
    assert "secret" not in answer.stderr


def test_an_inbox_that_was_removed_is_heard_again(machine: Machine) -> None:
    """A removed inbox is made again at the next look, and requests in it are heard."""
    machine.configure(SETTINGS + "\n[policy]\ntick_s = 0.5\n")
    machine.start()
    machine.until_steps("A")
    shutil.rmtree(machine.home / "inbox")
    machine.until((machine.home / "inbox").is_dir, "the inbox is there again")
    assert machine("pause").returncode == 0

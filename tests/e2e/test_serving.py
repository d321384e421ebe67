"""The API beside a supervisor in the foreground, and settings that change under it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S, until

BESIDE = "\n[web]\nlisten = '127.0.0.1:0'\n"


@pytest.fixture
def machine(machine: Machine) -> Iterator[Machine]:
    """A machine whose API answers at a free port; nobody of it outlives the test."""
    machine.configure(SETTINGS + BESIDE)
    yield machine
    machine.crash()
    until(lambda: not beside(machine), "nobody is left")


def beside(machine: Machine) -> list[str]:
    """The commands that run about that home, but the supervisor itself."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(machine.home) in words and {"serve", "dispatch", "migrate"} & {*words}:
            found.append(" ".join(words))
    return found


def address(machine: Machine) -> str:
    """Where the API answers, as it is told."""
    machine.until(lambda: machine.state()["api"], "it serves")
    return str(machine.state()["api"])


def server(machine: Machine) -> psutil.Process:
    """The process that serves."""
    port = int(re.search(r":(\d+)/", address(machine))[1])  # type: ignore[index]
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(it.laddr.port == port for it in one.net_connections() if it.status == "LISTEN"):
                return one
    raise AssertionError("nobody listens")


def test_it_is_begun_again_and_ends_with_the_supervisor(machine: Machine) -> None:
    """Its death costs no training, a person is told where it answers, Ctrl-C ends both."""
    daemon = machine.launch(machine.command("run", "--plain", "--serve"))
    machine.until_steps("A")
    mains = machine.trainers()
    url = address(machine)
    assert f"taken in at {url}" in machine("show-state").stdout
    assert f"taken in at {url}" in machine.screen.read_text()
    assert requests.get(f"{url}/health", timeout=30).json()["status"] == "healthy"
    first = server(machine)
    first.kill()
    until(lambda: not first.is_running(), "it is dead")
    until(lambda: machine.state()["api"] != url, "it is told no more")
    assert requests.get(f"{address(machine)}/jobs", timeout=30).status_code == 200
    assert machine.trainers() == mains
    assert machine.stop(daemon) == 0
    until(lambda: not beside(machine), "nobody serves")
    assert machine.state()["api"] is None
    assert [line["run"] for line in machine.events("run.died")] == []


def test_it_does_not_outlive_a_supervisor_that_is_killed(machine: Machine) -> None:
    """Trainers do, and are adopted; the API ends, and comes with the next one."""
    daemon = machine.launch(machine.command("run", "--plain", "--serve"))
    machine.until_steps("A")
    address(machine)
    daemon.kill()
    until(lambda: not beside(machine), "nobody serves")
    assert len(machine.trainers()) == 2
    again = machine.launch(machine.command("run", "--plain", "--serve"))
    address(machine)
    assert machine.stop(again) == 0


def test_a_port_that_is_taken_is_passed_over_only_beside_a_supervisor(machine: Machine) -> None:
    """Whoever starts it alone is told so in a line; of a home it is served once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        machine.configure(f"{SETTINGS}\n[web]\nlisten = '127.0.0.1:{port}'\n")
        alone = machine("serve")
        assert (alone.returncode, alone.stderr.count("\n")) == (75, 1)
        machine.launch(machine.command("run", "--plain", "--serve"))
        other = int(re.search(r":(\d+)/", address(machine))[1])  # type: ignore[index]
        assert port < other <= port + 100
        second = machine("serve", "--listen", "127.0.0.1:0")
        assert (second.returncode, second.stderr.count("\n")) == (75, 1)
        assert f"served already at http://127.0.0.1:{other}/" in second.stderr


def test_where_neither_page_nor_jobs_are_wanted_no_server_is_started(machine: Machine) -> None:
    """Nor where nobody has asked for it, nor beside a supervisor that runs already."""
    machine.configure(f"{SETTINGS}\n[web]\nenabled = false\n[jobs]\nenabled = false\n")
    daemon = machine.launch(machine.command("run", "--plain", "--serve"))
    machine.until_steps("A")
    assert psutil.Process(daemon.pid).children() != []
    assert beside(machine) == []
    second = machine("run", "--plain", "--serve")
    assert (second.returncode, "already runs" in second.stderr) == (75, True)
    assert not (machine.home / "api").exists()
    assert machine.stop(daemon) == 0
    machine.configure(SETTINGS + BESIDE)
    machine.start()
    assert not (machine.home / "api").exists()


def test_on_a_terminal_its_lines_do_not_break_the_view(machine: Machine) -> None:
    """The view tells where it answers; what it says itself lies in a file of the home."""
    ear, mouth = pty.openpty()
    with os.fdopen(mouth, "wb", buffering=0) as terminal:
        child = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run", "--serve"],
            env=machine.environment() | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
    shown = bytearray()

    def watch() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ear, 65536):
                shown.extend(piece)

    watcher = threading.Thread(target=watch)
    watcher.start()
    url = address(machine)
    machine.until_steps("A")
    machine.until(lambda: f"taken in at {url}".encode() in shown, "the view tells it")
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 0
    watcher.join(PATIENCE_S)
    os.close(ear)
    log = (machine.home / "api/serve.log").read_text()
    assert f"jobs are taken in at {url}, and kept in" in log
    assert b"and kept in" not in shown
    until(lambda: not beside(machine), "nobody serves")


def test_changed_settings_are_in_force_without_a_restart(machine: Machine) -> None:
    """The first token, at once; what is wrong changes nothing and is told; so is what waits."""
    machine.configure(f"[campaign]\nruns = []\n{BESIDE}")
    machine.launch(machine.command("run", "--plain", "--serve"))
    url = address(machine)
    pid = server(machine).pid

    def said(text: str) -> None:
        machine.until(lambda: text in machine.screen.read_text(), text)

    def asked(token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.get(f"{url}/jobs", headers=headers, timeout=30).status_code

    assert asked() == 200
    (machine.home / "token").touch(0o600)
    (machine.home / "token").write_text("t" * 32)
    tenant = "[jobs.tenants.acme]\ntoken_file = 'token'\n"
    machine.configure(f"[campaign]\nruns = []\n{BESIDE}{tenant}")
    said("changed settings of jobs are in force")
    assert (asked(), asked("t" * 32)) == (401, 200)
    machine.configure(f"[campaign]\nruns = []\n{BESIDE}weight = 'much'\n{tenant}")
    said("the settings of before stay in force")
    machine.configure(f"[campaign]\nruns = []\n{BESIDE}{tenant}keep = 2\n")
    (machine.home / "token").unlink()
    said("what was so before stays in force")
    assert (asked(), asked("t" * 32)) == (401, 200)
    machine.configure("[campaign]\nruns = []\n[web]\nlisten = '127.0.0.1:1'\n[jobs]\nstale_s = 99\n")
    said("listen of [web]: in force once `supervisor serve` is started anew")
    machine.until(lambda: asked() == 200, "the rest is in force")
    assert server(machine).pid == pid


def test_it_starts_with_the_last_good_settings(machine: Machine) -> None:
    """As the supervisor does, and leaves those that it has kept as they are."""
    machine.stop(machine.start())
    kept = (machine.home / "settings.last.json").read_bytes()
    machine.configure(SETTINGS + BESIDE + "nonsense = 1\n")
    daemon = machine.launch(machine.command("run", "--plain", "--serve"))
    address(machine)
    machine.until(
        lambda: re.search(r"nonsense.*settings of before", machine.screen.read_text()), "it is told"
    )
    assert machine.stop(daemon) == 0
    assert (machine.home / "settings.last.json").read_bytes() == kept


def test_a_home_that_was_removed_ends_it(machine: Machine, tmp_path: Path) -> None:
    """Nobody goes on taking in what nobody would find."""
    one = machine.launch(machine.command("serve"))
    address(machine)
    machine.home.rename(tmp_path / "elsewhere")
    assert one.wait(PATIENCE_S) == 0
    assert "its server ends" in machine.screen.read_text()
    machine.home.mkdir()
    shutil.copy(tmp_path / "elsewhere/supervisor.toml", machine.home)

"""Terminals, pipes and closed streams around a supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from lab import PATIENCE_S, SETTINGS, Machine


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "supervisor", *arguments]


def test_a_reader_that_stops_reading_stops_nothing(machine: Machine) -> None:
    """With a full pipe behind it the daemon goes on deciding, and obeys a stop."""
    machine.configure(SETTINGS.replace("1000000", "20"))
    ear, mouth = os.pipe()
    with os.fdopen(mouth, "wb", buffering=0) as pipe, os.fdopen(ear, "rb"):
        os.set_blocking(pipe.fileno(), False)
        try:
            while pipe.write(b"x" * 1024):
                pass
        except BlockingIOError:
            pass
        os.set_blocking(pipe.fileno(), True)
        daemon = subprocess.Popen(
            command("run"), env=machine.environment(), stdout=pipe, start_new_session=True
        )
        machine.daemons.append(daemon)  # type: ignore[arg-type]
        machine.until(lambda: machine.events("campaign.done"), "all is done")
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(PATIENCE_S) == 0


def test_nohup_is_respected(machine: Machine) -> None:
    """A supervisor that was told to ignore hang-ups trains on when the terminal goes away."""
    daemon = subprocess.Popen(
        ["nohup", *command("run")],
        env=machine.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    machine.daemons.append(daemon)  # type: ignore[arg-type]
    machine.until_steps("A")
    daemon.send_signal(signal.SIGHUP)
    machine.until_steps("A", machine.heartbeat("A")["step"] + 100)
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing_but_the_output(machine: Machine, closed: str) -> None:
    """A command that is started without streams still does its work."""
    words = " ".join(command("force-scale-up"))
    answer = subprocess.run(
        ["sh", "-c", f"{words} {closed}"],
        env=machine.environment(),
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0
    assert len(list((machine.home / "inbox").glob("*.json"))) == 1
    assert (machine.home / "inbox").exists()

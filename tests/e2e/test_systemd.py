"""What systemd hears of a supervisor that it started."""

from __future__ import annotations

import socket
from pathlib import Path

from testkit.machine import Machine
from testkit.patience import PATIENCE_S


def test_it_is_ready_once_it_trains_and_says_when_it_stops(
    machine: Machine, tmp_path: Path
) -> None:
    """READY comes after the first look, WATCHDOG with each look, STOPPING before the saving."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(address))
        ear.settimeout(PATIENCE_S)
        machine.extra["NOTIFY_SOCKET"] = str(address)
        daemon = machine.start()
        heard = ear.recv(4096).decode().splitlines()
        assert heard[:2] == ["READY=1", "WATCHDOG=1"]
        assert heard[2].startswith("STATUS=light: ")
        assert len(machine.events("run.started")) == 2
        assert machine.stop(daemon) == 0
        while "STOPPING=1" not in heard:
            heard += ear.recv(4096).decode().splitlines()


def test_a_trainer_inherits_nothing_that_is_between_systemd_and_the_supervisor(
    machine: Machine, tmp_path: Path
) -> None:
    """A trainer cannot speak to systemd in the supervisor's name, nor hold its lock."""
    machine.extra |= {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000000"}
    machine.start()
    machine.until_steps("A")
    for pid in machine.trainers():
        variables = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in variables
        assert b"WATCHDOG_USEC" not in variables
        held = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
        assert str(machine.home) not in held

"""A real supervisor as a user has it: its command line, its processes, its home."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from supervisor import journal
from supervisor.core.recorded import make_again
from testkit.commands import Commands
from testkit.patience import PATIENCE_S, until
from testkit.processes import processes

PROGRAM = (sys.executable, "-m", "supervisor")
CAMPAIGN = """\
[campaign]
trainer = "drill"
runs = ["A", "B", "C", "D", "E"]
target = { steps = 1000000 }

[campaign.options]
steps_per_s = 200
"""
SETTINGS = f"""\
[logs]
turns = true

{CAMPAIGN}
[checkpoints]
interval_s = 0.5
"""


class Machine:
    """One home, and the commands that a person types about it.

    Args:
        home: where it is.
        screen: where daemons print.
        commands: starts commands quickly; without it, each has a Python of its own.
        program: how commands begin.
    """

    def __init__(
        self,
        home: Path,
        screen: Path | None = None,
        commands: Commands | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.commands = commands
        self.program = tuple(program)
        self.home = home
        self.screen = screen or home.parent / "screen.log"
        self.home.mkdir(parents=True)
        self.boot = "b" * 32
        self.extra: dict[str, str | None] = {}
        """variables that are set; None: one that is not"""
        self.daemons: list[subprocess.Popen[str]] = []
        self.configure(SETTINGS)

    def configure(self, text: str) -> None:
        """Save settings as editors do: nobody reads half of them."""
        fresh = self.home / ".supervisor.toml.new"
        fresh.write_text(text)
        fresh.replace(self.home / "supervisor.toml")

    def environment(self) -> dict[str, str]:
        known = {
            **{key: value for key, value in os.environ.items() if key != "NO_COLOR"},
            "SUPERVISOR_HOME": str(self.home),
            "BOOT_ID": self.boot,
            "CUDA_VISIBLE_DEVICES": "",
            **self.extra,
        }
        return {key: value for key, value in known.items() if value is not None}

    def command(self, *arguments: str) -> list[str]:
        """What a person types."""
        return [*self.program, *arguments]

    def __call__(
        self, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        environment = self.environment()
        if stdin is None and self.commands and self.commands.can_run_in(environment):
            return self.commands.run(arguments, environment, PATIENCE_S)
        return subprocess.run(
            self.command(*arguments),
            env=environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def state(self) -> dict[str, Any]:
        answer = self("show-state", "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def run(self, name: str) -> dict[str, Any]:
        return next(run for run in self.state()["runs"] if run["name"] == name)

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        return logged(self.home, event)

    def start(self, *within: str) -> subprocess.Popen[str]:
        """Start a daemon, as a person does in a pipe; returns once it has decided something.

        Args:
            within: a command that runs it; none by default.
        """
        seen = len(self.events("supervisor.started"))
        daemon = self.launch([*within, *self.command("run")])
        self.until(lambda: len(self.events("supervisor.started")) > seen, "the daemon started")
        return daemon

    def launch(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a daemon with that command, and wait for nothing."""
        with self.screen.open("a") as screen:
            daemon = subprocess.Popen(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.daemons.append(daemon)
        return daemon

    def stop(self, daemon: subprocess.Popen[str]) -> int:
        """Press Ctrl-C and wait."""
        daemon.send_signal(signal.SIGINT)
        return daemon.wait(PATIENCE_S)

    def crash(self) -> None:
        """What a power cut does to processes: all of them are gone at once."""
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        self.sweep()

    def think_again(self) -> None:
        """Each turn of each daemon that was written down gives what it gave."""
        with contextlib.suppress(OSError):  # the test has put something else there
            turns = make_again(journal.read(self.home / "turns.jsonl"))
            assert turns.first is None, turns

    def reboot(self) -> None:
        """Come up again after a crash: a new boot id."""
        self.crash()
        self.boot = f"{int(self.boot, 16) + 1:032x}"

    def trainers(self) -> dict[int, str]:
        """Living processes of runs of this home: pid -> id of the run."""
        return {one.pid: one.run for one in processes(self.home / "runs")}

    def sweep(self) -> None:
        calm = 0

        def swept() -> bool:
            nonlocal calm
            living = self.trainers()
            # A daemon killed in mid-spawn has a child that carries the mark only a moment later.
            calm = 0 if living else calm + 1
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return calm == 3

        until(swept, "all trainers are ended")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Look until `condition` holds. Only real processes make this wait necessary."""
        until(condition, what, lambda: self.screen.read_text()[-3000:], look_s=0.05)

    def until_steps(self, name: str, step: int = 1) -> None:
        self.until(
            lambda: self.heartbeat(name).get("step", 0) >= step, f"{name} reaches step {step}"
        )

    def heartbeat(self, name: str, trainer: str = "drill") -> dict[str, Any]:
        return said(self.home, f"{trainer}-{name}")


def logged(home: Path, event: str | None = None) -> list[dict[str, Any]]:
    """What stands in the decision log of a home, all of it or of one event."""
    path = home / "decisions.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [line for line in found if event in (None, line["event"])]


def said(home: Path, run: str) -> dict[str, Any]:
    """What the trainer of a run said last; nothing where it never did."""
    try:
        beat: dict[str, Any] = json.loads((home / f"runs/{run}/heartbeat.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return beat

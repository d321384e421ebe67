"""Terminals, pipes and closed streams around a supervisor."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from modes import load_ladder
from state.records import Asked, Run
from state.store import Store
from supervisor import live
from supervisor.commands import build_parser
from supervisor.context import Context
from supervisor.core import history
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S


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
    words = shlex.join(command("force-scale-up"))
    answer = subprocess.run(
        ["sh", "-c", f"{words} {closed}"],
        env=machine.environment(),
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0
    assert len(list((machine.home / "inbox").glob("*.json"))) == 1
    assert (machine.home / "inbox").exists()


EVIL = "\x1b[66;6H\x1b]8;;http://evil\x07\x9b66;6H\x1b[35m\x1bc\x08\x7f\u202e\u2066"
"""moves the cursor, sets a link and a colour, clears the screen, turns the text around"""
OURS = re.compile(r"\x1b\[(0|1|2|3[12346])m")
HOSTILE_COMMANDS = (
    ("show-state",), ("get-mode",), ("get-mode", "--json"), ("runs",), ("goodput",), ("ledger",),
    ("decisions",), ("decisions", "--json"), ("why",), ("why", "--now"), ("replay",), ("doctor",),
    ("logs", "A"), ("logs", "B"), ("evaluate", "A"), ("record", "A", "-o", f"{EVIL}.gif"),
    ("check-config",), ("pin", EVIL), ("pin", "light"), ("logs", EVIL), ("why", EVIL), (EVIL,),
    ("retry", EVIL), ("retry", "A"), ("checkpoints", "A"), ("rewind", "A", EVIL),
    ("import-checkpoint", "A", EVIL),
    ("show-state", "--home", EVIL), ("replay", EVIL), ("replay", "--set", f"{EVIL}=1"),
    ("simulate", "--trace", EVIL), ("simulate", "--families", EVIL), ("tune",), ("stop",),
    ("analyze-usage",), ("analyze-usage", "--picture", f"{EVIL}.png"), ("sample-usage",),
)  # fmt: skip


def on_a_terminal(machine: Machine, *words: str) -> str:
    """What a terminal is sent by a command."""
    ear, mouth = pty.openpty()
    with contextlib.ExitStack() as ended:
        ended.callback(os.close, ear)
        with os.fdopen(mouth, "wb", buffering=0) as terminal:
            child = subprocess.Popen(
                command(*words),
                env=machine.environment() | {"TERM": "xterm-256color"},
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
            )
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ear, 65536):
                said += piece
        assert child.wait(PATIENCE_S) in (0, 1, 2, 73, 75, 78), said
    return said.decode()


@pytest.fixture
def hostile(machine: Machine) -> Machine:
    """A home in which everything that anybody writes commands a terminal."""
    asked = {name: Asked(id=f"drill-{name}", trainer="drill", name=name, seed=1) for name in "AB"}
    runs = tuple(Run(asked=asked[name], status="failed", reason=EVIL) for name in "AB")
    memory = history.first_day(SystemClock().read(), load_ladder(), runs)
    goal = msgspec.structs.replace(memory.goal, pinned=True)
    Store(machine.home / "state.json").save(msgspec.structs.replace(memory, goal=goal))
    line = {
        "seq": 1, "time": f"2026-01-05T20:33:38.000Z{EVIL}", "event": f"run.died{EVIL}",
        "run": f"[bold]{EVIL}", "reason": f"[bold]{EVIL}", "rule": EVIL, "boot": EVIL, "now_s": 1.0,
    }  # fmt: skip
    (machine.home / "decisions.jsonl").write_bytes(msgspec.json.encode(line) + b"\n")
    for name in "AB":
        folder = machine.home / f"runs/drill-{name}"
        folder.mkdir(parents=True)
        (folder / "output.log").write_bytes(f"begin {EVIL}\n 10%\r 20%\r\n".encode())
        (folder / "spec.json").write_bytes(msgspec.json.encode({"run": EVIL}))
        (folder / "heartbeat.json").write_bytes(msgspec.json.encode({"error": EVIL}))
    (machine.home / "tuning.json").write_bytes(
        msgspec.json.encode(
            {EVIL: [{"load": {"threads": 1, "batch_size": 1}, "choice": {"a": EVIL}}]}
        )
    )
    return machine


@pytest.mark.parametrize("words", HOSTILE_COMMANDS, ids=lambda words: ascii(words[0])[:14])
def test_nobody_commands_the_terminal_of_another(
    hostile: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Names, reasons, outputs, arguments: what a command prints is text and our own colours."""
    monkeypatch.chdir(tmp_path)
    if words in (("check-config",), ("doctor",)):
        hostile.configure(
            f'"{EVIL.encode("unicode_escape").decode()}" = 1\n'.replace("\\x", "\\u00")
        )
    said = OURS.sub("", on_a_terminal(hostile, *words)).replace("\r\n", "\n")
    assert said
    assert said.replace("\n", "").replace("\t", "").isprintable(), ascii(said)


def test_the_live_view_draws_what_others_have_written(hostile: Machine) -> None:
    """Codes in the log reach no terminal, and what looks like markup stands there as it is."""
    home = Home(hostile.home)
    report = Context(build_parser().parse_args(["--home", str(hostile.home), "live"])).report()
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(live.picture(home, msgspec.structs.replace(report, mode=f"[red]{EVIL}"), "foot"))
    said = console.export_text()
    assert said.replace("\n", "").isprintable(), ascii(said)
    assert "[bold]" in said
    assert "[red]" in said


def test_a_pipe_gets_the_bytes_of_a_trainer(hostile: Machine) -> None:
    """Whoever reads on from `logs` gets what was written."""
    said = subprocess.check_output(command("logs", "A"), env=hostile.environment())
    assert said == (hostile.home / "runs/drill-A/output.log").read_bytes()

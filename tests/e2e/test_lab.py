"""What tests take for the command `supervisor` is the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testkit.commands import Commands
from testkit.machine import Machine


@pytest.mark.parametrize(
    "typed",
    [
        [("--help",), (), ("pin",), ("nonsense",), ("logs", "\udcff"), ("completion", "zsh")],
        [("show-state",), ("runs",), ("get-mode",), ("get-uptime", "--machine"), ("get-reboots",)],
        [("force-scale-up",), ("force-scale-up",), ("pin", "light"), ("retry", "nobody")],
        [("forbid", "medium"), ("allow", "medium"), ("pause",), ("resume",), ("unpin",)],
        [("decisions", "--json"), ("why",), ("why", "--now"), ("ledger",), ("replay",)],
        [("goodput",), ("check-config",), ("doctor",), ("tune",)],
        [("simulate", "--worlds", "1", "--families", "calm", "--days", "1")],
        [("stop",), ("logs", "A"), ("evaluate", "A"), ("record", "A"), ("live",)],
        [("reset",), ("reset", "--yes"), ("--home", "/dev/null/nowhere", "run")],
    ],
)
def test_a_forked_command_is_one_that_was_started(
    typed: list[tuple[str, ...]], tmp_path: Path, commands: Commands
) -> None:
    """The same words come to the same on two machines, but for the numbers that time changes."""
    forked = Machine(tmp_path / "forked/home", commands=commands)
    started = Machine(tmp_path / "started/home")
    for words in typed:
        answers = []
        for machine in (forked, started):
            answer = machine(*words)
            said = answer.stdout + "\n" + answer.stderr
            said = re.sub(r"\d+", "#", said.replace(str(machine.home), "HOME"))
            answers.append((answer.returncode, bool(answer.stderr), said.split()))
        assert answers[0] == answers[1], words

"""Attempts at runs of tables that the power leaves, and what they leave when they are done.

As a program, `python -m testkit.mortal '[["RUN_DIR", "ROUND", 40], ...]'`, it makes the attempts,
each a process of its own, forked from one that has imported everything. `ROUND`: killed after so
many rounds of whatever model; `SYNC`: killed when it would have a file on the disk for the
so-manieth time; anything else lives. How each has ended is printed as JSON: exit codes, and signals
as negative numbers.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from testkit.patience import PATIENCE_S
from trainers import attempt
from trainers.contract import RunFolder
from trainers.session import options_of
from trainers.tables import learning
from trainers.tables.learning import learner
from trainers.tables.learning.growing import Model, content_sha256


def live(*attempts: tuple[Path, str, int]) -> list[int]:
    """Make attempts at runs, (run, how it dies, when); how each has ended."""
    ended = subprocess.run(
        [sys.executable, "-m", "testkit.mortal", json.dumps(attempts, default=str)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return list(json.loads(ended.stdout.splitlines()[-1]))


def model_left_by(run: Path) -> Model:
    """The model that a finished run has left."""
    kind = _options(run).learns.model
    return kind((run / kind.FILE).read_bytes())


def told_by(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics and the card of a finished run, without what differs between equal runs."""
    metrics = json.loads((run / "metrics.json").read_bytes())
    del metrics["training_duration_seconds"]
    card = json.loads((run / "model_card.json").read_bytes())
    del card["run"]
    assert card["content_sha256"] == content_sha256(model_left_by(run).arrays())
    return metrics, card


def _options(run: Path) -> learning.Learnable:
    spec = attempt.read_spec(RunFolder(run))
    kind = importlib.import_module(f"trainers.{spec.trainer}").Options
    options: learning.Learnable = options_of(spec, kind)
    return options


def _attempted(run: Path, what: str, number: int) -> int:
    """One attempt; its exit code, if it has one."""
    real_fsync, real_heard, left = os.fsync, learner._Watch.heard, number

    def one_more() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(handle: int) -> None:
        one_more()
        real_fsync(handle)

    def heard(watch: learner._Watch, score: float | None) -> None:
        one_more()
        real_heard(watch, score)

    if what == "SYNC":
        os.fsync = fsync  # type: ignore[assignment]
    elif what == "ROUND":
        learner._Watch.heard = heard  # type: ignore[method-assign]
    return attempt.run(run, attempt.read_spec(RunFolder(run)).trainer)


def main() -> None:
    """Make the attempts of the command line."""
    attempts = json.loads(sys.argv[1])
    for run in {run for run, *_ in attempts}:
        _ = _options(Path(run)).learns.model
    ended = []
    for run, what, number in attempts:
        pid = os.fork()
        if pid == 0:
            os._exit(_attempted(Path(run), what, number))
        ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(json.dumps(ended))  # noqa: T201 - that is what it is for


if __name__ == "__main__":
    main()

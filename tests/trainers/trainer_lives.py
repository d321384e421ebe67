"""Trainers as real processes, and what tests read of them."""

import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest

from testkit.patience import PATIENCE_S, until


class Life:
    """One real trainer process on a run folder."""

    def __init__(self, run, trainer, *arguments):
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainers", trainer, "--run", str(run), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def heartbeat(self):
        """This life's heartbeat, or None before the first."""
        try:
            heartbeat = strict_json((self.run / "heartbeat.json").read_bytes())
        except FileNotFoundError:
            return None
        return heartbeat if heartbeat["pid"] == self.process.pid else None

    def wait_for(self, condition):
        """Wait until `condition()` holds while the process lives; what it returned."""

        def look():
            ended = self.process.poll() is not None
            answer = condition()
            if ended and not answer:
                pytest.fail(
                    f"it ended with {self.process.returncode}: {self.process.communicate()}"
                )
            return answer

        return until(look)

    def wait_for_step(self, step):
        """Wait until a heartbeat tells of `step` or more."""
        return self.wait_for(lambda: (beat := self.heartbeat()) and beat["step"] >= step and beat)

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """Wait for the end: exit code, output, and what it said on stderr."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output, errors


def names_in(folder):
    """The names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def strict_json(content):
    """JSON in which NaN and Infinity are errors."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(content, parse_constant=refuse)


def write_spec(folder, **fields):
    """Write a spec: the fields given, some in short, the rest as small as can be."""
    spec = {
        "run": folder.name,
        "trainer": "drill",
        "name": "drill",
        "mode": "light",
        "version": 2,
        "threads": 1,
        "target": {"unit": "steps", "count": 1_000_000_000},
        **fields,
    }
    for unit in ("steps", "episodes"):
        if (count := spec.pop(f"target_{unit}", None)) is not None:
            spec["target"] = {"unit": unit, "count": count}
    load = {key: spec.pop(key) for key in ("n_envs", "batch_size") if key in spec}
    spec.setdefault("load", load)
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))


def kill_all(pids):
    """End processes that a test started."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

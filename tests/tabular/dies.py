"""Attempts at runs that the power leaves: `python dies.py '[["RUN_DIR", "ROUND", 40], ...]'`.

Each is a process of its own, forked from this one, that has imported everything. `ROUND`: killed
after so many rounds of whatever model; `SYNC`: killed when it would have a file on the disk for the
so-manieth time; anything else lives. How each has ended is printed as JSON: exit codes, and signals
as negative numbers.
"""

import json
import os
import signal
import sys
from pathlib import Path

from trainers import attempt
from trainers.contract import RunFolder
from trainers.tabular import learner
from trainers.tabular.models import model_of

attempts = json.loads(sys.argv[1])
for algorithm in {
    attempt.read_spec(RunFolder(Path(run))).options["algorithm"] for run, *_ in attempts
}:
    model_of(algorithm)

real_fsync, real_heard = os.fsync, learner._Watch.heard


def attempted(run, what, number):
    """One attempt; its exit code, if it has one."""
    left = number

    def one_more():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(handle):
        one_more()
        real_fsync(handle)

    def heard(watch, score):
        one_more()
        real_heard(watch, score)

    if what == "SYNC":
        os.fsync = fsync
    elif what == "ROUND":
        learner._Watch.heard = heard
    return attempt.run(run, "tabular")


ended = []
for run, what, number in attempts:
    pid = os.fork()
    if pid == 0:
        os._exit(attempted(Path(run), what, number))
    ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(ended))  # noqa: T201 - that is what it is for

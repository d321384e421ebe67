"""What the jobs of a storm train: a program that counts, and writes down what it really does.

It is started as `counted.py LEDGER STEPS HOW [CHECKPOINT]` by the trainer `command`, in the folder
`work` of its run, and imports nothing of ours. A line of the ledger is one write to the end of a
file, so lines of many programs are whole; and what a program has written stays, whoever kills it:

    TIME WHAT JOB HOME STEP NEWEST

It `begins` at the step of what was handed back to it, and NEWEST is the newest checkpoint that lies
in its run. A `twin` has found another program of its job alive in its home. It `steps`, `fails`,
`leaves` where it is asked to, and `ends`.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

STEP_S = 0.05
SAVES_EVERY = 4
"""steps"""
FAILS_AT = 3
"""the step at which one fails that is to"""
FAILED, NEVER, AGAIN = 1, 2, 75
"""exit codes: it may go well at the next start, or at none, or it was asked to leave"""


class Count:
    """One program, from its start to its end."""

    def __init__(self, ledger: Path, step: int) -> None:
        self.ledger, self.step = ledger, step
        self.run = Path.cwd().parent
        self.job, self.home = self.run.name, self.run.parent.parent.name
        self._lines = os.open(ledger / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def begin(self) -> None:
        """Write down from where it goes on, and whether it is alone."""
        # The kernel holds a lock for as long as its process lives, and not a moment longer.
        alone = os.open(self.ledger / f"alone-{self.job}-{self.home}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.write("twin")
        kept = [int(one.name) for one in self.run.glob("checkpoints/*") if one.name.isdigit()]
        self.write("begins", max(kept, default=0))

    def write(self, what: str, newest: int = 0) -> None:
        """Write a line of the ledger."""
        words = (_now(), what, self.job, self.home, self.step, newest)
        os.write(self._lines, (" ".join(map(str, words)) + "\n").encode())

    def go_on(self) -> None:
        """Make one step, and save where that is due."""
        time.sleep(STEP_S)
        self.step += 1
        self.write("steps")
        _tell(step=self.step)
        if self.step % SAVES_EVERY == 0:
            self.save()

    def save(self) -> None:
        """Save, and say so."""
        path = Path.cwd() / f"count-{self.step}.txt"
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(str(self.step))
        fresh.replace(path)
        _tell(saved=str(path), at=_now())

    def fail(self, how: str) -> None:
        """Fail as it is to: until somebody has mended it, or once."""
        mended = self.ledger / f"mended-{self.job}"
        if self.step == FAILS_AT and how in ("never", "dies once") and not mended.exists():
            if how == "dies once":
                mended.touch()
            self.write("fails")
            sys.exit(NEVER if how == "never" else FAILED)


def main() -> None:
    """Count up to the target, from what was handed back on."""
    ledger, last, how, *handed_back = sys.argv[1:]
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    count = Count(Path(ledger), int(Path(*handed_back).read_text()) if handed_back else 0)
    count.begin()
    while count.step < int(last) and not asked:
        count.go_on()
        count.fail(how)
    if count.step < int(last):
        count.save()
        count.write("leaves")
        sys.exit(AGAIN)
    count.write("ends")


def _tell(**said: object) -> None:
    with Path(os.environ["SUPERVISOR_PROGRESS"]).open("a") as progress:
        progress.write(json.dumps(said) + "\n")


def _now() -> float:
    return time.time()  # noqa: TID251 - the clock that whoever reads the ledger compares it with


if __name__ == "__main__":
    main()

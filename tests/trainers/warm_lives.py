"""Lives of Atari trainers, each forked from a process that has imported and loaded everything once.

Importing torch takes seconds, and tests of many lives need it but once. A line on
stdin is a network and a run folder; a line on stdout is the pid of the trainer that lives on it.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from testkit.patience import PATIENCE_S


class WarmLives:
    """The parent of trainers, used as a context manager; none outlives it."""

    def __enter__(self):
        here = Path(__file__).parent
        paths = os.pathsep.join(map(str, (here, here.parent, Path.cwd())))
        self._parent = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            # Threads that spin while they wait take the processor from those that they wait for.
            env=os.environ
            | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        )
        self._lives = []
        return self

    def start(self, run, network="whole"):
        """Start a trainer on a run folder, with the `whole` network or the `narrow` one."""
        self._parent.stdin.write(f"{network} {run}\n")
        life = WarmLife(int(self._parent.stdout.readline()))
        self._lives.append(life)
        return life

    def __exit__(self, *_):
        for life in self._lives:
            life.signal(signal.SIGKILL)
            life.wait()
            os.close(life.handle)
        self._parent.communicate()


class WarmLife:
    """One trainer."""

    def __init__(self, pid):
        self.handle = os.pidfd_open(pid)

    def signal(self, number):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)

    def wait(self, timeout_s=PATIENCE_S):
        """Whether it ended in this time."""
        return bool(select.select([self.handle], [], [], timeout_s)[0])


def main():
    torch.set_num_threads(1)
    # Not `for line in sys.stdin`: that reads ahead, into the memory of the children too.
    while line := sys.stdin.readline():
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        network, run = line.strip().split(" ", 1)
        run = Path(run)
        spec = attempt.read_spec(RunFolder(run))
        atari_game.preload(atari.rom_of(spec, options_of(spec, atari.Options)))
        pid = os.fork()
        if pid == 0:
            atari_ppo.Network = NETWORKS[network]
            output = os.open(run / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os._exit(attempt.run(run, "atari"))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    import torch
    from narrow import Narrow

    from trainers import atari, attempt
    from trainers.atari import game as atari_game
    from trainers.atari import learner as atari_learner  # noqa: F401 - once
    from trainers.atari import ppo as atari_ppo
    from trainers.contract import RunFolder
    from trainers.session import options_of

    NETWORKS = {"whole": atari_ppo.Network, "narrow": Narrow}
    main()

"""Trainers as people write them, each a process: `python odd_trainers.py NAME RUN_DIR`."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from trainers import attempt, registry
from trainers.contract import Score


def tell(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def returns_early(life):
    life.progress(10)
    life.save([("a", b"1")])


def is_done(life):
    returns_early(life)
    life.done()


def leaves_by_exit(life):
    is_done(life)
    sys.exit()


def saves_nothing(life):
    life.progress(life.spec.target.count)


def counts_with_numpy(life):
    step = np.int64(life.step)
    while not life.target_reached:
        step += 100
        score = Score(name="return_mean", value=np.int8(2))
        life.progress(step, episodes=np.uint8(3), loss=np.float32(0.5), score=score)
        life.log({"x": np.float64(1.5), "n": np.int32(4)})
    life.save({"weights of it.npy": np.zeros(3)})


def goes_back(life):
    life.progress(10)
    life.progress(9)


def names_a_path(life):
    life.progress(1)
    life.save([("../outside", b"x")])


def names_a_path_beside(life):
    life.progress(1)
    life.save([("a/b", b"x")], wait=False)
    while True:
        time.sleep(0.01)
        life.progress(life.step + 1)


class Unspeakable(Exception):
    def __str__(self):
        raise ZeroDivisionError


def dies_unspeakably(life):
    raise Unspeakable


def dies_with_broken_letters(life):
    raise ValueError("\ud800\x1b[2J\n" + "long " * 100_000)


def dies_of_a_full_disk(life):
    raise OSError(28, "No space left on device")


def forks_a_child_that_returns(life):
    life.progress(5)
    if os.fork() == 0:
        return
    os.wait()
    life.save([("a", b"1")])
    life.done()


def ends_its_children_at_once(life):
    """Prints how each of them ended that got SIGTERM before it could do anything."""
    ends = set()
    for _ in range(50):
        child = os.fork()
        if child == 0:
            signal.pause()
        os.kill(child, signal.SIGTERM)
        ends.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    tell("ENDS", ends)
    life.progress(1)
    life.save([("a", b"1")])
    life.done()


def _signals():
    """What this process does on the signals that its trainer heeds."""
    return [
        str(signal.getsignal(number))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    ] + [line for line in Path("/proc/self/status").read_text().splitlines() if "SigCgt" in line]


def _tell_signals(pipe):
    pipe.send(_signals())


def forks(life):
    """Prints the dispositions of its children, however they were forked."""
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("fork").Process(target=_tell_signals, args=(theirs,)).start()
    tell("CHILD", ours.recv())

    def fork_beside():
        if os.fork() == 0:
            tell("CHILD", _signals())
            os._exit(0)
        os.wait()

    thread = threading.Thread(target=fork_beside)
    thread.start()
    thread.join()
    # Its own code runs between fork and exec.
    child = subprocess.Popen(["sleep", "infinity"], preexec_fn=os.getpid)  # noqa: PLW1509
    child.terminate()
    tell("ENDED", child.wait())
    tell("OURS", _signals())
    life.progress(1)
    for _ in range(20):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(abs, range(4))
    life.save([("a", b"1")])
    life.done()


if __name__ == "__main__":
    train = globals()[sys.argv[1]]
    registry.load = lambda name: SimpleNamespace(check=lambda spec: None, train=train)
    sys.exit(attempt.run(Path(sys.argv[2]), "drill"))

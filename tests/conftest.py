"""What every test shares: chance that is the same in every run, signals of a terminal, turns."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import PurePath

import pytest
from hypothesis import HealthCheck, settings

from testkit.commands import Commands
from trainers.attempt import limit_threads

# As each trainer does, before anything numeric is imported. The threads of several processes on two
# cores would spin while they wait for each other, ten times as long as they work.
limit_threads(1)

# Some have Python compile anew each time what it starts with: twice the work of a process of ours,
# and hundreds are started here. What is compiled lies where it usually does.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "house",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("house")

# A shell has what it starts in the background ignore Ctrl-C, and nohup a hang-up; what we start
# would inherit that, and these tests send both.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        restored = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, restored)


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Starts commands quickly."""
    with Commands() as commands:
        yield commands


IN_TURN = (("adapters", "boots", "contracts"), ("e2e",), ("faults",))
"""folders of tests that start processes, mount disks or boot machines: of each group never two at a
time. What is booted has processes, mounts and a clock of its own, and so does each fault, so that
the groups do not meet: to each other they are no more than a busy machine."""
TOGETHER = (
    "jobs/*",
    "page/test_browser.py",
    "page/test_witness.py",
    "trainers/test_atari.py",
    "trainers/test_atari_ppo.py",
    "trainers/test_atari_record.py",
    "trainers/test_atari_stop.py",
    "usage/test_sources.py",
)
"""files whose tests share something that is made once, which takes seconds"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 3`: each process begins with tests that take turns, and goes on with the rest."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - the tests run without it, too

    class Turns(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path, *_ = nodeid.split("::")
            _, folder, *_, file = path.split("/")
            for group in IN_TURN:
                if folder in group:
                    return " and ".join(group)
            one = PurePath(folder, file)
            return path if any(one.match(files) for files in TOGETHER) else nodeid

    return Turns(config, log)

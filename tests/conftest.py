"""What every test shares: chance that is the same in every run, signals of a terminal, turns."""

import signal

import pytest
from hypothesis import HealthCheck, settings

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

IN_TURN = ("adapters", "boots", "contracts", "e2e", "faults")
"""folders of tests that start processes, mount disks or boot machines: never two at a time"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2`: one process has the tests that take turns, the other begins with the rest."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - the tests run without it, too

    class Turns(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            _, folder, *_ = nodeid.split("/")
            return "in turn" if folder in IN_TURN else nodeid

    return Turns(config, log)

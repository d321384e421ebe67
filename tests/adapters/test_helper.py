"""What may hang or crash does it in a child: every fault here is real, in a tiny one."""

import math
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from supervisor.helper import REST_MAX_S, REST_MIN_S, Helper, HelperFailed
from supervisor.programs import ROOT
from testkit import tiny_helper
from testkit.patience import PATIENCE_S, until
from testkit.tiny_helper import Reply, Request

CRASHED = r"the tiny process was ended by signal 6 \(Aborted\)"


def tiny(at_first="begin"):
    """The command of a helper that does this before its first reply."""
    return (sys.executable, tiny_helper.__file__, at_first)


def talking(program):
    """The command of a child that only talks."""
    return (sys.executable, "-u", "-c", f"{program}\nimport time; time.sleep(1e6)")


@pytest.fixture
def make(clock, children, monkeypatch):
    """Build helpers with a clock that stands still, and prove that no child is left over."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = []

    def make(command=None, **options):
        options = {"name": "tiny", "timeout_s": 5.0, "monotonic": clock, **options}
        made.append(Helper(command or tiny(), reply=Reply, **options))
        return made[-1]

    yield make
    for helper in made:
        helper.close()
    assert children.all() == []


def started(helper):
    """A helper whose child is ready."""
    assert helper.start()
    assert helper.receive(PATIENCE_S).done == "begin"
    return helper


def asked(helper, what):
    """The reply to one request, which starts a child where there is none."""
    if not helper.is_up:
        started(helper)
    helper.ask(Request(what))
    return helper.receive(PATIENCE_S)


def crashed(helper):
    """The helper, after a crash that was noticed."""
    with pytest.raises(HelperFailed, match=CRASHED):
        asked(helper, "crash")
    return helper


def test_it_speaks_first_and_answers_one_request_after_the_other(make, children):
    """One child serves many requests, in a session of its own; nothing is under way in between."""
    helper = make()
    assert (helper.is_up, helper.is_busy, helper.handles, helper.due_s) == (
        False,
        False,
        (),
        math.inf,
    )
    assert helper.receive(PATIENCE_S) is None
    assert helper.start()
    assert (helper.is_starting, helper.is_busy) == (True, True)
    first = helper.receive(PATIENCE_S)
    assert first == Reply("begin", children.one().pid)
    assert (helper.is_starting, helper.is_busy, helper.handles) == (False, False, ())
    assert [asked(helper, what) for what in "ab"] == [Reply("a", first.pid), Reply("b", first.pid)]
    assert os.getsid(first.pid) == first.pid
    assert helper.start()
    assert children.one().pid == first.pid


def test_nobody_has_to_wait(make, clock):
    """What is not there yet is none; the handle tells when it is."""
    helper = started(make())
    helper.ask(Request("dawdle"))
    assert helper.receive() is None
    clock.advance(1.0)
    assert (helper.is_busy, helper.due_s) == (True, 4.0)
    assert select.select(helper.handles, (), (), PATIENCE_S)[0]
    assert helper.receive().done == "dawdle"
    assert helper.due_s == math.inf


def test_a_hang_is_given_up_when_its_time_is_over(make, clock, children):
    """Somebody gives it up, and the child is dead then; until the rest is over none is started."""
    helper = started(make())
    helper.ask(Request("hang"))
    clock.advance(5.0)
    assert helper.receive() is None
    assert helper.due_s == 0.0
    with pytest.raises(HelperFailed, match=r"^tiny did not answer within 5 s$"):
        helper.give_up()
    assert (helper.is_up, helper.handles, helper.due_s, children.all()) == (False, (), math.inf, [])
    assert not helper.start()
    clock.advance(REST_MIN_S)
    assert asked(helper, "a").done == "a"


def test_a_slow_start_is_no_hang(make, clock):
    """The first reply has a time of its own, in which it is looked at now and then."""
    helper = make(tiny("hang"), start_timeout_s=12.0)
    helper.start()
    assert helper.due_s == 5.0
    clock.advance(10.0)
    assert helper.due_s == 2.0
    clock.advance(2.0)
    assert (helper.receive(), helper.due_s) == (None, 0.0)
    with pytest.raises(HelperFailed, match=r"^tiny did not start within 12 s$"):
        helper.give_up()


def test_a_crash_rests_twice_as_long_each_time(make, clock, children):
    """What crashes again and again is met after 5, 10, 20 ... seconds, at most an hour."""
    helper = make()
    rest_s = REST_MIN_S
    for _ in range(12):
        crashed(helper)
        clock.advance(rest_s - 1)
        assert not helper.start()
        assert children.all() == []
        clock.advance(1)
        rest_s = min(2 * rest_s, REST_MAX_S)
    assert rest_s == REST_MAX_S


def test_a_child_that_lived_long_earns_a_short_rest(make, clock):
    """One crash after a long healthy life is not paid for with the rests of old crashes."""
    helper = make()
    for _ in range(3):
        crashed(helper)
        clock.advance(REST_MAX_S)
    started(helper)
    clock.advance(REST_MAX_S)
    crashed(helper)
    clock.advance(REST_MIN_S)
    assert helper.start()


def test_what_a_reply_says_may_be_reason_enough(make, clock, children):
    """Its user ends it for a reason, or sends it to rest for as long as that is of use."""
    helper = started(make())
    with pytest.raises(HelperFailed, match=r"^of no use$"):
        helper.give_up("of no use")
    clock.advance(REST_MIN_S)
    started(helper).rest(100.0)
    assert children.all() == []
    clock.advance(99.0)
    assert not helper.start()
    clock.advance(1.0)
    assert helper.start()


@pytest.mark.parametrize(
    ("program", "trouble"),
    [
        (r"print('NVRM: hello')", "talks nonsense: b'NVRM: hello'"),
        (r"print('\xff\x00')", "talks nonsense"),
        (r"print('[]')", "talks nonsense"),
        (r"print('{}')", "talks nonsense"),
        (r"""print('{"done":"","pid":1}\n{}')""", "talks out of turn: b'{}"),
        (r"print('x' * 3_000_000)", "talks without end"),
        (r"raise SystemExit(3)", "ended with exit status 3"),
        (r"import os; os.close(1)", "closed its pipes"),
    ],
)
def test_nonsense_is_ended(make, children, program, trouble):
    """A child that talks nonsense is ended, and the reason is said."""
    helper = make(talking(program))
    helper.start()
    with pytest.raises(HelperFailed, match=f"^the tiny process {trouble}"):
        helper.receive(PATIENCE_S)
    assert children.all() == []
    assert not helper.start()


def test_what_is_said_unasked_is_no_answer_to_the_next_request(make):
    """Who talks on after a reply is ended before it is asked again."""
    say = """os.write(1, b'{"done":"","pid":1}\\n')"""
    helper = make(talking(f"import os, time; {say}; time.sleep(0.2); {say}"))
    helper.start()
    helper.receive(PATIENCE_S)
    assert select.select((helper._child.handle,), (), (), PATIENCE_S)[0]
    with pytest.raises(HelperFailed, match="the tiny process talks out of turn"):
        helper.ask(Request("a"))


def test_a_child_that_has_nothing_more_to_say_ends(make, children):
    """One that finds nothing to ask it says so, and who asks all the same learns how it ended."""
    helper = make(tiny("nothing to ask"))
    helper.start()
    assert helper.receive(PATIENCE_S).done == "nothing to ask"
    until(lambda: children.one().status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(HelperFailed, match="the tiny process ended with exit status 0"):
        helper.ask(Request("a"))


def test_a_command_that_does_not_exist(make):
    """An interpreter that was upgraded away is a failure like others."""
    helper = make(("/no/such/python",))
    with pytest.raises(HelperFailed, match="the tiny process did not start"):
        helper.start()
    assert not helper.start()


def test_what_is_printed_is_no_reply(make):
    """A library that prints on stdout does not disturb the conversation."""
    assert asked(make(), "print").done == "print"


def test_no_child_starts_beside_one_that_cannot_die(make, clock, children):
    """A child that SIGKILL does not end is waited for, never joined by a second one."""
    helper = started(make(stuck_in="the mud"))
    child = children.one()
    # A tracer that stops the process in the middle of its exit stands for the kernel.
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(child.pid)], stdout=subprocess.PIPE, text=True
    )
    try:
        if tracer.stdout.readline() != "0\n":
            pytest.skip("this machine does not let a process trace another")
        with pytest.raises(HelperFailed, match="of no use"):
            helper.give_up("of no use")
        assert child.is_running()
        for _ in range(3):
            clock.advance(REST_MAX_S)
            with pytest.raises(
                HelperFailed, match=r"^the tiny process is stuck in the mud: needs a reboot$"
            ):
                helper.start()
        assert set(children.all()) == {child, psutil.Process(tracer.pid)}
    finally:
        tracer.kill()
        tracer.communicate()
    until(lambda: child.status() == psutil.STATUS_ZOMBIE)
    clock.advance(REST_MAX_S)
    started(helper)
    assert children.one() != child


TRACER = """
import ctypes, sys, time
PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x4206, 0x40
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
print(ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, PTRACE_O_TRACEEXIT), flush=True)
time.sleep(1e6)
"""


@pytest.mark.parametrize("what", ["begin", "hang"])
def test_the_child_dies_with_the_daemon(monkeypatch, what):
    """When the daemon is killed, its child goes too, even from inside a call that hangs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-c", DAEMON, *tiny(), what]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        daemon.stdout.readline()
        (child,) = psutil.Process(daemon.pid).children()
        if what == "hang":
            # Only a child that has entered the call proves anything.
            until(lambda: signal.SIGTERM in blocked_signals(child.pid))
    finally:
        daemon.kill()
        daemon.communicate()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


DAEMON = """
import sys, time
from pathlib import Path
*command, what = sys.argv[1:]
sys.path.append(str(Path(command[1]).parents[1]))
from supervisor.helper import Helper
from testkit.tiny_helper import Reply, Request
helper = Helper(command, reply=Reply, name="tiny")
helper.start()
helper.receive(1e6)
helper.ask(Request(what))
print(flush=True)
time.sleep(1e6)
"""


def blocked_signals(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            mask = int(line.split()[1], 16)
            return {number for number in range(1, 65) if mask >> (number - 1) & 1}
    return set()


def test_the_child_inherits_no_lock(make, children, tmp_path):
    """The daemon's lock file is not open in the child, even if marked inheritable."""
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)
    try:
        started(make())
        open_paths = {path.readlink() for path in Path(f"/proc/{children.one().pid}/fd").iterdir()}
    finally:
        os.close(lock)
    assert tmp_path / "lock" not in open_paths


def test_closing_twice_or_before_the_start_is_harmless(make, children):
    """Closing is always possible, and no reason to rest."""
    helper = make()
    helper.close()
    started(helper).ask(Request("hang"))
    helper.close()
    helper.close()
    assert children.all() == []
    assert asked(helper, "a").done == "a"

"""What others take is told from what is ours: on made-up counters, and on this very machine."""

import os
import subprocess
import sys
import time

import pytest

from supervisor.core.guard import Pressure
from supervisor.core.readings import GpuReadings
from supervisor.host import pressure as press
from supervisor.host.cgroup import ControlGroup
from supervisor.host.home import SERVICE
from supervisor.host.pressure import (
    Busy,
    Taken,
    Usage,
    between,
    busiest,
    look,
    others,
    own_ticks,
    pressure,
)
from supervisor.host.process import start_ticks
from testkit.patience import until

ROOT, TRAINER, WORKER, HELPER = (1, 10), (2, 20), (3, 30), (4, 40)
SECOND = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
BUSY = "while True: pass"
GROUPED = f"0::/system.slice/{SERVICE}\n"


def held(ticks, waited=0, parent=None):
    return Taken(ticks=ticks, waited_ticks=waited, parent=parent, memory_kib=0)


def usage(at_s=0.0, **given):
    fields = {
        "boot_ticks": 100,
        "busy": 1000,
        "total": 4000,
        "processes": {},
        "group_cpu_s": None,
        "memory_total_mib": 1000.0,
        "memory_available_mib": 400.0,
        "memory_own_mib": 500.0,
        "swap_used_mib": 0.0,
        "stalls": {},
    }
    return Usage(at_s=at_s, **{**fields, **given})


def no_group():
    return ControlGroup("", "")


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [
        pytest.param({ROOT: held(5)}, {ROOT: held(9)}, 4, id="what lives has used the difference"),
        pytest.param({}, {TRAINER: held(7)}, 0, id="one that is new to us and older than the look"),
        pytest.param({}, {(9, 150): held(7, 2)}, 9, id="one that was born since"),
        pytest.param(
            {ROOT: held(5), TRAINER: held(40, 3, ROOT)},
            {ROOT: held(5, 50)},
            7,
            id="what an ended one used stands with its parent, and was counted but for the rest",
        ),
        pytest.param(
            {ROOT: held(5), TRAINER: held(40, 0, ROOT), WORKER: held(20, 0, TRAINER)},
            {ROOT: held(5, 65)},
            5,
            id="a whole tree that has ended stands with who is left",
        ),
        pytest.param(
            {ROOT: held(5), TRAINER: held(40)}, {ROOT: held(6)}, 1, id="nobody of ours waited"
        ),
        pytest.param(
            {ROOT: held(5), TRAINER: held(40, 0, ROOT)},
            {ROOT: held(5, 10)},
            0,
            id="what cannot be is nothing, and never less",
        ),
        pytest.param(
            {ROOT: held(5), TRAINER: held(90, 0, ROOT)},
            {ROOT: held(5, 92), (2, 150): held(4, 0, ROOT)},
            6,
            id="its pid is another's by now",
        ),
        pytest.param(
            {ROOT: held(5, 7)}, {ROOT: held(5, 19)}, 12, id="born and ended between the looks"
        ),
    ],
)
def test_our_time_counts_once_whoever_lives_or_ends(before, after, used):
    """Each tick that a tree has used is counted, and none twice."""
    assert own_ticks(before, after, since_ticks=100) == used


def test_what_is_left_of_the_busy_time_is_that_of_others():
    """Of two cores three quarters were busy, half of it with ours."""
    after = usage(
        10.0, busy=2500, total=6000, processes={(9, 150): held(500)}, memory_own_mib=450.0
    )
    # And of the 550 MiB that are not ours, 400 are free.
    left = pytest.approx(100 * 150 / 550)
    assert pressure(usage(), after) == Pressure(cpu_other=50.0, memory_other=left)


def test_of_a_group_of_our_own_its_time_counts():
    """Its counter has what has ended, and whatever hides in there."""
    before, after = usage(group_cpu_s=7.0), usage(10.0, busy=2000, total=5000, group_cpu_s=9.5)
    used = between(before, after)
    assert used.cpu_percent == 100.0
    assert used.cpu_own_percent == 100 * 2.5 * press.TICKS_PER_S / 1000


@pytest.mark.parametrize(
    "after",
    [
        usage(10.0, busy=None, total=None),
        usage(10.0),
        usage(0.01, busy=1001, total=4001),
        usage(10.0, busy=1500, total=5000, group_cpu_s=1.0),
    ],
    ids=["no counters", "the counters stand still", "too short", "counted in another way"],
)
def test_what_is_not_known_is_not_zero(after):
    """Without counters, within a blink, or where the way of counting has changed."""
    assert pressure(usage(), after).cpu_other is None


def test_a_stall_is_a_share_of_the_time():
    """Microseconds of waiting between two looks; a kernel without these tells none."""
    before = usage(stalls={"cpu some": 1_000_000, "io full": 5})
    after = usage(10.0, stalls={"cpu some": 3_500_000, "io full": 5})
    used = between(before, after)
    assert (used.psi_cpu, used.psi_io_full, used.psi_memory) == (25.0, 0.0, None)


def card(*pids, mib, used_mib=10_000):
    return GpuReadings(index=0, memory_used_mib=used_mib, pids=pids, pids_mib=mib)


def test_the_memory_of_a_gpu_is_ours_or_others():
    """What our processes hold is taken from what is used, the driver's own included."""
    me, parent = os.getpid(), os.getppid()
    mine = usage(processes={(me, 1): held(1)})
    assert press.gpu_memory_other_mib(card(me, parent, mib=(3000, 500)), mine) == 7000
    assert press.gpu_memory_other_mib(card(parent, mib=(None,)), mine) == 10_000
    assert press.gpu_memory_other_mib(card(mib=(), used_mib=0), mine) == 0
    gpus = (card(me, mib=(4000,)), GpuReadings(index=1))
    assert pressure(usage(), mine, gpus).gpu_memory_other_mib == {"0": 6000.0}


def test_whose_memory_of_a_gpu_nobody_can_tell_is_unknown():
    """A driver that does not tell how much, or tells pids that are none here."""
    mine = usage(processes={(os.getpid(), 1): held(1)})
    assert press.gpu_memory_other_mib(card(os.getpid(), mib=(None,)), mine) is None
    assert press.gpu_memory_other_mib(card(2**22 + 1, mib=(500,)), mine) is None
    assert press.gpu_memory_other_mib(GpuReadings(index=0), mine) is None


def test_a_process_that_the_service_may_not_see_is_anothers(monkeypatch):
    """The unit hides the processes of other accounts, which hold memory all the same."""

    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    mine = usage(processes={(os.getpid(), 1): held(1)})
    assert press.gpu_memory_other_mib(card(2**22 + 1, mib=(500,)), mine) == 10_000


def test_a_service_asks_its_own_control_group(tmp_path):
    """Nothing else lives in it, and it has the time of those that have ended."""
    group = tmp_path / "sys/fs/cgroup/system.slice" / SERVICE
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (group / "memory.current").write_text(f"{500 * 2**20}\n")
    kept = {"inactive_file": 100, "active_file": 40, "slab_reclaimable": 10, "anon": 350}
    text = "".join(f"{name} {mib * 2**20}\n" for name, mib in kept.items())
    (group / "memory.stat").write_text(text)
    seen = look(group=ControlGroup(GROUPED, SECOND, tmp_path))
    assert (seen.group_cpu_s, seen.memory_own_mib, seen.processes) == (2.5, 350.0, {})
    below = ControlGroup(f"{GROUPED.strip()}/daemon\n", SECOND, tmp_path)
    assert look(group=below).group_cpu_s == 2.5
    trainer = (os.getpid(), start_ticks(os.getpid()))
    adopted = look([trainer], group=ControlGroup(GROUPED, SECOND, tmp_path))
    assert adopted.group_cpu_s is None
    assert trainer in adopted.processes


def test_a_group_that_we_share_is_not_ours(tmp_path):
    """A session or a container holds others, too: there our processes are counted."""
    shared = ControlGroup("0::/user.slice/session-1.scope\n", SECOND, tmp_path)
    seen = look(group=shared)
    assert seen.group_cpu_s is None
    assert os.getpid() in {pid for pid, _ in seen.processes}
    assert seen.memory_own_mib > 1


@pytest.fixture
def spawn():
    """Starts programs that are ended with the test."""
    living = []

    def start(code):
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        living.append(child)
        return child

    yield start
    for child in living:
        child.kill()
        child.wait()


def worked_s(spawn, trainers=()):
    """Of how much of the processor time of some seconds it says that it was ours, in seconds."""
    before = look(trainers, no_group())
    time.sleep(2.0)  # of real processes, at real work
    after = look(trainers, no_group())
    return own_ticks(before.processes, after.processes, before.boot_ticks) / press.TICKS_PER_S


def test_a_busy_child_is_ours_also_once_it_has_ended(spawn):
    """A program that ran for half a second between two looks counts with half a second."""
    before = look(group=no_group())
    for _ in range(3):
        code = "import time\nwhile time.process_time() < 0.2: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
    after = look(group=no_group())
    used_s = own_ticks(before.processes, after.processes, before.boot_ticks) / press.TICKS_PER_S
    assert used_s >= 0.57


def test_a_trainer_of_another_parent_is_ours_with_its_workers(spawn, tmp_path):
    """Named as one of ours it counts with all that it has started, whoever has started it."""
    told = tmp_path / "pid"
    inner = (
        "import subprocess, sys, os\n"
        f"subprocess.Popen([sys.executable, '-c', {BUSY!r}])\n"
        f"open({str(told)!r}, 'w').write(str(os.getpid()))\n"
        "import time\ntime.sleep(600)\n"
    )
    # Its parent ends at once, as that of a trainer which another supervisor has started.
    spawn(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {inner!r}])").wait()
    until(lambda: told.exists() and told.read_text(), "it has told its pid")
    pid = int(told.read_text())
    trainer = (pid, start_ticks(pid))
    try:
        assert worked_s(spawn) < 0.3
        assert worked_s(spawn, [trainer]) > 0.3
        assert worked_s(spawn, [(pid, trainer[1] - 1)]) < 0.3, "its pid had another process"
    finally:
        workers = [one for one, _ in look([trainer], no_group()).processes if one != os.getpid()]
        for one in workers:
            os.kill(one, 9)


def test_children_are_found_on_a_kernel_that_does_not_list_them(spawn, monkeypatch):
    """By a look at all processes."""
    child = spawn("import time; time.sleep(600)")
    found = look(group=no_group()).processes
    monkeypatch.setattr(press, "_tells_children", lambda proc: False)
    same = look(group=no_group()).processes
    assert child.pid in {pid for pid, _ in found}
    assert {identity: one.parent for identity, one in same.items()} == {
        identity: one.parent for identity, one in found.items()
    }


def test_a_kernel_that_tells_nothing_is_unknown(tmp_path):
    """Whatever is missing is None, and nothing is raised."""
    before, after = (look(group=no_group(), proc=tmp_path)._replace(at_s=at) for at in (0.0, 5.0))
    assert pressure(before, after) == Pressure()
    used = between(before, after)
    assert (used.memory_total_mib, used.memory_own_mib, used.swap_used_mib) == (None, None, None)


def test_this_machine_tells_all(spawn):
    """Any Linux machine of today tells who keeps its processors busy."""
    spawn("import time; time.sleep(600)")
    before = look(group=no_group())
    time.sleep(0.5)
    told = pressure(before, look(group=no_group()))
    assert 0 <= told.cpu_other <= 100
    assert 0 < told.memory_other < 100


def test_who_presses_is_named_and_nobody_of_ours():
    """The busiest first, by what each has used between two looks."""
    me, theirs = os.getpid(), (7, 1)
    before = {theirs: Busy("java", 100, 50.0), (8, 1): Busy("cron", 900, 3.0)}
    after = {
        theirs: Busy("java", 400, 60.0),
        (8, 1): Busy("cron", 900, 3.0),
        (9, 5): Busy("new", 20, 400.0),
    }
    cpu, memory = busiest(before, after, covers_s=2.0)
    assert cpu == ("java (pid 7) 150 % of one", "new (pid 9) 10 % of one")
    assert memory[0] == "new (pid 9) 400 MiB"
    found = others(usage(processes={(me, 1): held(1)}))
    assert found
    assert me not in {pid for pid, _ in found}

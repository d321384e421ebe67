"""Every fault here is real: it happens in the NVML process, which is a process of its own."""

import json
import math
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

import testkit
from supervisor.core.readings import GpuAnswer
from supervisor.helper import REST_MAX_S, REST_MIN_S
from supervisor.host import gpu
from supervisor.host.gpu import Gpus
from testkit.patience import PATIENCE_S

FAKE_NVML = Path(testkit.__file__).with_name("fake_nvml")


@pytest.fixture
def nvml(tmp_path, monkeypatch):
    """Set the faults of the NVML that every process started from here meets."""
    faults = tmp_path / "faults.json"
    monkeypatch.setenv("FAKE_NVML", str(faults))
    monkeypatch.setenv("PYTHONPATH", str(FAKE_NVML))

    def set_faults(**by_function):
        draft = tmp_path / "faults.draft"
        draft.write_text(json.dumps(by_function))
        draft.replace(faults)

    set_faults()
    return set_faults


@pytest.fixture
def make_gpus(clock, children):
    """Build GPUs with a fake clock, and prove afterwards that no process is left over.

    Nothing has a short deadline but what is meant to meet it.
    """
    made = []

    def make(**options):
        made.append(Gpus(monotonic=clock, **{"timeout_s": PATIENCE_S, **options}))
        return made[-1]

    yield make
    for gpus in made:
        gpus.close()
    assert children.all() == []


def look(gpus):
    """What is known once all is known that a look has asked for: the GPUs, and the trouble.

    As the daemon does it: the look takes what is there, and another one follows on the answer.
    """
    answer = gpus.read()
    while gpus.handles:
        listen(gpus)
        if gpus.take():
            answer = gpus.read()
    return answer.gpus, answer.trouble


def listen(gpus):
    """Sleep until the NVML process has said something."""
    assert select.select(gpus.handles, (), (), PATIENCE_S)[0], "the NVML process says nothing"


def test_healthy_gpus_tell_everything(nvml, make_gpus):
    """Two healthy GPUs tell everything about themselves."""
    nvml(**{"pids@0": [4711]})
    (first, second), trouble = look(make_gpus())

    assert trouble is None
    assert first == gpu.GpuReadings(
        index=0,
        uuid="GPU-0000-0",
        name="NVIDIA H100 80GB HBM3",
        memory_used_mib=10 * 1024,
        memory_total_mib=80 * 1024,
        pids=(1234, 4711),
        pids_mib=(None, 1024),
        utilization_percent=97,
        temperature_c=61,
        temperature_limit_c=87,
        power_w=412.5,
        power_limit_w=700,
        ecc_uncorrected=3,
        xids=(),
    )
    assert (second.index, second.uuid, second.temperature_c) == (1, "GPU-0000-1", 62)


def test_one_process_serves_many_readings(nvml, make_gpus, children):
    """One process serves many readings, in a session of its own."""
    gpus = make_gpus()
    look(gpus)
    process = children.one()
    look(gpus)

    assert children.one() == process
    assert os.getsid(process.pid) == process.pid


def test_no_library_is_no_gpu(make_gpus, monkeypatch, children):
    """A machine without NVML has no GPU and no trouble, and is asked again once an hour."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    gpus = make_gpus()

    assert look(gpus) == ((), None)
    assert children.all() == []
    assert gpus.limit_power(None) is None
    assert gpus.limit_power(250) == "there is no GPU to limit"


@pytest.mark.parametrize("faults", [{"nvmlInit": "LIBRARY_NOT_FOUND"}, {"count": 0}])
def test_absence_is_remembered_for_an_hour(nvml, make_gpus, clock, faults, children):
    """A GPU that appears is seen within an hour, and no process starts before that."""
    nvml(**faults)
    gpus = make_gpus()
    assert look(gpus) == ((), None)
    nvml()

    clock.advance(3599)
    assert look(gpus) == ((), None)
    assert children.all() == []
    clock.advance(1)
    assert len(look(gpus)[0]) == 2


def test_gpus_that_vanish_are_trouble(nvml, make_gpus, clock, children):
    """A driver upgrade takes the library away: GPUs that were here are unknown, not absent."""
    gpus = make_gpus()
    look(gpus)
    children.one().kill()
    look(gpus)
    nvml(nvmlInit="LIBRARY_NOT_FOUND")
    clock.advance(REST_MIN_S)

    assert look(gpus) == ((), "the GPUs that were here are gone")


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        ("LIB_RM_VERSION_MISMATCH", "driver/library version mismatch: needs a reboot"),
        ("DRIVER_NOT_LOADED", "the NVIDIA driver is not loaded"),
        ("UNKNOWN", "Unknown Error"),
    ],
)
def test_nvml_that_does_not_start_is_no_crash_loop(nvml, make_gpus, clock, error, trouble):
    """NVML that does not start is trouble, and is tried ever more rarely."""
    nvml(nvmlInit=error)
    gpus = make_gpus()
    starts = 0
    for _ in range(24 * 60):  # a day, looked at every minute
        before = gpus._helper.started_s
        assert look(gpus) == ((), trouble)
        starts += gpus._helper.started_s != before
        clock.advance(60)
    assert 24 < starts < 40


def test_a_lost_gpu_leaves_the_others_readable(nvml, make_gpus):
    """One GPU falls off the bus: it is named, it keeps its place, and the other is readable."""
    gpus = make_gpus()
    look(gpus)
    nvml(**{"*@1": "GPU_IS_LOST"})
    (first, second), trouble = look(gpus)

    assert trouble == "GPU 1: GPU is lost: needs a reboot"
    assert first.power_w == 412.5
    assert second == gpu.GpuReadings(index=1)
    assert gpus.limit_power(300) == trouble
    assert look(gpus)[0][0].power_limit_w == 300


def test_a_gpu_lost_before_the_start(nvml, make_gpus):
    """A GPU that was lost before the daemon started does not hide the other one."""
    nvml(**{"*@0": "GPU_IS_LOST"})
    (first, second), trouble = look(make_gpus())

    assert trouble == "GPU 0: GPU is lost: needs a reboot"
    assert first.uuid is None
    assert second.uuid == "GPU-0000-1"


def test_when_every_gpu_is_lost_the_process_lets_go(nvml, make_gpus, clock, children):
    """With every GPU lost, no process holds them open, and a reset GPU is found again."""
    gpus = make_gpus()
    look(gpus)
    nvml(**{"*@0": "GPU_IS_LOST", "*@1": "UNKNOWN"})

    lost = ((), "GPU 0: GPU is lost: needs a reboot; GPU 1: Unknown Error")
    assert look(gpus) == lost
    assert children.all() == []
    assert look(gpus) == lost
    nvml()
    clock.advance(REST_MIN_S)
    readings, trouble = look(gpus)
    assert len(readings) == 2
    assert trouble is None


def test_what_a_gpu_does_not_support_is_unknown(nvml, make_gpus):
    """A GPU without a feature leaves that field unknown, and this is no trouble."""
    nvml(
        nvmlDeviceGetPowerUsage="NOT_SUPPORTED",
        nvmlDeviceGetMemoryInfo="FUNCTION_NOT_FOUND",
        nvmlDeviceGetUtilizationRates="NO_PERMISSION",
        nvmlDeviceGetComputeRunningProcesses_v3="FUNCTION_NOT_FOUND",
        nvmlDeviceGetTotalEccErrors="NOT_SUPPORTED",
        nvmlDeviceRegisterEvents="NOT_SUPPORTED",
        nvmlDeviceGetTemperatureThreshold="DEPRECATED",
    )
    (first, _), trouble = look(make_gpus())

    assert trouble is None
    assert first.power_w is None
    assert first.memory_used_mib is None
    assert first.utilization_percent is None
    assert first.pids is None
    assert first.ecc_uncorrected is None
    assert first.xids is None
    assert first.temperature_limit_c is None
    assert first.temperature_c == 61


@pytest.mark.parametrize(
    ("fault", "pids"),
    [
        ({"nvmlDeviceGetGraphicsRunningProcesses_v3": "NOT_SUPPORTED"}, (4711,)),
        ({"nvmlDeviceGetComputeRunningProcesses_v3": "NO_PERMISSION"}, None),
        ({"nvmlDeviceGetComputeRunningProcesses_v3": "INSUFFICIENT_SIZE"}, None),
    ],
)
def test_who_holds_memory_is_known_or_unknown(nvml, make_gpus, fault, pids):
    """A GPU that draws nothing has its list all the same; one that does not tell has none."""
    nvml(**fault, **{"pids@0": [4711]})
    (first, _), trouble = look(make_gpus())
    assert (first.pids, trouble) == (pids, None)


def test_an_xid_is_heard_once(nvml, make_gpus):
    """An Xid is told in the first reading after it, also when its GPU is lost by it."""
    gpus = make_gpus()
    look(gpus)
    nvml(**{"xids@1": [13, 79], "nvmlDeviceGetHandleByIndex@1": "GPU_IS_LOST"})

    assert [one.xids for one in look(gpus)[0]] == [(), (13, 79)]
    assert [one.xids for one in look(gpus)[0]] == [(), ()]


def test_no_look_waits_and_the_answer_causes_the_next(nvml, make_gpus, clock):
    """A look has what is known; the answer to what it asked wakes, and that look asks nothing."""
    gpus = make_gpus()
    assert gpus.read() == GpuAnswer(awaited_s=0.0)
    while not gpus.take():
        listen(gpus)
    clock.advance(2.0)
    answer = gpus.read()
    assert (len(answer.gpus), answer.age_s, answer.awaited_s) == (2, 2.0, None)
    assert (gpus.handles, gpus.due_s, gpus.take()) == ((), math.inf, False)

    clock.advance(3.0)
    again = gpus.read()
    assert (again.gpus, again.age_s, again.awaited_s) == (answer.gpus, 5.0, 0.0)


def test_a_greeting_is_worth_no_look(nvml, make_gpus):
    """That NVML works is nothing that a look could use."""
    nvml(nvmlDeviceGetName="hang")
    gpus = make_gpus()
    gpus.read()
    listen(gpus)
    assert not gpus.take()


def test_what_is_old_is_unknown_and_asked_for_anew(nvml, make_gpus, clock):
    """Memory and heat of minutes ago are not those of now; also where an answer was slept over."""
    gpus = make_gpus()
    look(gpus)
    nvml(nvmlDeviceGetName="wait")
    clock.advance(gpu.ANSWER_MAX_S)
    assert gpus.read().gpus
    clock.advance(0.1)
    assert gpus.read() == GpuAnswer(awaited_s=pytest.approx(0.1))
    nvml()
    while not gpus.take():
        listen(gpus)
    clock.advance(gpu.ANSWER_MAX_S + 1)
    assert gpus.read() == GpuAnswer(awaited_s=0.0)
    assert gpus.handles


def test_a_look_during_a_reading_has_a_later_one_follow(nvml, make_gpus, clock):
    """What happened at that look, such as a death, is not to be judged by what was read before."""
    gpus = make_gpus()
    look(gpus)
    nvml(nvmlDeviceGetName="wait")
    gpus.read()
    clock.advance(1.0)
    assert gpus.read().awaited_s == 1.0
    nvml(**{"pids@0": [4711]})
    while not gpus.take():
        listen(gpus)
    answer = gpus.read()
    assert answer.gpus[0].pids == (1234, 4711)
    assert (answer.age_s, answer.awaited_s) == (0.0, None)


def test_an_answer_that_meets_another_look_has_a_later_one_follow(nvml, make_gpus):
    """A look that a death has caused takes the answer that is there, and asks for one after it."""
    gpus = make_gpus()
    look(gpus)
    gpus.read()
    listen(gpus)
    answer = gpus.read()
    assert (len(answer.gpus), answer.awaited_s) == (2, 0.0)
    assert gpus.handles


def test_an_xid_survives_answers_that_no_look_has_had(nvml, make_gpus, clock):
    """The driver tells it once: neither a newer answer nor a long sleep loses it."""
    gpus = make_gpus()
    look(gpus)
    nvml(**{"xids@1": [79]})
    heard = []

    def read():
        heard.extend(xid for one in gpus.read().gpus for xid in one.xids)

    read()
    read()  # a second answer follows the first one, and as a rule no look is between them
    while not gpus.take():
        listen(gpus)
    clock.advance(gpu.ANSWER_MAX_S + 1)
    nvml(**{"xids@1": [79, 13]})
    read()
    while not gpus.take():
        listen(gpus)
    read()
    read()
    assert heard == [79, 13]


def test_a_limit_in_the_middle_of_a_reading(nvml, make_gpus):
    """The limit waits for the reading before it, which is worth a look of its own then."""
    gpus = make_gpus()
    gpus.read()
    assert gpus.limit_power(300) is None
    assert gpus.handles == ()
    assert gpus.take()
    assert len(gpus.read().gpus) == 2
    assert not gpus.take()
    assert [one.power_limit_w for one in look(gpus)[0]] == [300, 300]


def test_a_limit_that_meets_a_hang_gives_it_up_in_time(nvml, make_gpus, clock, children):
    """It is refused while a reading has time left; after that the process is ended as ever."""
    gpus = make_gpus()
    look(gpus)
    nvml(nvmlDeviceGetName="hang")
    gpus.read()
    gpus._helper.timeout_s = 0.5
    assert gpus.limit_power(300) == "NVML is still reading"  # by a clock that stands still
    clock.advance(0.5)
    assert gpus.limit_power(300) == "NVML did not answer within 0.5 s"
    assert children.all() == []
    assert gpus.take()
    assert gpus.read() == GpuAnswer(trouble="NVML did not answer within 0.5 s")


def test_a_command_waits_for_its_reading(nvml, make_gpus, clock):
    """One that does nothing else has everything in one call, and its wait ends in any case."""
    gpus = make_gpus()
    answer = gpus.read_now()
    assert (len(answer.gpus), answer.trouble, answer.awaited_s) == (2, None, None)
    nvml(nvmlDeviceGetName="hang")
    gpus._helper.timeout_s = 0.5
    assert gpus.read_now() == GpuAnswer(trouble="NVML did not answer within 0.5 s")
    nvml(nvmlInit="hang")
    clock.advance(REST_MIN_S)
    assert gpus.read_now() == GpuAnswer(trouble="NVML is still starting")


def test_a_hanging_call_costs_no_wait_and_its_process(nvml, make_gpus, clock, children):
    """A call that never returns: looks go on meanwhile, its process dies, a later one works."""
    gpus = make_gpus(timeout_s=5.0)
    (first, _), _ = look(gpus)
    nvml(nvmlDeviceGetTemperature="hang")

    assert gpus.read().gpus[0] == first
    assert gpus.due_s == 5.0
    clock.advance(4.9)
    assert not gpus.take()
    assert gpus.read().awaited_s == pytest.approx(4.9)
    clock.advance(0.1)
    assert gpus.due_s == pytest.approx(0.0)
    clock.advance(0.1)
    assert gpus.take()
    hung = GpuAnswer(trouble="NVML did not answer within 5 s")
    assert gpus.read() == hung
    assert children.all() == []
    assert (gpus.handles, gpus.due_s) == ((), math.inf)

    nvml()
    assert gpus.read() == hung  # still resting: no other process is asked
    assert gpus.limit_power(300) == hung.trouble
    assert children.all() == []
    clock.advance(REST_MIN_S)
    assert gpus.read().trouble == hung.trouble  # nothing better is known yet
    assert look(gpus)[1] is None


def test_a_slow_start_is_no_hang(nvml, make_gpus, clock, children):
    """NVML may take a minute to wake the GPUs; one that takes longer is given up."""
    nvml(nvmlInit="hang")
    gpus = make_gpus(timeout_s=5.0)

    assert gpus.read() == GpuAnswer(awaited_s=0.0)
    assert gpus.due_s == 5.0  # a look in between, for what waits for no more than that
    process = children.one()
    clock.advance(5.0)
    assert not gpus.take()
    assert gpus.read() == GpuAnswer(trouble="NVML is still starting", awaited_s=5.0)
    clock.advance(gpu.START_TIMEOUT_S - 6.0)
    assert gpus.due_s == 1.0
    assert gpus.read().trouble == "NVML is still starting"
    assert children.one() == process
    clock.advance(1.0)
    assert gpus.take()
    assert gpus.read() == GpuAnswer(trouble="NVML did not start within 60 s")
    assert children.all() == []


def test_a_crash_is_trouble_until_a_later_process_answers(nvml, make_gpus, clock, children):
    """NVML that ends its process is told of, and met again after a rest."""
    nvml(nvmlDeviceGetName="abort")
    gpus = make_gpus()
    assert look(gpus) == ((), "the NVML process was ended by signal 6 (Aborted)")
    nvml()
    assert look(gpus) == ((), "the NVML process was ended by signal 6 (Aborted)")
    assert children.all() == []
    clock.advance(REST_MIN_S)
    assert look(gpus)[1] is None


def test_a_process_that_cannot_die_is_said_to_be_in_the_driver(nvml, make_gpus, clock, monkeypatch):
    """What holds a process that has asked a GPU is the driver, and a reboot helps."""
    gpus = make_gpus()
    look(gpus)
    child = gpus._helper._child
    monkeypatch.setattr(child, "kill", lambda: False)
    monkeypatch.setattr(child, "is_dead", lambda: False)
    nvml(nvmlDeviceGetName="abort")
    look(gpus)
    clock.advance(REST_MAX_S)
    assert look(gpus) == ((), "the NVML process is stuck in the driver: needs a reboot")


def test_what_the_library_prints_is_no_reply(nvml, make_gpus):
    """A library that prints on stdout does not disturb the conversation."""
    nvml(nvmlInit="print", nvmlDeviceGetName="print")
    readings, trouble = look(make_gpus())

    assert trouble is None
    assert [one.name for one in readings] == ["NVIDIA H100 80GB HBM3"] * 2


def test_the_power_limit_is_clamped_and_given_back(nvml, make_gpus):
    """Each GPU takes the nearest limit that it allows, and gets its default back."""
    gpus = make_gpus()
    for watts, limit_w in [(350, 350), (1, 200), (9000, 700), (250.5, 250.5), (None, 700)]:
        assert gpus.limit_power(watts) is None
        assert [one.power_limit_w for one in look(gpus)[0]] == [limit_w, limit_w]


def test_a_limit_without_permission_is_refused(nvml, make_gpus):
    """Without root a new limit is refused with the reason; the limit that is set already is not."""
    nvml(nvmlDeviceSetPowerManagementLimit="NO_PERMISSION")
    gpus = make_gpus()

    refused = gpus.limit_power(300)
    assert refused == "GPU 0: no permission: needs root; GPU 1: no permission: needs root"
    assert gpus.limit_power(700) is None
    assert gpus.limit_power(None) is None


def test_a_gpu_that_cannot_be_limited(nvml, make_gpus):
    """A GPU without power limits refuses one, and has its default anyway."""
    nvml(
        **{
            "nvmlDeviceGetPowerManagementLimitConstraints@1": "NOT_SUPPORTED",
            "nvmlDeviceGetPowerManagementDefaultLimit@1": "NOT_SUPPORTED",
        }
    )
    gpus = make_gpus()
    assert gpus.limit_power(300) == "GPU 1: Not Supported"
    assert gpus.limit_power(None) is None


@pytest.mark.parametrize("watts", [0, -5, float("nan"), float("inf")])
def test_a_limit_that_is_no_number_of_watts(make_gpus, watts):
    """NaN watts must not become the default limit on the way."""
    with pytest.raises(ValueError, match="positive number of watts"):
        make_gpus().limit_power(watts)


def test_the_daemon_never_loads_nvml(nvml):
    """Reading GPUs leaves NVML and its binding out of the daemon's own process."""
    program = (
        "import sys; from supervisor.host.gpu import Gpus; gpus = Gpus();"
        "assert gpus.read_now().gpus;"
        "gpus.close(); print('pynvml' in sys.modules)"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert printed == "False\n"


def test_closing_twice_or_before_the_start_is_harmless(nvml, make_gpus, children):
    """Closing is always possible, also twice and before the first reading."""
    gpus = make_gpus()
    gpus.close()
    look(gpus)
    gpus.close()
    gpus.close()
    assert children.all() == []


def test_a_reading_that_no_look_asked_for_causes_none(nvml, make_gpus, clock):
    """It is there for whoever writes it down, and for the next look, and wakes nobody."""
    gpus = make_gpus()
    look(gpus)
    clock.advance(gpu.ANSWER_MAX_S + 1)
    assert gpus.newest == ()
    gpus.freshen()
    assert gpus.is_reading
    listen(gpus)
    assert not gpus.take()
    assert not gpus.is_reading
    assert [one.index for one in gpus.newest] == [0, 1]
    assert len(gpus.read().gpus) == 2


def test_a_look_that_meets_such_a_reading_has_its_own_follow(nvml, make_gpus):
    """What was asked for before a look cannot tell of what that look has seen."""
    gpus = make_gpus()
    look(gpus)
    nvml(nvmlDeviceGetName="wait")
    gpus.freshen()
    assert gpus.read().awaited_s == 0.0
    nvml(**{"pids@0": [4711]})
    while not gpus.take():
        listen(gpus)
    assert gpus.read().gpus[0].pids == (1234, 4711)


def test_an_xid_is_worth_a_look_whoever_has_heard_it(nvml, make_gpus):
    """And is told to that look."""
    gpus = make_gpus()
    look(gpus)
    nvml(**{"xids@1": [79]})
    gpus.freshen()
    while not gpus.take():
        listen(gpus)
    assert [one.xids for one in gpus.read().gpus] == [(), (79,)]


def test_no_process_is_started_for_such_a_reading(nvml, make_gpus, children):
    """When one is to start is for the looks to decide, which rest after a failure."""
    gpus = make_gpus()
    gpus.freshen()
    assert not gpus.is_reading
    assert children.all() == []


def test_such_a_reading_that_never_comes_is_trouble_as_any_other(nvml, make_gpus, clock):
    """A driver that hangs is told by the look that follows."""
    gpus = make_gpus(timeout_s=0.3)
    look(gpus)
    nvml(nvmlDeviceGetName="hang")
    gpus.freshen()
    clock.advance(1.0)
    assert gpus.take()
    assert gpus.read().trouble is not None

"""GPUs that fail: the library is a fake, its process and all that follows from it are real."""

import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import testkit
from supervisor.host.gpu import ANSWER_MAX_S
from testkit.machine import SETTINGS, Machine
from testkit.processes import mains
from testkit.runs import resumed_step, story
from trainers.contract import ANY_RUN

FAKE_NVML = Path(testkit.__file__).with_name("fake_nvml")
ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')
MISMATCH = "LIB_RM_VERSION_MISMATCH"


@pytest.fixture
def nvml(machine: Machine) -> Callable[..., None]:
    """Sets the faults that the GPUs of the machine have from now on."""
    faults = machine.home.with_name("faults.json")

    def set_faults(**by_function: object) -> None:
        draft = faults.with_suffix(".draft")
        draft.write_text(json.dumps(by_function))
        draft.replace(faults)

    set_faults()
    machine.extra = {"FAKE_NVML": str(faults), "PYTHONPATH": str(FAKE_NVML)}
    return set_faults


def looks(machine: Machine) -> list[dict[str, Any]]:
    """What the log of looks holds."""
    path = machine.home / "monitor.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def gpus(machine: Machine) -> list[dict[str, Any]]:
    """What the newest look saw of each GPU."""
    return looks(machine)[-1]["readings"]["gpus"] if looks(machine) else []


def trouble(machine: Machine) -> str:
    """Why the newest look saw no more of them."""
    return looks(machine)[-1]["readings"]["gpu_trouble"] or "" if looks(machine) else ""


def chased(machine: Machine) -> bool:
    """Whether an answer has caused a look which caused an answer, and so on."""
    causes = [look["cause"] for look in looks(machine)]
    return ("answer", "answer") in itertools.pairwise(causes)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        pytest.param({"*@1": "GPU_IS_LOST"}, "GPU 1: GPU is lost: needs a reboot", id="one lost"),
        pytest.param({"*@0": "GPU_IS_LOST", "*@1": "GPU_IS_LOST"}, "needs a reboot", id="all lost"),
        pytest.param({"*@0": MISMATCH, "*@1": MISMATCH}, "needs a reboot", id="another driver"),
        pytest.param({"*@0": "UNKNOWN", "*@1": "UNKNOWN"}, "Unknown Error", id="no reason"),
        pytest.param({"nvmlDeviceGetName": "abort"}, "ended by signal 6", id="a crash"),
        pytest.param({"nvmlDeviceGetName": "hang"}, "did not answer within 5 s", id="a hang"),
    ],
)
def test_a_gpu_that_fails_under_training_costs_readings_and_nothing_else(
    machine: Machine, nvml: Callable[..., None], faults: dict[str, str], said: str
) -> None:
    """Whatever NVML does, the supervisor says it, and the same trainers train on."""
    machine.configure(SETTINGS + "\n[policy]\ntick_s = 0.3\n")
    daemon = machine.start()
    machine.until_steps("A")
    machine.until_steps("B")
    machine.until(lambda: gpus(machine), "the GPUs are seen")
    before = mains(machine.home / "runs")
    nvml(**faults)
    machine.until(lambda: said in trouble(machine), "the trouble is told")
    seen = len(looks(machine))
    machine.until_steps("A", machine.heartbeat("A")["step"] + 200)
    machine.until(lambda: len(looks(machine)) > seen, "it looks on")
    assert mains(machine.home / "runs") == before
    assert not {"run.died", "run.killed", "run.hung"} & {line["event"] for line in machine.events()}
    assert machine.stop(daemon) == 0


def test_a_gpu_that_hangs_keeps_no_look_waiting(
    machine: Machine, nvml: Callable[..., None]
) -> None:
    """Looks go on while an answer is under way, requests are granted, and its age is told."""
    machine.configure(ONE_RUN + "\n[policy]\ntick_s = 0.3\n")
    machine.start()
    machine.until(lambda: gpus(machine), "the GPUs are seen")
    assert looks(machine)[-1]["readings"]["gpu_age_s"] >= 0
    nvml(nvmlDeviceGetName="hang")

    def hung() -> bool:
        readings = looks(machine)[-1]["readings"]
        return (readings["gpu_awaited_s"] or 0) > 1

    machine.until(hung, "a look between the question and the end of the patience")
    assert machine("pause").returncode == 0
    machine.until(lambda: "did not answer" in trouble(machine), "the patience ends")
    assert looks(machine)[-1]["readings"]["gpu_age_s"] is None


def test_an_answer_causes_a_look_and_the_look_no_answer(
    machine: Machine, nvml: Callable[..., None]
) -> None:
    """A machine between two regular looks is left alone, and the last one saw it as it is."""
    machine.configure(ONE_RUN + "\n[policy]\ntick_s = 300\n")
    machine.start()
    machine.until_steps("A")
    machine.until(lambda: gpus(machine), "the GPUs are seen")
    for request in ("pause", "resume", "pause"):
        seen = len(looks(machine))

        def answered(seen: int = seen) -> list[dict[str, Any]]:
            newer = looks(machine)[seen:]
            return [look["readings"] for look in newer if look["cause"] == "answer"]

        assert machine(request).returncode == 0
        machine.until(answered, "the answer is seen")
        readings = answered()[0]
        assert readings["gpu_awaited_s"] is None
        assert 0 <= readings["gpu_age_s"] < ANSWER_MAX_S
    assert not chased(machine)


def test_an_xid_is_in_the_log_of_looks(machine: Machine, nvml: Callable[..., None]) -> None:
    """A GPU that falls off the bus says Xid 79 once, and what the other one tells is still read."""
    machine.configure(ONE_RUN + "\n[policy]\ntick_s = 0.3\n")
    machine.start()
    machine.until(lambda: gpus(machine), "they are seen")
    nvml(**{"xids@1": [79], "nvmlDeviceGetHandleByIndex@1": "GPU_IS_LOST"})
    machine.until(lambda: "GPU 1: GPU is lost" in trouble(machine), "the loss is told")
    machine.until_steps("A", 100)
    known = [look["readings"]["gpus"] for look in looks(machine)]
    heard = [cards[1]["xids"] for cards in known if cards]
    assert heard.count([79]) == 1
    assert gpus(machine)[0]["power_w"] == 412.5


def test_a_driver_that_does_not_fit_at_the_start_needs_a_reboot(
    machine: Machine, nvml: Callable[..., None]
) -> None:
    """After an upgrade of the driver the supervisor starts all the same, and says what helps."""
    nvml(nvmlInit=MISMATCH)
    machine.configure(ONE_RUN + "\n[policy]\ntick_s = 0.3\n")
    machine.start()
    machine.until_steps("A", 100)
    mismatch = "driver/library version mismatch: needs a reboot"
    machine.until(lambda: trouble(machine) == mismatch, "it is told")
    findings = json.loads(machine("doctor", "--json").stdout)
    (finding,) = [one for one in findings if one["what"] == "gpu"]
    assert mismatch in json.dumps(finding)
    assert machine.events("run.died") == []


def test_the_power_limit_of_a_mode_comes_and_goes_with_it(
    machine: Machine, nvml: Callable[..., None]
) -> None:
    """What kept one machine alive: fewer watts in one mode, and the default in the others."""
    modes = machine.home / "modes"
    modes.mkdir()
    mode = "rung = {}\nslots = 1\n"
    (modes / "light.toml").write_text(mode.format(0))
    (modes / "medium.toml").write_text(mode.format(1) + "power_limit_w = 300\n")
    machine.configure(f'modes_dir = "modes"\n{ONE_RUN}\n[policy]\ntick_s = 0.3\n')
    nvml(nvmlDeviceSetPowerManagementLimit="NO_PERMISSION")
    machine.start()
    machine.until_steps("A")

    def limits() -> set[float]:
        return {one["power_limit_w"] for one in gpus(machine)}

    assert machine("force-scale-up").returncode == 0
    machine.until(lambda: machine.events("power.refused"), "the refusal is told")
    seen = len(looks(machine))
    machine.until(lambda: len(looks(machine)) > seen + 4, "it tries again and again")
    assert not chased(machine)
    nvml()
    machine.until(lambda: limits() == {300}, "both have their limit")
    assert machine("force-scale-down").returncode == 0
    machine.until(lambda: limits() == {700}, "both have their default back")
    told = [line["event"] for line in machine.events() if line["event"].startswith("power.")]
    assert told == ["power.limited", "power.refused", "power.limited", "power.limited"]


SEES = """\
import os
from trainers.session import Session

AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
WARM = "--warm" in open("/proc/self/cmdline").read()

def warm_up(specs):
    yield

def train(session: Session) -> None:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    if not WARM and seen != AT_IMPORT:
        seen = "none when imported"
    (session.folder.path / "seen.txt").write_text(f"{seen} {os.getppid()}")
    while not session.stop_requested:
        session.progress(session.step + 1)
        session.alive()
    session.save([("nothing", b"")])
"""
UUIDS = ("GPU-0000-0", "GPU-0000-1")


def seeing(machine: Machine, *, gpus: str = "", warm: bool = False) -> None:
    """Let runs train in a home that tell which GPUs they see."""
    folder = machine.home / "own"
    folder.mkdir()
    (folder / "sees.py").write_text(SEES)
    modes = machine.home / "modes"
    modes.mkdir()
    (modes / "light.toml").write_text("rung = 0\nslots = 2\n")
    (modes / "medium.toml").write_text("rung = 1\nslots = 2\ngpus = 1\n")
    machine.configure(
        'trainers_dir = "own"\nmodes_dir = "modes"\n'
        f"{gpus}\n[logs]\nturns = true\n[policy]\ntick_s = 0.3\n"
        f"[warm]\ntrainers = {['sees'] if warm else []}\n"
        '[campaign]\ntrainer = "sees"\nruns = ["A", "B"]\n'
    )


def seen(machine: Machine) -> dict[str, tuple[str, int]]:
    """Name -> what its newest trainer has found in its environment, and its parent."""
    runs = machine.home / "runs"
    found = {}
    for name in "AB":
        with contextlib.suppress(FileNotFoundError, ValueError):
            gpus, parent = (runs / f"sees-{name}/seen.txt").read_text().split()
            found[name] = gpus, int(parent)
    return found


def forked(machine: Machine) -> bool:
    """Whether both trainers come from the warm parent; one that does not is killed."""
    trainers = machine.trainers()
    parent = next((pid for pid, run in trainers.items() if run == ANY_RUN), None)
    strangers = [name for name, (_, whose) in seen(machine).items() if whose != parent]
    if parent is None or len(seen(machine)) < 2:
        return False
    for pid, run in trainers.items():
        if run[-1] in strangers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    time.sleep(0.5 if strangers else 0)
    return not strangers


@pytest.mark.parametrize("warm", [False, True])
def test_each_trainer_finds_its_own_gpu_in_its_environment(
    machine: Machine, nvml: Callable[..., None], *, warm: bool
) -> None:
    """By UUID, started cold as forked by a warm parent, which has another environment."""
    machine.extra["CUDA_VISIBLE_DEVICES"] = None
    seeing(machine, warm=warm)
    daemon = machine.start()
    machine.until(lambda: len(seen(machine)) == 2, "both train")
    machine.until(lambda: gpus(machine), "the GPUs are seen")
    assert machine("pin", "medium").returncode == 0

    def parted() -> bool:
        return sorted(found for found, _ in seen(machine).values()) == sorted(UUIDS)

    machine.until(parted, "each has its own")
    if warm:
        machine.until(lambda: forked(machine) and parted(), "so it is in forks")
    told = json.loads(machine("runs", "--json").stdout)
    assert sorted(run["gpus"] for run in told) == [[uuid] for uuid in UUIDS]
    assert all(run["gpus_own"] for run in told)
    assert all(uuid in machine("runs").stdout for uuid in UUIDS)
    assert machine("unpin").returncode == 0
    assert machine.stop(daemon) == 0


def test_two_homes_on_one_machine_have_different_gpus(
    machine: Machine, nvml: Callable[..., None], tmp_path: Path
) -> None:
    """Each by its settings, and without waiting for what NVML tells."""
    other = Machine(tmp_path / "other/home", commands=machine.commands)
    other.extra = {**machine.extra}
    for home, uuid in zip((machine, other), UUIDS, strict=True):
        seeing(home, gpus=f'gpus = ["{uuid}"]')
        home.start()
    for home, uuid in zip((machine, other), UUIDS, strict=True):
        home.until(lambda home=home: len(seen(home)) == 2, "both train")
        assert {found for found, _ in seen(home).values()} == {uuid}
        assert home.stop(home.daemons[-1]) == 0
    (finding,) = [
        one for one in json.loads(machine("doctor", "--json").stdout) if one["what"] == "gpu"
    ]
    assert finding["verdict"] == "well"


def test_doctor_names_a_gpu_that_is_not_there(machine: Machine, nvml: Callable[..., None]) -> None:
    """A card that the settings name and the machine lacks, and a mode that asks for too many."""
    machine.configure('gpus = ["GPU-0000-7"]\n' + SETTINGS)
    said = machine("doctor").stdout
    assert "gpus names GPU-0000-7, and this machine has GPU-0000-0, GPU-0000-1" in said
    seeing(machine, gpus='gpus = ["GPU-0000-1"]')
    (machine.home / "modes/medium.toml").write_text("rung = 1\nslots = 2\ngpus = 2\n")
    assert "medium gives each run 2 GPUs for itself, and there are 1" in machine("doctor").stdout


@pytest.fixture
def dead_with_memory(machine: Machine, nvml: Callable[..., None]) -> Callable[..., int]:
    """Trains A, and kills it while GPU 0 lists its process; gives that process."""

    def act(settings: str, **faults: str) -> int:
        machine.configure(f"{ONE_RUN}\n[recovery]\nbackoff_first_s = 0.1\n{settings}")
        machine.start()
        machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
        (main,) = mains(machine.home / "runs")
        nvml(**{"pids@0": [main.pid, 999_999], **faults})
        os.kill(main.pid, signal.SIGKILL)
        return main.pid

    return act


def test_memory_of_a_dead_trainer_is_seen_free_before_the_restart(
    machine: Machine, nvml: Callable[..., None], dead_with_memory: Callable[..., int]
) -> None:
    """While a GPU lists the dead trainer nothing starts, and it is said why; then it goes on."""
    pid = dead_with_memory("gpu_free_s = 1000")
    machine.until(lambda: machine.events("gpu.awaited"), "it is told")
    seen = len(looks(machine))
    machine.until(lambda: len(looks(machine)) > seen + 2, "it looks again and again")
    assert machine.trainers() == {}
    nvml(**{"pids@0": [999_999]})
    machine.until(lambda: machine.events("run.started")[1:], "A starts again")
    assert story(machine)[1:] == ["run.died", "gpu.awaited", "run.started"]
    (awaited,) = machine.events("gpu.awaited")
    assert f"GPU 0 holds the memory of process {pid}, which is dead" in awaited["reason"]


def test_memory_that_is_never_freed_is_not_waited_for_for_ever(
    machine: Machine, dead_with_memory: Callable[..., int]
) -> None:
    """After `gpu_free_s` the run starts all the same, with a line about it, once."""
    dead_with_memory("gpu_free_s = 1")
    machine.until(lambda: machine.events("run.started")[1:], "A starts again")
    machine.until_steps("A", resumed_step(machine) + 100)
    assert story(machine)[1:] == ["run.died", "gpu.awaited", "gpu.leaked", "run.started"]


def test_unknown_memory_is_not_waited_for(
    machine: Machine, dead_with_memory: Callable[..., int]
) -> None:
    """Where NVML does not tell who holds memory, a restart costs no wait."""
    dead_with_memory("", nvmlDeviceGetComputeRunningProcesses_v3="NO_PERMISSION")
    machine.until(lambda: machine.events("run.started")[1:], "A starts again")
    assert story(machine)[1:] == ["run.died", "run.started"]

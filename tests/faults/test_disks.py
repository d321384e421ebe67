"""A disk that is full, broken, frozen or without power costs steps at most, never the run."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S
from testkit.processes import is_held, mains
from testkit.runs import resumed_step, saved_step
from testkit.worlds import a_disk, a_tiny_disk

ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')
BROKEN_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int fsync(int handle) {
    if (access(getenv("BROKEN_FSYNC"), F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(handle);
}
"""


TOLD = "cannot write decisions.jsonl"


def configure_long_ago(machine: Machine, text: str) -> None:
    """The settings have long reached the disk."""
    machine.configure(text)
    os.sync()


def told(machine: Machine) -> int:
    """How often a person was told that nothing can be written down."""
    return machine.screen.read_text().count(TOLD)


def test_a_full_disk_is_told_once_and_survived(tmp_path: Path) -> None:
    """On a full disk the supervision goes on in memory; with room again, nothing is missing."""
    disk = a_tiny_disk(tmp_path / "disk")
    machine = Machine(disk / "home", tmp_path / "screen.log")
    quick = "[policy]\ntick_s = 0.5\n[recovery]\nbackoff_max_s = 0.2\nheld_after = 3\n"
    machine.configure(f"{ONE_RUN}\n{quick}")
    daemon = machine.start()
    machine.until_steps("A", 100)
    main = machine.run("A")["pid"]
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        os.kill(main, signal.SIGKILL)

        def full() -> bool:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                return "cannot be saved" in machine.screen.read_text()
            return False

        machine.until(full, "the full disk is told")
    assert daemon.poll() is None
    filler.unlink()
    machine.until(lambda: len(machine.trainers()) == 1, "A trains again")
    machine.until(lambda: machine.events("state.saved"), "the state is saved again")
    assert machine("force-scale-up").returncode == 0
    assert machine.stop(daemon) == 0
    lines = machine.events()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    states = [line["event"] for line in lines if line["event"].startswith("state.")]
    assert states == ["state.unsaved", "state.saved"] * (len(states) // 2)
    assert machine.events("run.quarantined") == []


def test_a_request_on_a_full_disk_hears_what_can_still_be_done(tmp_path: Path) -> None:
    """It cannot be written, and says so at once; what it names then works without any room."""
    disk = a_tiny_disk(tmp_path / "disk")
    machine = Machine(disk / "home", tmp_path / "screen.log")
    machine.configure(ONE_RUN)
    daemon = machine.start()
    machine.until_steps("A")
    with (disk / "filler").open("wb", buffering=0) as file:

        def refused() -> bool:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                return machine("pause").returncode == 75
            return False

        machine.until(refused, "there is no room for the request")
        said = machine("pause").stderr
        assert said.count("\n") == 1
        assert "is full" in said
        assert said.endswith("to stop all training without it: supervisor stop\n")
        assert machine("stop").returncode == 0
    assert daemon.wait(PATIENCE_S) == 0
    assert machine.trainers() == {}


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_after_a_power_cut_all_goes_on(tmp_path: Path, filesystem: str) -> None:
    """With the power of the whole machine gone, the next boot is a crash, and A resumes."""
    disk = a_disk(tmp_path / "disk", filesystem)
    machine = Machine(disk.path / "home", tmp_path / "screen.log")
    configure_long_ago(machine, ONE_RUN)
    saved = 0
    for boots in (1, 2, 3):
        machine.start()
        if boots > 1:
            assert resumed_step(machine) >= saved
        machine.until_steps("A", saved + 100)
        machine.until(
            lambda before=saved: saved_step(machine) > before,  # type: ignore[misc]
            "a further checkpoint",
        )
        saved = saved_step(machine)
        seen = machine.events()
        disk.cut_power()
        machine.reboot()
        disk.come_back()
        state = machine.state()
        assert (state["boots_total"], state["crashes_total"]) == (boots, boots - 1)
        assert machine.events() == seen
        assert saved_step(machine) >= saved
    assert machine.events("state.damaged") == []


def test_a_disk_that_turns_read_only_is_told_and_trainers_train_on(tmp_path: Path) -> None:
    """With a broken file system under the home nobody is ended; mended, all goes on."""
    disk = a_disk(tmp_path / "disk")
    machine = Machine(disk.path / "home", tmp_path / "screen.log")
    configure_long_ago(machine, ONE_RUN + "\n[policy]\ntick_s = 0.5\n")
    daemon = machine.start()
    machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
    trainers = set(machine.trainers())
    saved = machine.heartbeat("A")["checkpoint_step"]
    disk.fail()
    with pytest.raises(OSError, match="Read-only"):
        (disk.path / "file").touch()
    machine.until(lambda: told(machine), "it is told")
    assert machine("show-state").returncode == 0
    assert daemon.poll() is None
    assert set(machine.trainers()) == trainers
    refused = machine("pause")  # a request cannot even be left there
    assert (refused.returncode, "Read-only" in refused.stderr) == (73, True)
    daemon.terminate()
    assert daemon.wait(PATIENCE_S) == 0
    assert machine.trainers() == {}
    assert told(machine) == 1
    disk.unmount()
    subprocess.run(["fsck.ext4", "-fy", tmp_path / "disk.image"], capture_output=True, check=False)
    disk.mount()
    machine.start()
    assert resumed_step(machine) >= saved
    assert machine.events("state.damaged") == []


def test_a_frozen_disk_is_waited_for(tmp_path: Path) -> None:
    """While the disk stands still nothing is decided about anybody; thawed, all goes on."""
    disk = a_disk(tmp_path / "disk")
    machine = Machine(disk.path / "home", tmp_path / "screen.log")
    machine.configure(ONE_RUN + "\n[policy]\ntick_s = 0.2\n")
    daemon = machine.start()
    machine.until_steps("A", 50)
    (main,) = mains(machine.home / "runs")

    with disk.frozen():
        machine.until(lambda: is_held(main.pid) and is_held(daemon.pid), "both are held")
        state = machine.state()  # readers are not
        step = machine.heartbeat("A")["step"]
        assert state["daemon"]["pid"] == daemon.pid
    machine.until_steps("A", step + 100)
    assert machine("pause").returncode == 0
    machine.until(lambda: not machine.trainers(), "A has saved and left")
    assert saved_step(machine) == machine.heartbeat("A")["step"]
    happened = {line["event"] for line in machine.events()}
    assert not happened & {"run.died", "run.hung", "run.killed", "state.unsaved", "state.damaged"}


def test_a_disk_whose_fsync_fails_is_told_once_and_survived(machine: Machine) -> None:
    """An fsync that fails is a save that failed: nothing counts as saved, and nobody is ended."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("NOT TESTED: an fsync that fails; there is no C compiler to make one")
    shim, fault = machine.home.with_name("broken_fsync.so"), machine.home.with_name("broken")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", shim, "-ldl"],
        input=BROKEN_FSYNC,
        text=True,
        check=True,
    )
    machine.extra = {"LD_PRELOAD": str(shim), "BROKEN_FSYNC": str(fault)}
    machine.configure(ONE_RUN + "\n[policy]\ntick_s = 0.5\n")
    daemon = machine.start()
    machine.until(lambda: machine.heartbeat("A").get("checkpoint_step"), "a checkpoint")
    (main,) = mains(machine.home / "runs")
    fault.touch()
    saved = saved_step(machine)
    machine.until(lambda: told(machine), "the supervisor tells it")
    machine.until(lambda: machine.heartbeat("A")["notices"], "the trainer tells it")
    assert "Input/output error" in machine.heartbeat("A")["notices"][0]
    machine.until_steps("A", machine.heartbeat("A")["step"] + 200)
    assert saved <= saved_step(machine) <= machine.heartbeat("A")["checkpoint_step"]
    fault.unlink()
    machine.until(lambda: machine.events("state.saved"), "the state can be saved again")
    machine.until(lambda: machine.heartbeat("A")["checkpoint_step"] > saved, "a new checkpoint")
    assert mains(machine.home / "runs") == {main}
    assert machine.stop(daemon) == 0
    lines = machine.events()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    states = [line["event"] for line in lines if line["event"].startswith("state.")]
    assert (states, told(machine)) == (["state.unsaved", "state.saved"], 1)

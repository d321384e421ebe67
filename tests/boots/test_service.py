"""The service is killed, hung, stopped, restarted and upgraded; nothing is lost, nobody is left."""

from __future__ import annotations

import shutil

import pytest

from supervisor.core.recovery import RecoveryLimits
from testkit.boot_lab import CHECKOUT, HALF_WRITTEN, PACKAGES, PLACE, SERVICE, Machine

NEW_VERSION = """
_tell = Notify.__call__
Notify.__call__ = lambda self, *lines: _tell(self, "STATUS=the new version", *lines)
"""


@pytest.fixture
def training(machine: Machine) -> Machine:
    """An installed machine on which two runs train."""
    machine.boot()
    machine.until_steps("drill-A", 50)
    machine.until_steps("drill-B", 50)
    return machine


def assert_saved_and_gone(machine: Machine) -> None:
    """Every run stands in a checkpoint with its last step, and nothing of it lives."""
    assert machine.trainers() == {}
    for run in ("drill-A", "drill-B"):
        last = machine.heartbeat(run)
        assert (last["status"], last["checkpoint_step"]) == ("stopped", last["step"])


def assert_same_trainers(machine: Machine, before: dict[str, int]) -> None:
    """The trainers of before train on, and no others."""
    for run in ("drill-A", "drill-B"):
        machine.until_steps(run, machine.heartbeat(run)["step"] + 20)
    assert machine.mains() == before
    assert sorted(machine.trainers()) == sorted(before.values())
    assert machine.events("run.died") == []
    assert len(machine.events("run.started")) == 2


def test_what_the_unit_asks_for_is_in_force(training: Machine) -> None:
    """It never gives up, it watches, and it waits longer than trainers may take to save."""
    assert training.unit_property("Restart") == "always"
    assert training.unit_number("Unit", "StartLimitIntervalUSec") == 0
    assert 0 < training.unit_number("Service", "WatchdogUSec") < 600e6
    limits = RecoveryLimits()
    stop_s = training.unit_number("Service", "TimeoutStopUSec") / 1e6
    assert stop_s > limits.grace_s + limits.kill_s


def test_a_killed_daemon_comes_back_to_its_trainers(training: Machine) -> None:
    """After `kill -9` of the supervisor systemd starts it again, and it adopts its trainers."""
    before, daemon = training.mains(), training.daemon
    training.kill(daemon)
    training.until(lambda: len(training.events("run.adopted")) == 2, "both are adopted")
    assert training.daemon != daemon
    assert_same_trainers(training, before)
    assert training.unit_property("NRestarts") == "1"
    state = training.state()
    assert (state["boots_total"], state["crashes_total"]) == (1, 0)


def test_a_hung_daemon_is_restarted_by_the_watchdog(machine: Machine) -> None:
    """A supervisor that stands still is aborted by systemd; its trainers train on."""
    machine.drop_in("[Service]\nWatchdogSec=2\n")
    machine.boot()
    machine.until_steps("drill-A", 50)
    machine.until_steps("drill-B", 50)
    before, daemon = machine.mains(), machine.daemon
    machine.kill(daemon, "STOP")
    machine.until(lambda: len(machine.events("run.adopted")) == 2, "both are adopted")
    assert machine.daemon != daemon
    assert "Watchdog timeout" in machine.journal()
    assert_same_trainers(machine, before)


def test_a_quiet_daemon_feeds_the_watchdog(machine: Machine) -> None:
    """With nothing to do for longer than the watchdog's patience, nobody restarts it."""
    machine.drop_in("[Service]\nWatchdogSec=1\n")
    machine.boot()
    daemon = machine.daemon
    machine.supervisor("pause")
    machine.until(lambda: machine.trainers() == {}, "it rests")
    rested_since = machine.uptime_s
    machine.until(lambda: machine.uptime_s > rested_since + 3, "three times its patience")
    assert (machine.daemon, machine.unit_property("NRestarts")) == (daemon, "0")


def test_stop_saves_everything_and_leaves_nobody(training: Machine) -> None:
    """`systemctl stop` returns once every run is saved and gone; the next boot is a planned one."""
    training.systemctl("stop", SERVICE)
    assert_saved_and_gone(training)
    assert training.unit_property("Result") == "success"
    assert training.events()[-1]["event"] == "supervisor.stopped"
    training.power_cut()
    training.boot()
    training.until_steps("drill-A")
    state = training.state()
    assert (state["boots_total"], state["crashes_total"]) == (2, 0)


@pytest.mark.parametrize("trouble", ["STOP", "KILL"])
def test_stop_leaves_nobody_whatever_the_daemon_does(training: Machine, trouble: str) -> None:
    """Also with the supervisor hung or just dead, `systemctl stop` saves every run and ends it."""
    training.kill(training.daemon, trouble)
    training.systemctl("stop", SERVICE)
    assert_saved_and_gone(training)
    assert training.daemon == 0


def test_a_restart_costs_no_training(training: Machine) -> None:
    """Over `systemctl restart` the same trainers train on."""
    before, daemon = training.mains(), training.daemon
    training.systemctl("restart", SERVICE)
    assert training.daemon not in (0, daemon)
    assert_same_trainers(training, before)
    assert training.state()["crashes_total"] == 0


def test_an_upgrade_costs_no_training(training: Machine) -> None:
    """A package replaced under the running service is taken over by a restart."""
    before, place = training.mains(), training.disk / str(PLACE)[1:]
    for package in PACKAGES:  # as pip does it: the old goes, the new comes
        shutil.rmtree(place / package)
        shutil.copytree(CHECKOUT / package, place / package, ignore=HALF_WRITTEN)
    with (place / "supervisor/host/notify.py").open("a") as new:
        new.write(NEW_VERSION)
    training.systemctl("restart", SERVICE)
    assert training.unit_property("StatusText") == "the new version"
    assert_same_trainers(training, before)


def test_the_service_has_no_rights_to_lose(training: Machine) -> None:
    """Neither the supervisor nor a trainer is root, can become it, or may make unusual calls."""
    owner = training.run("id", "-u", "training-supervisor").stdout.strip()
    assert owner != "0"
    for pid in (training.daemon, *training.trainers()):
        status = training.process(pid)
        assert status["Uid"].split() == [owner] * 4
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"


def test_memory_is_taken_from_trainers_first(training: Machine) -> None:
    """The kernel spares the supervisor when memory runs out, and no trainer inherits that."""
    assert all(training.oom_score_adj(pid) >= 0 for pid in training.trainers())
    assert int(training.unit_property("OOMScoreAdjust")) < 0
    if not training.may_spare_from_oom:
        pytest.skip(
            "NOT TESTED: that the kernel spares the supervisor when memory runs out; "
            "this process may not lower oom_score_adj (no CAP_SYS_RESOURCE)"
        )
    assert training.oom_score_adj(training.daemon) < 0

"""The machine boots, reboots, and dies; the supervisor comes back, and knows what happened."""

from __future__ import annotations

import pytest

from testkit.boot_lab import SERVICE, SETTINGS, Machine

ATARI = """\
modes_dir = "/etc/training-supervisor/modes"

[campaign]
trainer = "atari"
runs = ["Pong"]
target = { steps = 1000000 }

[campaign.options]
rollout_steps = 128

[checkpoints]
interval_s = 0.3
"""

NEVER_STARTED = "[Unit]\nConditionPathExists=/nowhere\n"
DEAD_BEFORE_THE_FIRST_LOOK = "[Service]\nExecStartPre=/bin/sleep infinity\n"


def die_before_the_first_look(machine: Machine) -> None:
    """Boot, and lose power as soon as the boot has noted itself."""
    noted = machine.boots_noted
    machine.power_on()
    machine.until(lambda: machine.boots_noted > noted, "the boot is noted")
    machine.power_cut()


def told(machine: Machine, boot_id: str | None = None) -> list[str]:
    """What the log tells, all of it or of one boot, but who has which slot."""
    lines = [line for line in machine.events() if boot_id in (None, line["boot"])]
    return [line["event"] for line in lines if line["event"] != "slots.assigned"]


def test_the_first_boot_trains(machine: Machine) -> None:
    """After the first boot the service is ready, the boot is known once, and trainers train."""
    machine.boot()
    assert machine.systemctl("is-active", SERVICE) == "active"
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")
    state = machine.state()
    assert (state["boots_total"], state["crashes_total"]) == (1, 0)
    assert state["daemon"] == {"state": "running", "pid": machine.daemon}
    assert told(machine) == ["boot.recorded", "supervisor.started", "run.started", "run.started"]
    boot_id = machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout.replace("-", "").strip()
    assert {line["boot"] for line in machine.events()} == {boot_id} == {state["boot_id"]}


@pytest.mark.slow
def test_a_real_game_goes_on_after_a_power_cut(machine: Machine) -> None:
    """Real PPO on a real emulator trains as a service, and resumes after a power cut."""
    mode = "rung = 0\nslots = 1\n[load.atari]\nn_envs = 4\nbatch_size = 64\n"
    machine.write("/etc/training-supervisor/modes/light.toml", mode)
    machine.configure(ATARI)
    machine.boot()
    machine.until(lambda: machine.heartbeat("atari-Pong").get("checkpoint_step"), "a checkpoint")
    machine.power_cut()
    saved = machine.heartbeat("atari-Pong")["checkpoint_step"]
    machine.boot()
    machine.until_steps("atari-Pong", saved + 1)
    resumed = machine.events("run.started")[-1]
    assert resumed["evidence"]["step"] >= saved


def test_planned_ends_are_told_from_crashes(machine: Machine) -> None:
    """A reboot and a power-off are planned, a power cut is a crash; runs resume after each."""
    machine.boot()
    machine.until_steps("drill-A", 100)
    machine.shut_down("reboot")
    machine.boot()
    machine.until_steps("drill-A", 200)
    machine.shut_down("poweroff")
    last = machine.heartbeat("drill-A")
    assert (last["status"], last["checkpoint_step"]) == ("stopped", last["step"])
    machine.boot()
    machine.until(
        lambda: machine.heartbeat("drill-A").get("checkpoint_step", 0) > last["step"], "saved"
    )
    machine.power_cut()
    saved = machine.heartbeat("drill-A")["checkpoint_step"]
    machine.boot()
    machine.until_steps("drill-A", saved + 1)

    assert [line["evidence"]["crash"] for line in machine.events("boot.recorded")] == [
        False,
        False,
        False,
        True,
    ]
    steps = [
        line["evidence"]["step"]
        for line in machine.events("run.started")
        if line["run"] == "drill-A"
    ]
    assert steps[0] == 0
    assert steps[1] >= 100
    assert steps[2] == last["step"]
    assert steps[3] >= saved
    state = machine.state()
    assert (state["boots_total"], state["crashes_total"]) == (4, 1)


def test_boots_without_a_supervisor_are_told_apart_as_well(machine: Machine) -> None:
    """Where the supervisor never starts, planned ends and power cuts are still known later."""
    machine.drop_in(NEVER_STARTED)
    machine.boot()
    machine.shut_down("reboot")
    machine.boot()
    machine.power_cut()
    machine.boot()
    machine.shut_down("poweroff")
    machine.drop_in("")
    machine.boot()
    flags = [line["evidence"]["crash"] for line in machine.events("boot.recorded")]
    assert flags == [False, False, True, False]
    state = machine.state()
    assert (state["boots_total"], state["crashes_total"]) == (4, 1)


def test_the_fourth_crash_falls_back_before_a_trainer_of_medium_starts(machine: Machine) -> None:
    """Scenario B: medium is forgiven three power cuts; after the fourth it never starts."""
    machine.boot()
    machine.until_steps("drill-A")
    machine.supervisor("force-scale-up")
    for crashes in (1, 2, 3, 4):
        machine.until(lambda: len(machine.mains()) == 4, "four train")
        assert machine.state()["mode"] == "medium"
        machine.power_cut()
        machine.boot()
        assert machine.state()["crashes_total"] == crashes
    machine.until(lambda: len(machine.mains()) == 2, "two train")
    boot_id = machine.state()["boot_id"]
    order = told(machine, boot_id)
    assert order.index("boot.recorded") < order.index("mode.changed") < order.index("run.started")
    since = [line for line in machine.events() if line["boot"] == boot_id]
    (fallback,) = [line for line in since if line["event"] == "mode.changed"]
    assert (fallback["old"], fallback["new"]) == ("medium", "light")
    # By which of the two depends on how long these boots took.
    assert fallback["rule"] in ("worse_than_worth", "budget_spent")
    started = [line["evidence"]["mode"] for line in since if line["event"] == "run.started"]
    assert started == ["light", "light"]


def test_a_machine_that_dies_before_the_first_look_is_left_idle(machine: Machine) -> None:
    """Twenty boots that no supervisor lives to see are counted, then light, then nothing at all."""
    loop_of = 20
    machine.boot()
    machine.until_steps("drill-A")
    machine.supervisor("force-scale-up")
    machine.until(lambda: len(machine.mains()) == 4, "four train")
    machine.shut_down("poweroff")

    machine.drop_in(DEAD_BEFORE_THE_FIRST_LOOK)
    for _ in range(loop_of):
        die_before_the_first_look(machine)

    # What the loop died of is gone, and a person can log in: nothing trains yet.
    machine.drop_in("")
    machine.boot()
    state = machine.state()
    # The first of the loop followed an orderly power-off, and so does not count as a crash.
    assert (state["boots_total"], state["crashes_total"]) == (1 + loop_of + 1, loop_of)
    assert state["mode"] == "light"
    assert state["bounds"] == ["idle"]
    assert machine.trainers() == {}
    assert "run.started" not in told(machine, state["boot_id"])
    machine.supervisor("resume")
    machine.until(lambda: len(machine.mains()) == 2, "a person's word ends it")


def test_an_idle_machine_tries_again_by_itself(machine: Machine) -> None:
    """After a while of idling the machine trains again."""
    machine.configure(f"{SETTINGS}\n[policy]\nidle_first_min = 0.05\nidle_max_min = 0.05\n")
    machine.drop_in(DEAD_BEFORE_THE_FIRST_LOOK)
    for _ in range(6):
        die_before_the_first_look(machine)
    machine.drop_in("")
    machine.boot()
    machine.until(lambda: len(machine.mains()) == 2, "two train")
    boot_id = machine.state()["boot_id"]
    holds = [line["rule"] for line in machine.events("goal.changed") if line["boot"] == boot_id]
    assert holds == ["boot_loop", "idle_over"]
    assert told(machine, boot_id)[-4:] == ["goal.changed"] * 2 + ["run.started"] * 2


def test_requests_wait_for_the_next_boot(machine: Machine) -> None:
    """What a person asks while the supervisor is down is granted before any trainer starts."""
    machine.boot()
    machine.until_steps("drill-A")
    machine.systemctl("stop", SERVICE)
    assert "waits" in machine.supervisor("force-scale-up")
    machine.power_cut()
    machine.boot()
    machine.until(lambda: len(machine.mains()) == 4, "four train")
    boot_id = machine.state()["boot_id"]
    granted = [
        (line["event"], (line.get("evidence") or {}).get("mode"))
        for line in machine.events()
        if line["boot"] == boot_id and line["event"] in ("mode.changed", "run.started")
    ]
    assert granted == [("mode.changed", None)] + [("run.started", "medium")] * 4


def test_a_request_survives_a_boot_without_the_supervisor(machine: Machine) -> None:
    """A request made in a boot in which the supervisor never starts is honoured in the next one."""
    machine.drop_in(NEVER_STARTED)
    machine.boot()
    assert "waits" in machine.supervisor("pause")
    machine.power_cut()
    machine.drop_in("")
    machine.boot()
    assert machine.systemctl("is-active", SERVICE) == "active"
    state = machine.state()
    assert state["bounds"] == ["pause"]
    assert state["boots_total"] == 2
    assert machine.events("run.started") == []
    assert machine.trainers() == {}

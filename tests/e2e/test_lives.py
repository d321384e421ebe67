"""What a person would try at night: kill things, and look whether they come back."""

from __future__ import annotations

import pytest

from testkit.machine import SETTINGS, Machine


def mains(machine: Machine) -> dict[str, int]:
    """The living main process of each run, as the supervisor tells it."""
    return {run["id"]: run["pid"] for run in machine.state()["runs"] if run["pid"]}


def test_a_hung_trainer_is_dumped_stopped_and_restarted(machine: Machine) -> None:
    """A trainer that lives without moving shows its stacks, is stopped, and starts again."""
    recovery = "[recovery]\nsilent_min_s = 1\nstart_s = 20\ngrace_s = 2\n"
    hang = 'runs = ["A"]'
    settings = SETTINGS.replace('runs = ["A", "B", "C", "D", "E"]', hang)
    machine.configure(
        settings.replace("[checkpoints]", f"hang_at_step = 600\n{recovery}[checkpoints]")
    )
    machine.start()
    machine.until(lambda: machine.events("run.hung"), "the hang is noticed")
    machine.until(lambda: len(machine.events("run.started")) == 2, "it is started again")
    kinds = [line["event"] for line in machine.events() if line.get("run") == "drill-A"]
    assert kinds[0] == "run.started"
    assert kinds.index("run.hung") < kinds.index("run.died") < len(kinds) - 1
    output = (machine.home / "runs/drill-A/output.log").read_text()
    assert "most recent call first" in output


def test_a_trainer_that_ignores_sigterm_is_killed_after_the_grace(machine: Machine) -> None:
    """Nobody can refuse to leave."""
    machine.configure(
        SETTINGS.replace(
            "[checkpoints]", "ignore_sigterm = true\n[recovery]\ngrace_s = 1\n[checkpoints]"
        )
    )
    daemon = machine.start()
    machine.until_steps("A")
    machine.until_steps("B")
    assert machine.stop(daemon) == 0
    assert machine.trainers() == {}
    assert len(machine.events("run.killed")) == 2


def test_ctrl_c_saves_every_run_and_leaves_nobody(machine: Machine) -> None:
    """After Ctrl-C the newest checkpoint of each run holds its last step, and no process lives."""
    daemon = machine.start()
    machine.until_steps("A", 100)
    machine.until_steps("B", 100)
    assert machine.stop(daemon) == 0
    assert machine.trainers() == {}
    for name in ("A", "B"):
        heartbeat = machine.heartbeat(name)
        assert heartbeat["status"] == "stopped"
        assert heartbeat["checkpoint_step"] == heartbeat["step"] >= 100
    assert machine.events()[-1]["event"] == "supervisor.stopped"


def test_a_finished_run_gives_its_slot_to_the_next_and_the_end_is_said(machine: Machine) -> None:
    """Runs end one after the other; when all have, the supervisor says so once and rests."""
    machine.configure(SETTINGS.replace("1000000", "60"))
    machine.start()
    machine.until(lambda: machine.events("campaign.done"), "the campaign is done")
    state = machine.state()
    assert [run["status"] for run in state["runs"]] == ["done"] * 5
    assert state["next"]["action"] == "rest"
    started = [line["run"] for line in machine.events("run.started")]
    assert started == [f"drill-{name}" for name in "ABCDE"]
    assert len(machine.events("campaign.done")) == 1


def test_a_bad_option_fails_its_run_and_not_the_others(machine: Machine) -> None:
    """A run whose spec can never work is not restarted; mending the settings starts it."""
    machine.configure(f"{SETTINGS}\n[run.A.options]\nnonsense = 1\n")
    machine.start()
    machine.until(lambda: machine.events("run.failed"), "A has failed")
    machine.until_steps("B", 10)
    machine.until_steps("C", 10)
    assert "nonsense" in machine.run("A")["reason"]
    machine.configure(SETTINGS)
    machine.until_steps("A", 10)


def test_the_fourth_crash_of_the_hour_falls_back_before_a_trainer_starts(machine: Machine) -> None:
    """Scenario B, with processes: three reboots in medium are forgiven, the fourth is not."""
    # A boot that only has a new identity keeps this machine's uptime, which the timeline
    # believes: hence the wide window.
    machine.configure(f"{SETTINGS}\n[policy]\nname = 'fixed'\nwindow_min = 500000\n")
    machine.start()
    assert machine("force-scale-up").returncode == 0
    for crashes in (1, 2, 3):
        machine.until(lambda: machine.state()["mode"] == "medium", "in medium")
        machine.until(lambda: len(mains(machine)) == 4, "four train")
        machine.reboot()
        machine.start()
        assert machine.state()["crashes_total"] == crashes
    machine.until(lambda: len(mains(machine)) == 4, "four train")
    machine.reboot()
    seen = len(machine.events())
    machine.start()
    machine.until(lambda: len(mains(machine)) == 2, "two train")
    after = [line["event"] for line in machine.events()[seen:]]
    assert after.index("mode.changed") < after.index("run.started")
    (fallback,) = [
        line for line in machine.events("mode.changed") if line["rule"] == "reboot_storm"
    ]
    assert (fallback["old"], fallback["new"]) == ("medium", "light")
    assert fallback["evidence"]["crashes"] == 4
    state = machine.state()
    assert (state["mode"], state["boots_total"], state["crashes_total"]) == ("light", 5, 4)


def test_a_planned_reboot_is_no_crash(machine: Machine) -> None:
    """A boot after a clean stop is counted as a boot and not as a crash."""
    daemon = machine.start()
    machine.until_steps("A")
    machine.stop(daemon)
    machine.reboot()
    machine.start()
    state = machine.state()
    assert (state["boots_total"], state["crashes_total"]) == (2, 0)


def test_the_whole_cycle_with_small_values(machine: Machine) -> None:
    """With small values a person can watch light become medium by itself."""
    machine.configure(f"{SETTINGS}\n[policy]\nstable_min = 0.03\ntick_s = 1\n")
    machine.start()
    machine.until(lambda: len(mains(machine)) == 4, "four train in medium")
    (climb,) = machine.events("mode.changed")
    assert climb["rule"] == "stable"
    assert climb["facts"]["stable_s"] >= 0.03 * 60


def test_a_lowered_target_ends_a_running_run(machine: Machine) -> None:
    """A run that is already past its new target is done, and its slot goes to the next."""
    machine.start()
    machine.until_steps("A", 200)
    machine.configure(f"{SETTINGS}\n[run.A]\ntarget.steps = 50\n")
    machine.until(lambda: machine.events("run.done"), "A is done")
    machine.until_steps("C")
    assert machine.run("A")["status"] == "done"


@pytest.mark.parametrize("damage", ["", "[policy]\nstable_min = -1\n"])
def test_settings_that_a_reboot_spoilt_cost_no_night(machine: Machine, damage: str) -> None:
    """At a start with settings that cannot be used the last good ones hold, and that is told."""
    machine.start()
    machine.until_steps("A")
    machine.reboot()
    machine.configure(damage)
    machine.start()
    machine.until(lambda: len(mains(machine)) == 2, "both train again")
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    assert machine("check-config").returncode == 78
    machine.configure(SETTINGS)
    machine.until(lambda: machine.events("settings.changed"), "the mended file is taken over")

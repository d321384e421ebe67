"""What a person would try at night: kill things, and look whether they come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab import PATIENCE_S, SETTINGS, Machine


def mains(machine: Machine) -> dict[str, int]:
    """The living main process of each run, as the supervisor tells it."""
    return {run["id"]: run["pid"] for run in machine.state()["runs"] if run["pid"]}


def test_a_killed_trainer_is_restarted_from_its_checkpoint(machine: Machine) -> None:
    """After `kill -9` of a trainer one new one goes on from the newest checkpoint."""
    machine.start()
    machine.until_steps("A", 150)
    killed = mains(machine)["drill-A"]
    os.kill(killed, signal.SIGKILL)
    machine.until(lambda: len(machine.events("run.died")) == 1, "the death is in the log")
    machine.until(lambda: machine.heartbeat("A").get("pid") not in (None, killed), "a new life")
    machine.until(lambda: machine.heartbeat("A").get("status") == "running", "it trains")
    (died,) = machine.events("run.died")
    assert died["evidence"]["signal"] == 9
    resumed = machine.events("run.started")[-1]
    assert 0 < resumed["evidence"]["step"] <= died["evidence"]["step"]
    assert machine.heartbeat("A")["step"] >= resumed["evidence"]["step"]
    assert machine.run("A")["restarts"] == 1


def test_a_killed_daemon_costs_no_training(machine: Machine) -> None:
    """Trainers outlive `kill -9` of the daemon, and the next daemon takes over the same ones."""
    daemon = machine.start()
    machine.until_steps("A")
    machine.until_steps("B")
    before = mains(machine)
    daemon.kill()
    daemon.wait()
    step = machine.heartbeat("A")["step"]
    machine.until_steps("A", step + 50)
    assert machine.state()["daemon"] == {"state": "stopped", "pid": None}
    machine.start()
    machine.until_steps("A", step + 200)
    assert mains(machine) == before
    assert len(machine.trainers()) == 2
    assert machine.events("run.died") == []
    assert {line["evidence"]["pid"] for line in machine.events("run.adopted")} == {*before.values()}


def test_daemon_and_trainers_killed_together_come_back(machine: Machine) -> None:
    """With everything killed, the next daemon resumes every run, once."""
    machine.start()
    machine.until_steps("A", 150)
    machine.crash()
    machine.start()
    machine.until(lambda: len(machine.trainers()) == 2, "both train again")
    machine.until(lambda: machine.heartbeat("A").get("status") == "running", "A goes on")
    assert machine.heartbeat("A")["step"] > 50
    assert machine.state()["boots_total"] == 1


@pytest.mark.parametrize("kind", ["group", "setsid", "double_fork"])
def test_leftover_workers_are_ended_before_the_restart(machine: Machine, kind: str) -> None:
    """Workers that outlive a killed trainer are gone before the next one starts."""
    options = f'workers = 2\nworker_kind = "{kind}"\nsteps_per_s'
    machine.configure(SETTINGS.replace("steps_per_s", options))
    machine.start()
    machine.until_steps("A", 50)
    machine.until(lambda: len(machine.trainers()) == 6, "two trainers with two workers each")
    main = mains(machine)["drill-A"]
    old = {pid for pid, run in machine.trainers().items() if run == "drill-A"}
    os.kill(main, signal.SIGKILL)
    machine.until(lambda: not old & machine.trainers().keys(), "the old processes are gone")
    machine.until(lambda: len(machine.trainers()) == 6, "all is as it was")
    order = [line["event"] for line in machine.events() if line.get("run") == "drill-A"]
    assert order[-3:] == ["run.died", "run.killed", "run.started"]


def test_a_hung_trainer_is_dumped_stopped_and_restarted(machine: Machine) -> None:
    """A trainer that lives without moving shows its stacks, is stopped, and starts again."""
    recovery = "[recovery]\nsilent_min_s = 1\nstart_s = 20\ngrace_s = 2\n"
    hang = 'runs = ["A"]'
    settings = SETTINGS.replace('runs = ["A", "B", "C", "D", "E"]', hang)
    machine.configure(
        settings.replace("[checkpoints]", f"hang_at_step = 100\n{recovery}[checkpoints]")
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
    machine.configure(f"{SETTINGS}\n[policy]\nwindow_min = 500000\n")
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


def test_of_many_supervisors_one_lives(machine: Machine) -> None:
    """However many are started at once on one home, one runs and the others say so."""
    command = [sys.executable, "-m", "supervisor", "run"]
    crowd = [
        subprocess.Popen(
            command,
            env=machine.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    machine.daemons += crowd
    machine.until(lambda: sum(one.poll() is None for one in crowd) == 1, "one is left")
    machine.until_steps("A")
    for one in crowd:
        if one.poll() is not None:
            assert one.returncode == 75
            assert "already runs" in one.communicate()[1]
    assert len(machine.trainers()) == 2


def test_a_broken_settings_file_changes_nothing_and_is_told(machine: Machine) -> None:
    """A bad edit while running keeps the last good settings; the mended file is taken over."""
    machine.start()
    machine.until_steps("A")
    before = mains(machine)
    machine.configure(SETTINGS + "\n[policy]\nstable_min = -1\n")
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    (refused,) = machine.events("settings.refused")
    assert "policy.stable_min = -1" in refused["reason"]
    (machine.home / "supervisor.toml").unlink()
    machine.until(lambda: len(machine.events("settings.refused")) == 2, "the file is missed")
    machine.configure(SETTINGS + "\n[policy]\nstable_min = 30\n")
    machine.until(lambda: machine.events("settings.changed"), "the mended file is taken over")
    assert mains(machine) == before


@pytest.mark.parametrize("damage", [b"", b"[]", b"\0" * 5000, b'{"memory": {'])
def test_a_damaged_state_file_is_an_event_and_not_a_first_day(
    machine: Machine, damage: bytes
) -> None:
    """With a ruined state file the generation before is taken: boots and mode are not forgotten."""
    machine.start()
    machine("force-scale-up")
    machine.until(lambda: len(mains(machine)) == 4, "four train in medium")
    machine.reboot()
    (machine.home / "state.json").write_bytes(damage)
    machine.start()
    state = machine.state()
    assert (state["mode"], state["boots_total"], state["crashes_last_hour"]) == ("medium", 2, 1)
    (damaged,) = machine.events("state.damaged")
    assert "last good" in damaged["reason"]
    assert (machine.home / "state.damaged-1").read_bytes() == damage


def test_a_stray_trainer_of_this_home_is_ended(machine: Machine, tmp_path: Path) -> None:
    """A process that carries the mark of a run that is in no queue does not live on."""
    marked = {**machine.environment(), "TRAINING_SUPERVISOR_RUN": str(machine.home / "runs/gone")}
    stray = subprocess.Popen(["sleep", "1000"], env=marked, cwd=tmp_path)
    try:
        machine.start()
        assert stray.wait(PATIENCE_S) == -signal.SIGKILL
        machine.until_steps("A")
    finally:
        stray.kill()
        stray.wait()

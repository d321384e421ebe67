"""What people, disks and terminals do to a supervisor at night."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PATIENCE_S, SETTINGS, Machine

ONE_RUN = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]')


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "supervisor", *arguments]


def test_a_link_in_a_run_folder_leads_nowhere(machine: Machine, tmp_path: Path) -> None:
    """A file that the output of a run is linked to keeps every byte, and the others train on."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * (17 * 1024 * 1024))
    folder = machine.home / "runs/drill-A"
    folder.mkdir(parents=True)
    (folder / "output.log").symlink_to(victim)
    machine.start()
    machine.until_steps("B")
    machine.until(lambda: machine.events("run.died"), "A cannot start")
    assert victim.stat().st_size == 17 * 1024 * 1024
    assert machine("logs", "A").returncode == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk; only root can mount a small one")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk; this machine mounts none: {mounted.stderr}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_told_once_and_survived(small_disk: Path) -> None:
    """On a full disk the supervision goes on in memory; with room again, nothing is missing."""
    machine = Machine(small_disk / "home", small_disk.with_name("screen.log"))
    try:
        machine.configure(ONE_RUN + "\n[recovery]\nbackoff_max_s = 0.2\nheld_after = 3\n")
        daemon = machine.start()
        machine.until_steps("A", 100)
        main = machine.run("A")["pid"]
        filler = small_disk / "filler"
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
        told = [line["event"] for line in lines if line["event"].startswith("state.")]
        assert told == ["state.unsaved", "state.saved"] * (len(told) // 2)
        assert machine.events("run.held") == []
    finally:
        machine.crash()


def test_a_reader_that_stops_reading_stops_nothing(machine: Machine) -> None:
    """With a full pipe behind it the daemon goes on deciding, and obeys a stop."""
    machine.configure(SETTINGS.replace("1000000", "20"))
    ear, mouth = os.pipe()
    with os.fdopen(mouth, "wb", buffering=0) as pipe, os.fdopen(ear, "rb"):
        os.set_blocking(pipe.fileno(), False)
        try:
            while pipe.write(b"x" * 1024):
                pass
        except BlockingIOError:
            pass
        os.set_blocking(pipe.fileno(), True)
        daemon = subprocess.Popen(
            command("run"), env=machine.environment(), stdout=pipe, start_new_session=True
        )
        machine.daemons.append(daemon)  # type: ignore[arg-type]
        machine.until(lambda: machine.events("campaign.done"), "all is done")
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("place", ["a pipe", "a folder", "a dangling link"])
def test_settings_that_are_no_file_are_refused_and_not_waited_for(
    machine: Machine, place: str
) -> None:
    """Whatever lies where the settings were, the last good ones stay in force."""
    machine.start()
    machine.until_steps("A")
    path = machine.home / "supervisor.toml"
    path.unlink()
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/nowhere/at/all")
    assert machine("pause").returncode in (0, 78)
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    assert len(machine.trainers()) == 2 or machine.state()["holds"] == ["pause"]


def test_a_supervisor_whose_home_was_taken_away_leaves(machine: Machine) -> None:
    """With the home moved away nothing of the old supervisor lives beside a new one."""
    daemon = machine.start()
    machine.until_steps("A")
    machine.home.rename(machine.home.with_name("moved"))
    machine.home.mkdir()
    shutil.copy(machine.home.with_name("moved") / "supervisor.toml", machine.home)
    (trainer, *_) = machine.trainers()
    os.kill(trainer, signal.SIGKILL)  # whatever wakes it shows it that its home is gone
    assert daemon.wait(PATIENCE_S) == 1
    machine.until(lambda: not machine.trainers(), "nothing of it lives")
    assert not (machine.home / "state.json").exists(), "the new folder may be another's"


def test_an_inbox_that_was_removed_is_heard_again(machine: Machine) -> None:
    """A removed inbox is made again at the next look, and wishes in it are heard."""
    machine.configure(SETTINGS + "\n[policy]\ntick_s = 0.5\n")
    machine.start()
    machine.until_steps("A")
    shutil.rmtree(machine.home / "inbox")
    machine.until((machine.home / "inbox").is_dir, "the inbox is there again")
    assert machine("pause").returncode == 0


def test_a_mended_mode_file_is_taken_over(machine: Machine) -> None:
    """A refused folder of modes is looked at again when one of its files changes."""
    machine.start()
    modes = machine.home / "modes"
    modes.mkdir()
    mode = "rung = 0\nslots = {}\nn_envs = 1\nbatch_size = 1\n"
    (modes / "light.toml").write_text(mode.format(0))
    machine.configure(f'modes_dir = "modes"\n{SETTINGS}')
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    (modes / "light.toml").write_text(mode.format(3))
    machine.until(lambda: machine.events("settings.changed"), "the mended mode")
    machine.until(lambda: len(machine.trainers()) == 3, "three train")


def test_history_that_is_lost_is_told(machine: Machine) -> None:
    """With both generations ruined, readers say so, and so does the log of the next start."""
    machine.start()
    machine("force-scale-up")
    machine.crash()
    for path in machine.home.glob("state*.json"):
        path.write_bytes(b"ruined")
    answer = machine("get-mode")
    assert answer.returncode == 1
    assert "history is lost" in answer.stderr
    assert machine("show-state").returncode == 1
    machine.start()
    (damaged,) = machine.events("state.damaged")
    assert "history is lost" in damaged["reason"]
    assert machine.state()["mode"] == "light"


def test_a_home_has_one_identity_by_whatever_path(machine: Machine, tmp_path: Path) -> None:
    """Workers left behind under one path to the home are ended by a supervisor under another."""
    options = 'workers = 1\nworker_kind = "double_fork"\nsteps_per_s'
    machine.configure(ONE_RUN.replace("steps_per_s", options))
    daemon = machine.start()
    machine.until(lambda: len(machine.trainers()) == 2, "a trainer and its worker")
    (main,) = [run["pid"] for run in machine.state()["runs"] if run["pid"]]
    old = set(machine.trainers())
    daemon.kill()
    daemon.wait()
    os.kill(main, signal.SIGKILL)
    other_name = tmp_path / "other-name"
    other_name.symlink_to(machine.home)
    machine.extra["SUPERVISOR_HOME"] = str(other_name)
    machine.start()
    machine.until(lambda: len(machine.trainers()) == 2, "a new trainer and its worker")
    machine.until(lambda: not old & machine.trainers().keys(), "nothing of the old one lives")


def test_a_monstrous_key_in_the_settings_stays_one_line(machine: Machine) -> None:
    """A reason has a bounded length and nothing that moves a cursor."""
    machine.start()
    machine.configure(f'"{"k" * 3_000_000}\\n\\u001b[31m" = 1\n{SETTINGS}')
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    (refused,) = machine.events("settings.refused")
    assert len(refused["reason"]) <= 2000
    assert refused["reason"].isprintable()


def test_nohup_is_respected(machine: Machine) -> None:
    """A supervisor that was told to ignore hang-ups trains on when the terminal goes away."""
    daemon = subprocess.Popen(
        ["nohup", *command("run")],
        env=machine.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    machine.daemons.append(daemon)  # type: ignore[arg-type]
    machine.until_steps("A")
    daemon.send_signal(signal.SIGHUP)
    machine.until_steps("A", machine.heartbeat("A")["step"] + 100)
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing_but_the_output(machine: Machine, closed: str) -> None:
    """A command that is started without streams still does its work."""
    words = " ".join(command("force-scale-up"))
    answer = subprocess.run(
        ["sh", "-c", f"{words} {closed}"],
        env=machine.environment(),
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0
    assert len(list((machine.home / "inbox").glob("*.json"))) == 1
    assert (machine.home / "inbox").exists()


def test_a_lowered_target_ends_a_running_run(machine: Machine) -> None:
    """A run that is already past its new target is done, and its slot goes to the next."""
    machine.start()
    machine.until_steps("A", 200)
    machine.configure(f"{SETTINGS}\n[run.A]\ntarget_steps = 50\n")
    machine.until(lambda: machine.events("run.done"), "A is done")
    machine.until_steps("C")
    assert machine.run("A")["status"] == "done"

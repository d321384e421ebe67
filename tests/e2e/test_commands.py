"""The command line as a user types it, with the daemon up and down."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from testkit.machine import SETTINGS, Machine

STATE_KEYS = {
    "mode", "mode_since", "mode_running_s", "goal", "bounds", "policy", "ledger", "boot_id",
    "boots", "boots_total", "crashes_last_hour", "daemon", "api", "next", "runs", "quiet", "guard",
}  # fmt: skip
RUN_KEYS = {
    "id", "trainer", "name", "status", "step", "target", "steps_per_s", "score",
    "checkpoint_step", "checkpoint_age_s", "pid", "restarts",
}  # fmt: skip
COMMANDS = (
    "init", "run", "live", "show-state", "get-mode", "get-uptime", "get-reboots", "force-scale-up",
    "force-scale-down", "pin", "unpin", "forbid", "allow", "pause", "resume", "decisions", "why",
    "train-now", "import-settings",
    "ledger", "replay", "simulate", "samples", "logs", "runs", "goodput", "evaluate", "record",
    "export", "predict", "checkpoints", "rewind", "import-checkpoint", "reset", "tune", "trainers",
    "check-config", "doctor", "completion", "analyze-usage", "sample-usage", "jobs", "models",
    "serve", "dispatch", "notify-test",
)  # fmt: skip


def test_help_teaches_every_command(machine: Machine) -> None:
    """`--help` names every command with a line of meaning, and each command has its own help."""
    answer = machine("--help")
    assert answer.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command}\b", answer.stdout, re.MULTILINE)
    assert "exit codes" in answer.stdout
    assert machine().returncode == 2


@pytest.mark.parametrize("up", [True, False])
def test_show_state_has_what_scripts_rely_on(machine: Machine, up: bool) -> None:
    """The JSON holds every promised key, whether or not the daemon is up."""
    if up:
        machine.start()
        machine.until_steps("A", 100)
    state = machine.state()
    assert state.keys() >= STATE_KEYS
    assert all(run.keys() >= RUN_KEYS for run in state["runs"])
    assert state["next"].keys() == {"action", "in_s", "why"}
    assert state["daemon"]["state"] == ("running" if up else "stopped")
    if up:
        running = state["runs"][0]
        assert running["status"] == "running"
        assert running["pid"] in machine.trainers()
        assert running["checkpoint_age_s"] >= 0
        assert state["next"]["action"] == "climb"
        assert 0 < state["next"]["in_s"] <= 3600


def test_bare_values_for_scripts(machine: Machine) -> None:
    """`get-*` print one bare value."""
    machine.start()
    machine.until(
        lambda: int(machine("get-uptime").stdout) > 0, "the mode has trained for a second"
    )
    assert machine("get-mode").stdout == "light\n"
    assert int(machine("get-uptime").stdout) < int(machine("get-uptime", "--machine").stdout)
    assert machine("get-reboots").stdout == "0\n"
    assert machine("get-reboots", "--total").stdout == "0\n"


def test_forcing_up_and_down_moves_real_trainers(machine: Machine) -> None:
    """A forced move stops the old mode's trainers and starts the new one's; the ends refuse."""
    machine.start()
    machine.until_steps("A", 100)
    up = machine("force-scale-up")
    assert (up.returncode, up.stdout.startswith("medium: ")) == (0, True)
    machine.until(lambda: len(machine.trainers()) == 4, "four train")
    machine.until(lambda: machine.heartbeat("A").get("mode") == "medium", "A in medium")
    assert machine.heartbeat("A")["step"] >= 50
    refused = machine("force-scale-up")
    assert refused.returncode == 2
    assert refused.stderr == "supervisor: medium is already the highest mode\n"
    assert machine("force-scale-down").returncode == 0
    machine.until(lambda: len(machine.trainers()) == 2, "two train")
    refused = machine("force-scale-down")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "already the lowest mode" in refused.stderr


def test_holds_are_shown_until_taken_back(machine: Machine) -> None:
    """Pin and pause stand in show-state until unpin and resume."""
    machine.start()
    machine.until_steps("A")
    assert machine("pin", "medium").returncode == 0
    assert machine("pause").returncode == 0
    state = machine.state()
    assert (state["mode"], state["bounds"]) == ("medium", ["pin medium", "pause"])
    machine.until(lambda: not machine.trainers(), "nothing trains")
    assert machine("force-scale-down").returncode == 2
    assert machine("resume").returncode == 0
    machine.until(lambda: len(machine.trainers()) == 4, "all train again")
    assert machine("unpin").returncode == 0
    assert machine.state()["bounds"] == []
    nonsense = machine("pin", "turbo")
    assert nonsense.returncode == 2
    assert "the modes are light, medium" in nonsense.stderr


def test_a_request_made_while_the_daemon_is_down_waits_for_it(machine: Machine) -> None:
    """What is asked of a stopped supervisor is honoured at its next start, once."""
    waiting = machine("force-scale-up")
    assert waiting.returncode == 0
    assert "next start" in waiting.stdout
    refused = machine("force-scale-up")
    assert refused.returncode == 2
    assert "already the highest" in refused.stderr
    daemon = machine.start()
    machine.until(lambda: len(machine.trainers()) == 4, "four train")
    machine.stop(daemon)
    machine.start()
    assert machine.state()["mode"] == "medium"
    assert len(machine.events("mode.changed")) == 1
    assert list((machine.home / "inbox").iterdir()) == []


def test_a_failed_run_says_why_and_is_tried_again(machine: Machine) -> None:
    """What keeps a trainer from its folder is told where people look; once it is gone, `retry`."""
    machine.configure(SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A"]'))
    folder = machine.home / "runs/drill-A"
    folder.mkdir(parents=True)
    (folder / "tensorboard").symlink_to("elsewhere")
    daemon = machine.start()
    machine.until(lambda: machine.events("run.failed"), "it fails")
    assert "symlink" in machine.events("run.failed")[0]["reason"]
    assert "symlink" in machine.run("A")["reason"]
    (folder / "tensorboard").unlink()
    nobody = machine("retry", "nobody")
    assert (nobody.returncode, "there is no run" in nobody.stderr) == (2, True)
    granted = machine("retry", "a")
    assert granted.returncode == 0
    assert "retry A" in granted.stdout
    machine.until_steps("A")
    refused = machine("retry", "A")
    assert (refused.returncode, "nothing to try again" in refused.stderr) == (2, True)
    assert machine.stop(daemon) == 0


@pytest.mark.parametrize("up", [True, False])
def test_reset_forgets_history_and_keeps_checkpoints(machine: Machine, up: bool) -> None:
    """After a reset all is as on the first day, but the runs resume from what they had saved."""
    daemon = machine.start()
    machine.until_steps("A", 100)
    machine("force-scale-up")
    machine.until(lambda: machine.heartbeat("A").get("mode") == "medium", "A in medium")
    if not up:
        machine.stop(daemon)
    asked = machine("reset")
    assert asked.returncode == 2, "nobody can be asked, and --yes was not said"
    assert machine.state()["mode"] == "medium"
    assert machine("reset", "--yes").returncode == 0
    assert machine.state()["mode"] == "light"
    assert len(list(machine.home.glob("state.before-reset-*.json"))) == 1
    if not up:
        machine.start()
    machine.until(lambda: machine.heartbeat("A").get("mode") == "light", "A in light")
    machine.until(lambda: len(machine.trainers()) == 2, "two train")
    assert machine.heartbeat("A")["step"] >= 50


def test_a_reset_forgets_what_still_waited_before_it(machine: Machine) -> None:
    """A pause that was asked for before a reset does not come back after it."""
    assert machine("pause").returncode == 0
    assert machine("reset", "--yes").returncode == 0
    machine.start()
    machine.until_steps("A")
    assert not machine.state()["goal"]["paused"]


def test_the_decision_log_can_be_read_and_followed(machine: Machine) -> None:
    """`decisions` shows sentences, `--json` whole lines, `-f` goes on as it grows."""
    machine.start()
    command = [sys.executable, "-m", "supervisor", "decisions", "-f", "-n", "1", "--json"]
    follower = subprocess.Popen(
        command, env=machine.environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        first = json.loads(follower.stdout.readline())
        assert first["seq"] >= 1
        machine("force-scale-up")
        events = []
        while "mode.changed" not in events:
            events.append(json.loads(follower.stdout.readline())["event"])
    finally:
        follower.kill()
        follower.communicate()
    lines = [json.loads(line) for line in machine("decisions", "--json").stdout.splitlines()]
    changed = next(line for line in lines if line["event"] == "mode.changed")
    assert {"time", "boot", "old", "new", "rule", "reason", "evidence", "facts"} <= changed.keys()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert "light -> medium" in machine("decisions").stdout


def test_logs_and_runs_speak_of_one_run(machine: Machine) -> None:
    """`logs` prints a trainer's output, `runs` the queue; an unknown run is refused by name."""
    machine.start()
    machine.until_steps("A")
    (machine.home / "runs/drill-A/output.log").open("a").write("one line\n")
    assert "one line" in machine("logs", "a").stdout
    assert machine("runs").stdout.splitlines()[1].startswith("A ")
    assert [run["name"] for run in json.loads(machine("runs", "--json").stdout)] == list("ABCDE")
    unknown = machine("logs", "nonsense")
    assert unknown.returncode == 2
    assert "the runs are: A, B, C, D, E" in unknown.stderr
    assert machine("logs", "../../etc").returncode == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[policy]\nstable_mins = 3\n",
            "unknown key 'policy.stable_mins'; did you mean 'stable_min'?",
        ),
        ("[policy]\ntick_s = 'soon'\n", "policy.tick_s = 'soon': expected float, got str"),
        ("[policy]\nstable_min = nan\n", "policy.stable_min = nan"),
        ("[policy]\nstable_min = inf\n", "policy.stable_min = inf"),
        ("[campaign]\nruns = ['../x']\n", "campaign.runs = ['../x']"),
        ("[campaign]\nruns = ['A', 'A']\n", "campaign.runs names A more than once"),
        ("[run.X]\nseed = 1\n", "run X: "),
        ("[run.'../x']\nseed = 1\n", "is no name"),
        ("[campaign]\ntarget_steps = 1\ntarget_episodes = 1\n", "not both"),
        ("modes_dir = 'nowhere'\n", "no mode files"),
        ("modes_dir = '~nobody-there/modes'\n", "there is no such user"),
        (f"modes_dir = '{'x' * 300}'\n", "File name too long"),
        ("[policy\n", "is not valid TOML"),
        ("[campaign]\ntrainer = 'drill'\n[campaign.options]\nnonsense = 1\n", "nonsense"),
        ("[campaign]\nruns = ['MsPackman']\n", "MsPacman"),
        ("[campaign]\ntrainer = 'nobody'\n", "nobody"),
    ],
)
def test_bad_settings_are_refused_with_file_key_and_reason(
    machine: Machine, text: str, expected: str
) -> None:
    """Each mistake in the settings is one clear line and exit code 78, before anything starts."""
    machine.configure(text)
    checked = machine("check-config")
    assert checked.returncode == 78
    assert expected in checked.stderr
    assert "Traceback" not in checked.stderr


def test_bad_settings_stop_the_start_and_not_the_reading(machine: Machine) -> None:
    """With broken settings `run` refuses; show-state still tells what it knows."""
    machine.configure("[policy\n")
    answer = machine("run")
    assert answer.returncode == 78
    assert answer.stderr.count("\n") == 1
    assert machine.state()["mode"] == "light"


@pytest.mark.parametrize("mistake", ["[policy\n", "modes_dir = '~nobody-there/modes'\n"])
def test_a_mistake_in_the_settings_keeps_nobody_from_a_pause(
    machine: Machine, mistake: str
) -> None:
    """While the last good settings are in force, requests are granted and questions answered."""
    machine.start()
    machine.until_steps("A")
    machine.configure(mistake)
    machine.until(lambda: machine.events("settings.refused"), "the mistake is told")
    assert machine("pause").returncode == 0
    assert machine.state()["goal"]["paused"]
    for question in (("why", "--now"), ("ledger",)):
        assert machine(*question).returncode == 0
    assert machine("check-config").returncode == 78


def test_well_settings_and_machine_are_told(machine: Machine) -> None:
    """`check-config` and `doctor` find nothing bad where nothing is."""
    assert machine("check-config").returncode == 0
    answer = machine("doctor", "--json")
    findings = {one["what"]: one["verdict"] for one in json.loads(answer.stdout)}
    assert {"settings", "home", "disk", "state", "leftovers", "gpu", "trainers"} <= findings.keys()
    assert answer.returncode == int("bad" in findings.values())
    assert findings["trainers"] == "well"


def test_shell_completion_is_there(machine: Machine) -> None:
    """The completion script of bash knows the commands."""
    answer = machine("completion", "bash")
    assert answer.returncode == 0
    assert "force-scale-up" in answer.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("pin",),
        ("pin", ""),
        ("forbid", "a b"),
        ("allow", "\udcff"),
        ("logs", "\udcff"),
        ("live",),
        ("decisions", "-n", "0"),
        ("decisions", "-n", "many"),
        ("decisions", "--event", "mode.change"),
        ("decisions", "--event", ""),
        ("decisions", "--run", "nobody"),
        ("decisions", "--run", "\udcff"),
        ("decisions", "--since", "soon"),
        ("decisions", "--since", "0001-01-01"),
        ("decisions", "--since", "2026-02-30"),
        ("logs",),
        ("--home", "/dev/null/nowhere", "run"),
        ("--home", "/proc/nowhere", "force-scale-up"),
        ("--home", "/proc/version", "show-state"),
        ("--home", "/proc/version/within", "doctor"),
        ("--home", "~nobody-there/home", "get-mode"),
        ("--config", "~nobody-there/x.toml", "check-config"),
        ("--config", "/nowhere.toml", "check-config"),
        ("evaluate", "A", "-e", "-3"),
        ("record",),
        ("record", "A", "-s", "0"),
        ("record", "A", "-s", "601"),
    ],
)
def test_nonsense_gets_one_clear_answer(machine: Machine, arguments: tuple[str, ...]) -> None:
    """Misuse ends with a meaningful exit code and words, never with a traceback."""
    answer = machine(*arguments)
    assert answer.returncode in (2, 73, 78)
    assert answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_run_that_has_learnt_nothing_cannot_play_yet(machine: Machine) -> None:
    """Before its first start there is nothing of it; later the drill can do none of that."""
    played = (("evaluate",), ("record",), ("export", "-o", "out.bin"), ("predict", "-i", "a.csv"))
    for command in played:
        answer = machine(*command, "a")
        assert (answer.returncode, answer.stdout) == (75, "")
        assert answer.stderr.startswith("supervisor: the run A has not started yet; try again")
    machine.start()
    machine.until_steps("A", 1)
    for command in played:
        answer = machine(*command, "a")
        assert (answer.returncode, answer.stdout) == (78, "")
        assert answer.stderr == f"trainers: the trainer 'drill' cannot {command[0]}\n"


def test_a_mistyped_run_is_guessed(machine: Machine) -> None:
    """The answer names the run that was probably meant, and all there are."""
    machine.configure('[campaign]\nruns = ["Pong", "MsPacman"]\n')
    answer = machine("record", "mspackman")
    assert answer.returncode == 2
    assert "did you mean MsPacman?" in answer.stderr
    assert "the runs are: Pong, MsPacman" in answer.stderr


def test_runs_of_one_name_are_told_apart(machine: Machine) -> None:
    """Lists show their ids, and a command whose word means both asks which, by its id."""
    machine.configure(
        SETTINGS.replace('"B", ', '"B", "A-2", ') + '[run.A-2]\nname = "A"\nseed = 2\n'
    )
    machine.start()
    machine.until_steps("A")
    table = machine("runs").stdout.splitlines()[1:]
    assert [line.split()[0] for line in table if not line.startswith(" ")] == [
        *("drill-A", "B", "drill-A-2", "C", "D", "E"),
    ]
    for words in (("logs", "A"), ("retry", "a"), ("record", "A"), ("decisions", "--run", "A")):
        answer = machine(*words)
        assert answer.returncode == 2
        assert "say which by its id, of drill-A, drill-A-2" in answer.stderr
    for word in ("drill-A-2", "DRILL-a-2", "A-2"):
        assert machine("logs", word).returncode == 0
        assert "drill-A-2 " not in machine("decisions", "--run", "drill-A", "--event", "run").stdout
    spec = json.loads((machine.home / "runs/drill-A/spec.json").read_bytes())
    assert (spec["run"], spec["name"], spec["seed"]) == ("drill-A", "A", 1)


def test_old_forms_in_the_settings_are_hints(machine: Machine) -> None:
    """`check-config` and `doctor` say what to write instead, and find nothing bad in it."""
    old = "target_steps in [campaign] is the old form of target: write target = { steps = 1000000 }"
    machine.configure(SETTINGS.replace("target = { steps = 1000000 }", "target_steps = 1000000"))
    checked = machine("check-config")
    assert checked.returncode == 0
    assert old in checked.stdout
    findings = json.loads(machine("doctor", "--json").stdout)
    (settings,) = [one for one in findings if one["what"] == "settings"]
    assert settings["verdict"] == "note"
    assert old in settings["result"]


def test_a_load_that_its_trainer_refuses_is_found_before_the_mode_is_tried(
    machine: Machine,
) -> None:
    """A typo in the heavier mode would otherwise end every run at night."""
    modes = machine.home / "modes"
    modes.mkdir()
    (modes / "light.toml").write_text("rung = 0\nslots = 1\n")
    (modes / "medium.toml").write_text("rung = 1\nslots = 2\n[load.drill]\nn_envs = 8\n")
    machine.configure(f'modes_dir = "modes"\n{SETTINGS}')
    checked = machine("check-config")
    assert checked.returncode == 78
    assert "[load.drill] of the mode medium: no entry 'n_envs'" in checked.stderr
    assert "[load.drill]" in machine("doctor").stdout
    (modes / "medium.toml").write_text("rung = 1\nslots = 2\n[load.drll]\nn_envs = 8\n")
    checked = machine("check-config")
    assert checked.returncode == 78
    assert "mode medium, [load]: there is no trainer 'drll'" in checked.stderr


def test_a_third_mode_file_is_a_third_rung(machine: Machine) -> None:
    """A folder of one's own replaces the shipped modes, with as many rungs as it has files."""
    modes = machine.home / "modes"
    modes.mkdir()
    for rung, (name, slots) in enumerate([("one", 1), ("two", 2), ("three", 3)]):
        (modes / f"{name}.toml").write_text(f"rung = {rung}\nslots = {slots}\n")
    machine.configure(f'modes_dir = "modes"\n{SETTINGS}')
    machine.start()
    assert machine("get-mode").stdout == "one\n"
    assert machine("force-scale-up").returncode == 0
    assert machine("force-scale-up").returncode == 0
    machine.until(lambda: len(machine.trainers()) == 3, "three train")
    (modes / "three.toml").unlink()
    machine.until(lambda: machine.state()["mode"] == "one", "the mode that is gone is left")
    assert machine.events("mode.changed")[-1]["rule"] == "unknown_mode"


def test_tuning_is_kept_and_shown(machine: Machine) -> None:
    """`tune` asks every trainer of the campaign; `--once` leaves alone what was tried."""
    answer = machine("tune")
    assert (answer.returncode, answer.stdout.count("\n")) == (0, 1)
    kept = machine.home / "tuning.json"
    assert json.loads(kept.read_bytes()) == {"version": 1, "found": {"drill": []}}
    kept.write_text("{}")
    assert machine("tune", "--once").returncode == 0
    assert kept.read_text() == "{}"
    findings = json.loads(machine("doctor", "--json").stdout)
    (tuning,) = (one for one in findings if one["what"] == "tuning")
    assert "supervisor tune" in tuning["result"]


def test_tuning_does_not_run_beside_training(machine: Machine) -> None:
    """What trains would disturb the trials, and they the training."""
    machine.start()
    machine.until_steps("A", 100)
    answer = machine("tune")
    assert answer.returncode == 2
    assert "supervisor pause" in answer.stderr

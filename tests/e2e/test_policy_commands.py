"""What a person asks the policy, as it is typed: why, ledger, replay, simulate, forbid."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from testkit.machine import Machine
from testkit.written_life import WrittenLife

SAMPLE = "down_h,up_h\n1,1.2\n5,5.1\n9,9.5\n20,20.1\n40,40.3\n"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a machine whose medium has failed, was tried again, and lasts now."""
    life = WrittenLife().train(1.1)
    for _ in range(5):
        life.train(0.02).crash()
    life.train(2.0)
    life.request("forbid", "medium").request("allow", "medium").train(26.0)
    home = tmp_path_factory.mktemp("lived")
    life.save(home)
    return home


@pytest.fixture
def stormy(machine: Machine, lived: Path) -> Machine:
    """A machine of one's own with that past."""
    for file in lived.iterdir():
        shutil.copy(file, machine.home)
    return machine


def test_a_log_that_somebody_has_written_into_commands_no_terminal(stormy: Machine) -> None:
    """What `why`, `replay` and `decisions` show of it is text."""
    log = stormy.home / "decisions.jsonl"
    line = [line for line in stormy.events() if "facts" in line][-1]
    line |= {"reason": "all is \x1b[2Jwell\x07\u202e", "rule": "\x1b]0;title\x07"}
    log.write_text(f"{json.dumps(line)}\n")
    for command in ("why", "replay", "decisions"):
        said = stormy(command).stdout
        assert said
        assert said.replace("\n", "").isprintable()


def first_decision(machine: Machine) -> int:
    return int(next(line["seq"] for line in machine.events() if "facts" in line))


# why


def test_why_tells_the_newest_decision_with_its_inputs_and_rules(stormy: Machine) -> None:
    """When, what, the sentence, a table of what it was made from, and the rules that were not."""
    answer = stormy("why")
    newest = [line for line in stormy.events() if "facts" in line][-1]
    assert answer.returncode == 0
    for text in (
        f"{newest['seq']} of the log",
        newest["reason"],
        newest["rule"],
        "price of a crash",
        "crashes/h",
        "bounded_by_person",
        "no person pins or pauses",
    ):
        assert text in answer.stdout
    assert "\x1b" not in answer.stdout


def test_why_tells_any_decision_by_its_number(stormy: Machine) -> None:
    """Each answer names the decision before it, so that one can walk back to the first."""
    seq, seen = json.loads(stormy("why", "--json").stdout)["seq"], []
    while seq is not None:
        told = json.loads(stormy("why", str(seq), "--json").stdout)
        assert told["seq"] == seq
        assert told["inputs"]
        assert told["rules"]
        seen.append(seq)
        seq = told["before"]
    assert seen[::-1] == [line["seq"] for line in stormy.events() if "facts" in line]


def test_why_of_a_line_that_is_no_decision_names_those_beside_it(stormy: Machine) -> None:
    """A number in between, or beyond the end, is answered with numbers that would do."""
    first = first_decision(stormy)
    between = stormy("why", str(first + 1))
    assert between.returncode == 2
    assert "is no decision; the nearest decision" in between.stderr
    assert str(first) in between.stderr
    beyond = stormy("why", "999999")
    assert beyond.returncode == 2
    assert "the log has no line 999999" in beyond.stderr


def test_why_on_a_first_day_asks_the_present(machine: Machine) -> None:
    """With nothing decided yet, it says so, and what the present facts would give."""
    answer = machine("why")
    assert answer.returncode == 0
    assert "not in the log" in answer.stdout
    assert "medium in 60 min, if no crash" in answer.stdout
    assert json.loads(machine("why", "--json").stdout)["seq"] is None
    beyond = machine("why", "1")
    assert (beyond.returncode, beyond.stderr.count("\n")) == (2, 1)


def test_why_now_tells_what_each_rule_says_at_this_moment(stormy: Machine) -> None:
    """The newest decision may be hours old; why nothing has followed it is another question."""
    now = json.loads(stormy("why", "--now", "--json").stdout)
    assert now["seq"] is None
    assert now["old"] == now["new"] == stormy("get-mode").stdout.strip()
    assert now["rules"][-1]["rule"] == "stable"
    assert not any(rule["decides"] for rule in now["rules"])
    assert stormy("why", "--now", "3").returncode == 2


# ledger and show-state


def test_the_ledger_tells_what_was_learnt_of_each_mode(stormy: Machine) -> None:
    """Hours, crashes, bounds, break-even, speed and level, with the daemon down."""
    told = json.loads(stormy("ledger", "--json").stdout)
    light, medium = told["modes"]
    assert (light["mode"], medium["mode"]) == ("light", "medium")
    assert told["crashes_priced"] == 5
    assert medium["crashes"] > 0
    assert medium["crashes_per_h_low"] < medium["crashes_per_h"] < medium["crashes_per_h_high"]
    assert medium["break_even_per_h"] > 0
    assert medium["speed_ratio"] > 1.2
    assert light["break_even_per_h"] is None
    assert (told["checkpoint_interval_s"], told["checkpoint_interval_max_s"]) == (None, 0.5)
    text = stormy("ledger")
    assert text.returncode == 0
    assert "measured on 5" in text.stdout
    assert re.search(r"^light +[\d.]+ ", text.stdout, re.MULTILINE)
    assert re.search(r"^medium .* (here|any time|in .*) ", text.stdout, re.MULTILINE)


def test_the_interval_of_living_trainers_is_told(machine: Machine) -> None:
    """What stands in the specs of trainers that live is the interval in force."""
    machine.start()
    machine.until_steps("A")
    assert json.loads(machine("ledger", "--json").stdout)["checkpoint_interval_s"] == 0.5


def test_show_state_has_the_numbers_in_short(stormy: Machine) -> None:
    """The policy's numbers for the mode and the next stand in a row or two, and in the JSON."""
    text = stormy("show-state").stdout
    assert "a crash costs" in text
    assert "crashes/h" in text
    state = stormy.state()
    assert state["policy"] == "ledger"
    assert state["ledger"]["modes"][1]["mode"] == "medium"
    stormy.configure('[policy]\nname = "fixed"\n')
    assert "a crash costs" not in stormy("show-state").stdout
    assert stormy.state()["policy"] == "fixed"
    stormy.configure("[policy\n")
    assert stormy.state()["ledger"] is None


# replay


def test_a_log_in_health_replays_without_a_difference(stormy: Machine) -> None:
    """One sentence, exit code 0; from the home, from a path, and as JSON."""
    answer = stormy("replay")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "agree in everything" in answer.stdout
    told = json.loads(stormy("replay", str(stormy.home / "decisions.jsonl"), "--json").stdout)
    assert told["first"] is None
    assert told["ledgers"] == told["decisions"] > 2


def test_a_log_in_several_files_is_one_log(stormy: Machine) -> None:
    """What was rotated away is read first."""
    log = stormy.home / "decisions.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    (stormy.home / "decisions.jsonl.1").write_bytes(b"".join(lines[:9]))
    log.write_bytes(b"".join(lines[9:]))
    whole = json.loads(stormy("replay", "--json").stdout)
    assert (whole["lines"], whole["gaps"]) == (len(lines), 0)


def test_a_difference_is_told_by_line_and_field(stormy: Machine) -> None:
    """A reason that the rules do not give is found, and the exit code says so."""
    log = stormy.home / "decisions.jsonl"
    seq = first_decision(stormy)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[seq - 1]["decision"]["reason"] = "because"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    answer = stormy("replay")
    assert answer.returncode == 1
    assert f"the first in line {seq}: decision.reason" in answer.stdout
    assert "logged because" in answer.stdout


def test_a_damaged_log_is_no_traceback(stormy: Machine) -> None:
    """Torn and foreign lines are left out, and the gap is told."""
    log = stormy.home / "decisions.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][: len(lines[3]) // 2] + b"\n"
    lines.insert(6, b'\xff\xfe[1, 2\n{"seq": "x", "facts": 3}\n[]\n')
    log.write_bytes(b"".join(lines))
    for command in (["replay"], ["why"], ["why", "1"], ["replay", "--policy", "fixed"]):
        answer = stormy(*command)
        assert "Traceback" not in answer.stderr
    answer = stormy("replay")
    assert answer.returncode == 0
    assert "gaps      1" in answer.stdout


def test_what_another_policy_would_have_made_of_it(stormy: Machine) -> None:
    """When it first differs, hours, crashes and work, and that this is an estimate."""
    answer = stormy("replay", "--policy", "fixed", "--lives", "3")
    assert answer.returncode == 0
    for text in ("policy fixed", "an estimate", "hours in medium", "crashes", "times as much"):
        assert text in answer.stdout
    told = json.loads(stormy("replay", "--set", "stable_min=600", "--lives", "3", "--json").stdout)
    assert told["asked"] == "stable_min=600"
    assert told["first"] == first_decision(stormy)
    lived = told["estimate"]
    assert lived["other"]["hours"][0] > lived["logged"]["hours"][0]
    assert lived["work_ratio"] < 1


def test_what_has_passed_since_the_newest_line_counts_while_the_supervisor_runs(
    machine: Machine,
) -> None:
    """A log in the making has a past up to this moment."""
    machine.start()
    machine("force-scale-up")
    machine.until(lambda: len(machine.trainers()) == 4, "four train")
    told = json.loads(machine("replay", "--policy", "fixed", "--json").stdout)
    assert told["estimate"]["hours"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "/nowhere"), "no such file"),
        (("replay", "/proc"), "is no file"),
        (("replay", "/proc/version"), "no line of a decision log"),
        (("replay", "--policy", "nonsense"), "invalid choice"),
        (("replay", "--set", "crash_max=3"), "did you mean 'crashes_max'?"),
        (("replay", "--set", "crashes_max=-1"), "crashes_max = -1: expected"),
        (("replay", "--set", "crashes_max"), "sets nothing; say KEY=VALUE"),
        (("replay", "--set", "stable_min=nan"), "stable_min"),
        (("replay", "--set", "strict=maybe"), "expected bool"),
        (("replay", "--set", "stable_min=\udcff"), "cannot be written as utf-8"),
        (("why", "0"), "whole number"),
        (("why", "none"), "whole number"),
        (("why", "1000001"), "has no line 1000001"),
        (("forbid",), "MODE"),
        (("allow",), "MODE"),
        (("simulate", "--families", "nonsense"), "there are: calm"),
        (("simulate", "--policies", "nonsense"), "there are: light-only"),
        (("simulate", "--worlds", "0"), "whole number"),
        (("simulate", "--days", "31"), "known for 30 days"),
        (("simulate", "--trace", "/nowhere"), "is no trace"),
        (("simulate", "--trace", "/proc/version"), "is no trace"),
        (("simulate", "--my-machine", "--trace", "x"), "not allowed with"),
        (("simulate", "--families", "calm", "--picture", "/proc/x/y.svg"), "/proc/x/y.svg:"),
    ],
    ids=" ".join,
)
def test_nonsense_gets_one_clear_answer(
    stormy: Machine, arguments: tuple[str, ...], words: str
) -> None:
    """Misuse ends with words and an exit code, never with a traceback."""
    answer = stormy(*arguments)
    assert answer.returncode in (1, 2)
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


# simulate


def test_simulate_tells_the_same_table_for_the_same_seed(machine: Machine) -> None:
    """The table is of this seed, whatever the number of processes; nothing else is printed."""
    asked = ("simulate", "--worlds", "2", "--families", "calm", "boot-loop", "--days", "3")
    asked += ("--policies", "fixed", "ledger")
    alone = machine(*asked, "--jobs", "1")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert machine(*asked, "--jobs", "2").stdout == alone.stdout
    assert machine(*asked, "--seed", "7").stdout != alone.stdout
    scores = json.loads(machine(*asked, "--json").stdout)["scores"]
    assert set(scores) == {"fixed", "ledger"}
    assert set(scores["ledger"]["families"]) == {"calm", "boot loop"}


def test_simulate_heeds_the_settings(machine: Machine) -> None:
    """What is tried is the policy as it is set here."""
    asked = ("simulate", "--worlds", "1", "--families", "boot-loop", "--days", "2", "--json")
    asked += ("--policies", "fixed", "--jobs", "1")
    crashes = []
    for forgiven in (0, 30):
        machine.configure(f"[policy]\ncrashes_max = {forgiven}\n")
        crashes.append(json.loads(machine(*asked).stdout)["scores"]["fixed"]["crashes_per_day"])
    assert crashes[0] < crashes[1]


def test_simulate_of_a_trace_of_this_machine_and_a_picture(stormy: Machine) -> None:
    """Machines come from a file, or from what was learnt here; one life can be looked at."""
    trace, picture = stormy.home / "trace.csv", stormy.home / "life.svg"
    trace.write_text(SAMPLE)
    of_trace = stormy("simulate", "--trace", str(trace), "--policies", "ledger")
    assert (of_trace.returncode, of_trace.stderr) == (0, "")
    mine = stormy(
        "simulate", "--my-machine", "--worlds", "2", "--days", "40", "--policies", "ledger",
        "--picture", str(picture),
    )  # fmt: skip
    assert mine.returncode == 0
    assert "2 machines, 40 days each" in mine.stdout
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    "other", [("--families", "calm"), ("--my-machine",), ("--worlds", "2")], ids=" ".join
)
def test_what_a_trace_leaves_no_choice_of_is_refused(machine: Machine, other: tuple[str]) -> None:
    """A trace says which machines and how many: nothing that is asked is left out in silence."""
    trace = machine.home / "trace.csv"
    trace.write_text(SAMPLE)
    answer = machine("simulate", "--trace", str(trace), *other)
    assert answer.returncode == 2
    assert other[0] in answer.stderr
    assert "Traceback" not in answer.stderr


# forbid and allow


def test_a_forbidden_mode_is_shown_kept_out_and_allowed_again(machine: Machine) -> None:
    """`forbid` moves down at once, stands under holds, and `allow` takes it back."""
    machine.start()
    machine.until_steps("A")
    assert machine("force-scale-up").returncode == 0
    answer = machine("forbid", "medium")
    assert (answer.returncode, answer.stdout.startswith("light: ")) == (0, True)
    state = machine.state()
    assert (state["mode"], state["bounds"]) == ("light", ["forbid medium"])
    assert "medium is forbidden" in state["next"]["why"]
    refused = machine("force-scale-up")
    assert refused.returncode == 2
    assert "`allow medium` first" in refused.stderr
    assert machine("forbid", "light").returncode == 2
    assert machine("forbid", "turbo").returncode == 2
    assert machine("allow", "light").returncode == 2
    assert machine("allow", "medium").returncode == 0
    assert machine.state()["bounds"] == []
    assert "agree in everything" in machine("replay").stdout


def test_a_reset_begins_a_fresh_ledger_in_the_log_too(stormy: Machine) -> None:
    """With the supervisor down, the line of the reset is enough to replay what follows."""
    assert stormy("reset", "--yes").returncode == 0
    stormy.start()
    assert stormy("force-scale-up").returncode == 0
    answer = stormy("replay")
    assert answer.returncode == 0, answer.stdout


def test_a_real_log_replays(machine: Machine) -> None:
    """What a daemon has written through a reboot is decided again without a difference."""
    machine.configure(
        "[policy]\nstable_min = 0.02\n" + (machine.home / "supervisor.toml").read_text()
    )
    machine.start()
    machine.until(lambda: machine.events("mode.changed"), "it climbs")
    machine.reboot()
    machine.start()
    machine.until_steps("A")
    assert machine("force-scale-down").returncode == 0
    told = json.loads(machine("replay", "--json").stdout)
    assert told["first"] is None
    assert told["decisions"] >= 2

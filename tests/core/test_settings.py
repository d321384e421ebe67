"""What settings ask for: how far each run goes, and what it is called."""

import msgspec
import pytest

from modes.toml_file import InvalidFile, read_toml
from supervisor.core.campaign import CAMPAIGN
from supervisor.core.settings import Settings
from testkit.builders import steps
from trainers.contract import Target


def read(tmp_path, text):
    """The settings that such a file holds."""
    path = tmp_path / "supervisor.toml"
    path.write_text(text)
    return read_toml(path, Settings)


def targets(tmp_path, campaign="", run=""):
    """How far the two runs go by what these tables say, the second of which has its own."""
    text = f'[campaign]\nruns = ["A", "B"]\n{campaign}\n[run.B]\n{run}\n'
    return tuple(run.asked.target for run in read(tmp_path, text).queue())


def episodes(count):
    return Target(unit="episodes", count=count)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("target_steps = 50", "target = { steps = 50 }", steps(50)),
        ("target_episodes = 7", "target = { episodes = 7 }", episodes(7)),
        ("target_episodes = 7", "target.episodes = 7", episodes(7)),
    ],
)
def test_both_forms_of_a_target_mean_the_same(tmp_path, old, new, expected):
    """Whichever table has which; what a run says of itself goes before the campaign."""
    assert targets(tmp_path, old) == targets(tmp_path, new) == (expected, expected)
    for common in ("target_steps = 3", "target = { steps = 3 }"):
        for own in (old, new):
            assert targets(tmp_path, common, own) == (steps(3), expected)


def test_a_target_is_in_any_unit_of_the_trainer_or_in_none(tmp_path):
    """An empty one, of a run too, leaves to the trainer when it is done."""
    epochs = Target(unit="epochs", count=3)
    assert targets(tmp_path, "target = { epochs = 3 }", "target = {}") == (epochs, None)


def test_without_a_target_a_game_has_the_published_budget(tmp_path):
    """Nobody has to set one; what other trainers do ends when these say so."""
    assert targets(tmp_path) == (steps(10_000_000), steps(10_000_000))
    assert targets(tmp_path, 'trainer = "drill"') == (None, None)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("target = { steps = 1 }\ntarget_steps = 1", "sets target and, in its old form"),
        ("target = { steps = 1 }\ntarget_episodes = 1", "target_episodes: keep target alone"),
        ("target_steps = 1\ntarget_episodes = 1", "not both"),
        ("target = { steps = 1, episodes = 1 }", "a target in steps and in episodes"),
    ],
)
@pytest.mark.parametrize("heading", ["campaign", "run.Pong"])
def test_a_target_that_is_not_one_is_refused(tmp_path, heading, table, said):
    """By one sentence that names the table, and what can be written instead."""
    with pytest.raises(InvalidFile) as refused:
        read(tmp_path, f"[{heading}]\n{table}\n")
    (problem,) = refused.value.problems
    assert f"[{heading}]" in problem
    assert said in problem
    assert "keep target alone" in problem or "write target = { steps = N }" in problem


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("5_000_000", "expected table, got int"),
        ("{ steps = 0 }", "expected int >= 1"),
        ('{ steps = "many" }', "expected int, got str"),
        ('{ "a step" = 1 }', "'a step' is no name"),
    ],
)
def test_a_target_that_is_none_is_told_in_the_words_of_the_file(tmp_path, target, said):
    """With its key and what stands there."""
    with pytest.raises(InvalidFile, match=r"campaign\.target = ") as refused:
        read(tmp_path, f"[campaign]\ntarget = {target}\n")
    assert said in str(refused.value)


def test_each_old_key_is_told_once_with_what_to_write(tmp_path):
    """However many tables have it; those that are not named are counted."""
    text = "target_steps = 5_000_000\n" + "".join(
        f"[run.{label}]\ntarget_steps = {number}\n"
        for number, label in enumerate(("Pong", "Enduro", "Boxing", "Freeway", "Seaquest"), 1)
    )
    text += "[run.MsPacman]\ntarget_episodes = 300\n"
    in_steps, in_episodes = read(tmp_path, f"[campaign]\n{text}").dated()
    assert in_steps == (
        "target_steps in [campaign] is the old form of target: write "
        "target = { steps = 5000000 }; likewise in [run.Pong], [run.Enduro], [run.Boxing], "
        "[run.Freeway] and 1 more"
    )
    assert in_episodes.startswith("target_episodes in [run.MsPacman] is the old form of target")
    assert in_episodes.endswith("write target = { episodes = 300 }")
    assert read(tmp_path, "[campaign]\ntarget = { steps = 5 }\n").dated() == ()
    assert Settings().dated() == ()


def test_what_a_notice_says_to_write_means_what_stood_there(tmp_path):
    """It can be taken as it is."""
    old = read(tmp_path, "[campaign]\ntarget_episodes = 300\n")
    (notice,) = old.dated()
    new = read(tmp_path, f"[campaign]\n{notice.partition(': write ')[2]}\n")
    assert new.queue() == old.queue()


def labels(tmp_path, text):
    """The runs of settings, without their trainer."""
    return [run.id.partition("-")[2] for run in read(tmp_path, text).queue()]


def test_a_run_with_a_table_alone_joins_the_campaign_behind_it(tmp_path):
    """In the order of the file; what is listed keeps its place."""
    tables = "[run.Z]\nseed = 2\n[run.B]\nseed = 3\n[run.A]\nseed = 4\n"
    assert labels(tmp_path, f'[campaign]\nruns = ["C", "A"]\n{tables}') == ["C", "A", "Z", "B"]
    assert labels(tmp_path, f"[campaign]\nruns = []\n{tables}") == ["Z", "B", "A"]


def test_the_games_are_there_only_where_nobody_names_a_run(tmp_path):
    """Neither a list nor a table: what somebody names is all that is trained."""
    assert labels(tmp_path, "[policy]\n") == list(CAMPAIGN)
    assert labels(tmp_path, "[campaign]\nseed = 2\n") == list(CAMPAIGN)
    assert labels(tmp_path, "[run.Pong]\nseed = 2\n") == ["Pong"]
    assert labels(tmp_path, "[campaign]\nruns = []\n") == []


def test_a_program_has_a_target_only_where_one_is_set(tmp_path):
    """It says by itself when it is done; a command of the campaign serves all of its runs."""
    text = '[campaign]\ntrainer = "command"\noptions = { command = ["true"] }\n[run.A]\n[run.B]\n'
    a, b = read(tmp_path, f"{text}target = {{ epochs = 3 }}\n").queue()
    assert (a.asked.target, b.asked.target) == (None, Target(unit="epochs", count=3))
    assert a.asked.options == b.asked.options == {"command": ["true"]}


SAME_NAME = """\
[campaign]
runs = ["Pong", "Pong-2"]
[run.Pong-2]
name = "Pong"
seed = 2
"""


def test_the_same_name_twice_is_two_runs(tmp_path):
    """Each has an id, and so a folder, of its own; trainers are given the name."""
    one, two = read(tmp_path, SAME_NAME).queue()
    assert (one.id, two.id) == ("atari-Pong", "atari-Pong-2")
    assert (one.asked.name, two.asked.name) == ("Pong", "Pong")
    assert (one.asked.seed, two.asked.seed) == (1, 2)


def test_a_label_twice_is_refused_with_how_to_ask_for_two_runs(tmp_path):
    """What is told can be written down as it is told."""
    with pytest.raises(InvalidFile) as refused:
        read(tmp_path, '[campaign]\nruns = ["Pong", "Pong"]\n')
    (problem,) = refused.value.problems
    assert "campaign.runs names Pong more than once" in problem
    assert 'list a second label, such as Pong-2, and set name = "Pong" in [run.Pong-2]' in problem


def test_what_is_unset_is_not_written_down():
    """Settings that use nothing newer are kept in words that an older version knows."""
    asked = {"campaign": {"target_steps": 5}, "run": {"Pong": {"target_steps": 6}}}
    told = msgspec.to_builtins(msgspec.convert(asked, Settings))
    assert {table: told[table] for table in asked} == asked

"""What `supervisor init` guesses of a folder, and how it writes that down."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.proposal import (
    SUFFIXES,
    Asked,
    Facts,
    File,
    Proposal,
    as_target,
    as_words,
    heading,
    learn,
    likely,
    propose,
    quoted,
    written,
)

LOOP = """
import argparse, os, torch
parser = argparse.ArgumentParser()
parser.add_argument("-o", "--out", default="out")
parser.add_argument("--resume")
parser.add_argument("--fast", action="store_true")
parser.add_argument("--epochs", type=int, default=30)
asked = parser.parse_args()
print(f"starting at epoch {asked.epochs}")
for epoch in range(asked.epochs):
    torch.save(state, os.path.join(asked.out, f"net-{epoch + 1:03d}.pt"))
    print(f"epoch {epoch + 1}/{asked.epochs}: loss {loss.item():.4f} (lr {lr})")
"""


GUESSED = Asked()


def proposed(text: str = "", *, asked: Asked = GUESSED, **facts: Any) -> Proposal:
    """What is proposed for a folder with one script."""
    files = (File("train.py", text),)
    found = propose(Facts(**{"folder": "mine", "files": files, **facts}), asked)
    assert found is not None
    return found


def settings(proposal: Proposal) -> dict[str, Any]:
    """The table of the run, as a reader of TOML has it."""
    (table,) = tomllib.loads(heading() + written(proposal))["run"].values()
    return table


def test_a_plain_loop_is_understood():
    """Its options, what it prints, what it saves and where, how far it goes."""
    found = proposed(LOOP)
    assert found == Proposal(
        name="mine",
        command=("python3", "{home}/train.py", "--out", "{work}", "--epochs", "{target}"),
        resume=("--resume", "{checkpoint}"),
        checkpoints="{work}/net-*.pt",
        target=("epochs", 30),
        progress={
            "pattern": r"epoch *(?P<epoch>\d+)/.*?: loss *(?P<loss>[-+.\de]+) \(lr"
            r" *(?P<lr>[-+.\de]+)\)",
            "score": "loss",
            "better": "lower",
        },
        finish_s=None,
        remarks=(),
    )
    line = "epoch 3/30: loss 0.0317 (lr 1e-3)"
    assert found.progress is not None
    match = re.search(found.progress["pattern"], line)
    assert match
    assert match.groupdict() == {"epoch": "3", "loss": "0.0317", "lr": "1e-3"}
    assert settings(found)["target"] == {"epochs": 30}


@pytest.mark.parametrize(
    ("library", "checkpoints", "line", "numbers"),
    [
        (
            "from transformers import Trainer",
            "*/checkpoint-*",
            "{'loss': '0.51', 'grad_norm': '2.6', 'learning_rate': '5e-05', 'epoch': '1.25'}",
            {"loss": "0.51", "epoch": "1.25", "batch": None},
        ),
        (
            "from transformers import Trainer",
            "*/checkpoint-*",
            " 13%|\u2588\u258e        | 96/750 [00:10<01:08,  9.57it/s]",
            {"loss": None, "epoch": None, "batch": "96"},
        ),
        (
            "from stable_baselines3 import PPO",
            "*.zip",
            "|    total_timesteps      | 2048        |",
            {"step": "2048", "reward": None},
        ),
        ("import keras", "*.keras", "Epoch 3/20", {"epoch": "3", "loss": None}),
    ],
)
def test_a_library_tells_what_it_prints_and_saves(library, checkpoints, line, numbers):
    """As its newest version does where nothing else is said."""
    found = proposed(library)
    assert found.progress is not None
    match = re.search(found.progress["pattern"], line)
    assert match
    assert match.groupdict() == numbers
    assert found.checkpoints == checkpoints
    assert "prints unless it is told to be quiet" in found.remarks[0]
    assert settings(found)["options"]["progress"] == found.progress


@pytest.mark.parametrize("library", ["import lightning as L", "from pytorch_lightning import x"])
def test_of_a_library_that_may_print_nothing_no_progress_is_guessed(library):
    """A run that tells none would count as hung."""
    found = proposed(library)
    assert (found.progress, found.checkpoints) == (None, "lightning_logs/*/checkpoints/*.ckpt")
    assert "until then seconds count" in found.remarks[-1]
    asked = proposed(library, asked=Asked(target=("epochs", 9)))
    assert asked.progress is not None
    assert re.search(asked.progress["pattern"], "Epoch 3/8 ---")


def test_a_folder_that_lightning_is_given_is_that_of_the_run():
    """Wherever below it a callback saves."""
    script = 'import lightning\nparser.add_argument("--default_root_dir", default=".")'
    found = proposed(script)
    assert found.command[2:] == ("--default_root_dir", "{work}")
    assert found.checkpoints == "{work}/**/*.ckpt"


def test_a_measure_that_is_worked_out_is_called_as_it_is_printed():
    """What has no name in the script has one in the line."""
    script = "print(f'Epoch {epoch} train_loss={total / 5:.5f} took={end - begin} at {lr}')"
    found = proposed(script)
    assert found.progress is not None
    match = re.search(found.progress["pattern"], "Epoch 3 train_loss=0.5 took=1m 2s at 1e-3")
    assert match
    assert match.groupdict() == {"epoch": "3", "train_loss": "0.5", "lr": "1e-3"}
    assert found.progress["score"] == "train_loss"


def test_an_epoch_that_is_printed_as_it_begins_has_time_to_end():
    """Keras prints the last epoch before it learns."""
    found = proposed("import keras", asked=Asked(target=("epochs", 20)))
    assert settings(found)["options"]["finish_s"] == 3600
    assert "finish_s" not in settings(proposed("import keras"))["options"]


def test_the_options_of_the_hugging_face_parser_are_known():
    """They stand in no script."""
    found = proposed("from transformers import HfArgumentParser, TrainingArguments")
    assert found.command[2:] == ("--output_dir", "{work}")
    assert found.resume == ("--resume_from_checkpoint", "{checkpoint}")
    assert found.checkpoints == "{work}/checkpoint-*"


def test_a_flag_that_resumes_takes_no_path():
    """The program finds it itself."""
    script = 'parser.add_argument("--resume", action="store_true")\ntorch.save(x, "model.pt")'
    found = proposed(script)
    assert (found.resume, found.checkpoints) == (("--resume",), "model.pt")
    flag = 'p.add_argument("--resume", action=argparse.BooleanOptionalAction)'
    assert learn(flag).flags == {"--resume"}
    assert learn('@click.option("--ckpt", is_flag=True)\ndef f(): ...').flags == {"--ckpt"}


def test_a_script_that_reports_needs_no_words():
    """It asks where its checkpoint is, and tells its steps."""
    found = proposed('import supervised\nopen(f"ckpt-{step}.json", "w")')
    assert (found.progress, found.resume, found.checkpoints) == ({}, (), "ckpt-*.json")
    assert found.remarks == ()
    assert settings(found)["options"]["progress"] == {}
    assert proposed("", asked=Asked(reporting=True)).progress == {}


def test_what_is_not_known_is_said_and_stands_there_as_a_comment():
    """The settings are well without it."""
    found = proposed("print('hello')", requirements=True)
    assert settings(found).keys() == {"trainer", "options"}
    assert settings(found)["options"] == {
        "command": ["python3", "{home}/train.py"],
        "cwd": "{home}",
    }
    assert [remark.partition(":")[0].partition(" ")[0] for remark in found.remarks] == [
        "say",
        "requirements.txt",
        "say",
    ]
    for example in ("# target = ", "# checkpoints = ", "# resume = ", "# progress = "):
        (line,) = [one for one in written(found).splitlines() if one.startswith(example)]
        tomllib.loads(line.removeprefix("# "))


def test_a_target_that_no_known_line_tells_is_looked_for_in_general():
    """And it is said that somebody should see whether it is there."""
    found = proposed("", asked=Asked(target=("epochs", 9)))
    assert found.progress is not None
    match = re.search(found.progress["pattern"], "[Epoch:  7] loss")
    assert match
    assert match["epoch"] == "7"
    assert "epoch 3" in found.remarks[0]
    assert proposed("", asked=Asked(target=("seconds", 9))).progress is None


def test_what_is_asked_goes_before_what_is_guessed():
    """Each of it."""
    asked = Asked(
        name="other",
        command=("python3", "train.py", "-o", "{work}"),
        checkpoints="x-*",
        resume=("-r", "{checkpoint}"),
        target=("epochs", 7),
    )
    found = proposed(LOOP, asked=asked)
    assert found[:5] == (
        "other",
        asked.command,
        asked.resume,
        "x-*",
        ("epochs", 7),
    )
    nothing = proposed(LOOP, asked=Asked(checkpoints="", resume=()))
    assert (nothing.checkpoints, nothing.resume) == ("", ())


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ([File("a.py"), File("main.py"), File("train.py")], ("python3", "{home}/train.py")),
        ([File("helpers.py"), File("train_net.py")], ("python3", "{home}/train_net.py")),
        ([File("a.py"), File("b.py", "'__main__'")], ("python3", "{home}/b.py")),
        ([File("a.py", "", False, 1), File("b.py", "", False, 2)], ("python3", "{home}/b.py")),
        ([File("run.sh", "#!/bin/bash\n")], ("bash", "{home}/run.sh")),
        ([File("run.sh", "exec x")], ("sh", "{home}/run.sh")),
        ([File("run.sh", "#!/bin/sh", executable=True)], ("{home}/run.sh",)),
        ([File("learn", "\x7fELF", executable=True)], ("{home}/learn",)),
        ([File("{x}.py")], ("python3", "{home}/{{x}}.py")),
    ],
)  # fmt: skip
def test_the_likeliest_program_is_chosen(files, command):
    """By its name, then by what it is, then the newest."""
    found = propose(Facts("x", tuple(files)), Asked())
    assert found is not None
    assert found.command == command


def test_nothing_is_chosen_where_nothing_is_a_program():
    """Neither set-up nor tests nor our own module are."""
    names = ("setup.py", "conftest.py", "test_x.py", "x_test.py", "supervised.py", "notes")
    facts = Facts("x", tuple(map(File, names)))
    assert likely(facts) is None
    assert propose(facts, Asked()) is None
    assert propose(facts, Asked(command=("true",))) is not None


def test_a_virtual_environment_is_used():
    """Its Python has what the script imports."""
    found = proposed(python=".venv/bin/python", requirements=True)
    assert found.command == ("{home}/.venv/bin/python", "{home}/train.py")
    assert not [remark for remark in found.remarks if "requirements" in remark]


@pytest.mark.parametrize(
    "folder", ["", "...", "-", "\N{GREEK SMALL LETTER BETA}", "a" * 99, "my net", "x/y"]
)
def test_any_folder_gives_a_name(folder):
    """One that a run can have."""
    name = proposed(folder=folder).name
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name)


@pytest.mark.parametrize(
    "text", ["def", "\0", "(" * 5000, "x = '\\d'", "f'{x}{'", "\ufeffx", "print(f'{1:{2}}')"]
)
def test_what_is_no_script_teaches_nothing(text):
    """And ends nothing."""
    assert learn(text)[:2] == ({}, frozenset())


@pytest.mark.parametrize(
    ("code", "pattern"),
    [
        ('torch.save(x, f"{out}/a/net_{step}.pth")', "*/a/net_*.pth"),
        ('torch.save(x, path / f"net [{a}{b}].pt")', None),
        ('open(f"ckpt[{n}].bin", "w")', "ckpt[[]*].bin"),
        ('np.savez(f"w{{{n}}}.npz", w)', "w{{*}}.npz"),
        ('json.dump(x, open("state.json", "w"))', None),
        ('print(f"saved model to {path}.pt now")', None),
        ('torch.load("pretrained.pt")', None),
        ('f"{name}.pt"', "*.pt"),
    ],
)
def test_what_it_saves_is_read_from_the_names(code, pattern):
    """Values become stars; what else means something in a pattern means itself."""
    assert learn(code).saves == pattern


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS)
def test_any_text_is_quoted(text):
    """Quotes, backslashes, blanks, control characters, any script."""
    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}
    assert "\n" not in quoted(text)


@given(st.lists(TEXTS, min_size=1), st.lists(TEXTS), TEXTS, TEXTS, TEXTS.filter(bool))
def test_any_words_and_patterns_come_back_from_the_file(command, resume, saves, pattern, folder):
    """Whatever a path may hold."""
    facts = Facts(folder, (File(folder, executable=True),))
    asked = Asked(command=tuple(command), checkpoints=saves, resume=tuple(resume))
    found = propose(facts, asked)
    assert found is not None
    table = settings(found._replace(progress={"pattern": pattern}))
    options = table["options"]
    assert options["command"] == command
    assert options.get("resume", []) == resume
    assert options.get("checkpoints", "") == saves
    assert table["options"]["progress"] == {"pattern": pattern}


@given(st.lists(TEXTS, min_size=1), st.sampled_from(SUFFIXES))
def test_any_string_of_a_script_gives_a_pattern_or_none(parts, suffix):
    """That is a pattern of names indeed, and stands in a file."""
    code = "save(f" + repr("{x}".join(parts).replace("{", "{{").replace("}", "}}") + suffix) + ")"
    found = learn(code).saves
    assert found is None or tomllib.loads(f"x = {quoted(found)}") == {"x": found}


def test_targets_and_words_are_read():
    """In two forms; all else is refused."""
    assert as_target("epochs=50") == as_target(" 50 epochs ") == ("epochs", 50)
    assert as_target("steps = 5_000_000") == ("steps", 5_000_000)
    for wrong in ("", "50", "epochs", "epochs=0", "epochs=-1", "epochs=_", "a b=3", f"x={10**30}"):
        with pytest.raises(ValueError, match="epochs=50"):
            as_target(wrong)
    assert as_words("python3 'my train.py' --x") == ("python3", "my train.py", "--x")

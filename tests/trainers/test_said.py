"""What a trainer says is checked when it says it, and costs no run in silence."""

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from trainer_lives import PATIENCE_S, names_in, strict_json

from trainers import said
from trainers.checkpoint import Checkpoints
from trainers.contract import (
    EXIT_AGAIN,
    EXIT_BAD_SPEC,
    EXIT_DONE,
    HEARTBEAT_MAX_BYTES,
    NOTICES_MAX,
    BadSpec,
    Failure,
    Heartbeat,
)

ODD_TRAINERS = Path(__file__).with_name("odd_trainers.py")


@pytest.fixture
def live(make_run):
    """Lives one life of one of the odd trainers: its folder, exit code, output and last words."""

    def live_(name, run=None):
        run = run or make_run(target_steps=1000)
        ended = subprocess.run(
            [sys.executable, ODD_TRAINERS, name, run],
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            text=True,
            errors="replace",
        )
        strict_json((run / "heartbeat.json").read_bytes())
        beat = msgspec.json.decode((run / "heartbeat.json").read_bytes(), type=Heartbeat)
        return run, ended.returncode, ended.stdout + ended.stderr, beat

    return live_


@pytest.mark.parametrize(
    "value",
    [7, 7.0, np.int64(7), np.uint8(7), np.float32(7), np.array(7), torch.tensor(7), Decimal(7)],
)
def test_a_whole_number_of_any_library_is_one(value):
    """Sums over arrays are numbers, too."""
    count = said.count("step", value)
    assert (count, type(count)) == (7, int)


@pytest.mark.parametrize(
    "value",
    [
        *(True, np.bool_(True), torch.tensor(True)),
        *("7", b"7", None, 7.5, -1, [7], 7j, np.array([7, 8])),
        *(float("nan"), float("inf"), 10**18, 10**5000, -(10**5000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_count_is_refused_in_one_short_line(value):
    """The line names the argument and shows what was said."""
    with pytest.raises(said.Misused, match=r"\Aprogress: step must be a whole number") as refusal:
        said.count("progress: step", value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


def test_a_count_never_goes_back():
    """A trainer that begins again at 0 after a resume would lose every checkpoint to come."""
    assert said.count("step", 5, least=5) == 5
    with pytest.raises(said.Misused, match="no less than 6"):
        said.count("step", 5, least=6)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, 2),
        (np.float16(2.5), 2.5),
        (torch.tensor([2.5]), 2.5),
        (10**30, 1e30),
        (float("nan"), None),
        (np.float32("inf"), None),
        (10**400, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_measure_is_finite_or_unknown(value, number):
    """What is not finite is no number in JSON; the rest keeps its value."""
    assert said.measure("loss", value) == number


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"loss": "0.5"}, r"values\['loss'\] must be a number"),
        ({"loss": True}, "must be a number"),
        ({"loss": [1.0]}, "must be a number"),
        ({"step": 5}, "every line has this one"),
        ({"": 1}, "a name in values"),
        ({5: 1}, "a name in values"),
        ({"a\nb": 1}, "a name in values"),
        ({"\ud800": 1}, "a name in values"),
        ({"x" * 201: 1}, "a name in values"),
        ([1.0], "a mapping"),
        (dict.fromkeys(map(str, range(1001)), 1), "at most 1000"),
    ],
)
def test_metrics_that_no_reader_could_use_are_refused(values, named):
    """Before they are in the file."""
    with pytest.raises(said.Misused, match=named):
        said.metrics("values", values, ["step"])


GOOD_NAMES = [
    *(
        "my model.pt",
        ".metadata",
        "__0_0.distcp",
        "model(1).pt",
        "größe",
        "x" * 255,
        "-r",
        "~",
        "a\\b",
    ),
    *("a:b", "*", "x" * 40 + ".new", "\N{SNOWMAN}" * 85),
]
BAD_NAMES = [
    *("", ".", "..", "../x", "/x", "a/b", "a\0b", "a\nb", "\x1b[2J", "\x9b", "\ud800", "x" * 256),
    *("\N{SNOWMAN}" * 86, 5, None, b"a"),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_what_was_saved_under_nearly_any_name_is_found_again(tmp_path, make_manifest, name):
    """Names with spaces, dots and brackets are what other libraries write."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(make_manifest(1), said.files("files", [(name, b"weights")]))
    found = checkpoints.newest()
    assert not found.passed_over
    assert (found.checkpoint.path / name).read_bytes() == b"weights"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_file_can_have_is_refused_when_it_is_said(name):
    """One line names it."""
    with pytest.raises(said.Misused, match="a name in save: files must be") as refusal:
        list(said.files("save: files", [(name, b"x")]))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "given", [5, None, ["ab"], [("a",)], [("a", b"x", 1)], [("a", "text")], {"a": None}, [("a", 5)]]
)
def test_files_are_names_and_bytes(given):
    """Text, for instance, would be written in a way that nobody has chosen."""
    with pytest.raises(said.Misused):
        list(said.files("save: files", given))


def test_bytes_of_any_library_are_bytes():
    """Arrays and views are written as they lie in memory."""
    given = {"a": np.zeros(3), "b": bytearray(b"x"), "c": memoryview(b"yz")}
    assert [(name, len(view)) for name, view in said.files("f", given)] == [
        ("a", 24),
        ("b", 1),
        ("c", 2),
    ]


@pytest.mark.parametrize("trainer", ["counts_with_numpy", "is_done", "leaves_by_exit"])
def test_a_trainer_that_ends_well_is_done(live, trainer):
    """By its target, or by its own word; then its checkpoint is found again."""
    run, code, _, beat = live(trainer)
    assert (code, beat.status) == (EXIT_DONE, "done")
    assert Checkpoints(run / "checkpoints").newest().checkpoint.manifest.step == beat.step


def test_numbers_of_a_library_stand_in_the_files_as_plain_ones(live):
    """Whoever reads them needs no such library."""
    run, _, _, beat = live("counts_with_numpy")
    assert (beat.step, beat.episodes, beat.loss, beat.score.value) == (1000, 3, 0.5, 2)
    line = strict_json((run / "metrics.jsonl").read_bytes().splitlines()[-1])
    assert (line["step"], line["x"], line["n"]) == (1000, 1.5, 4)


def test_an_early_return_is_told_as_one(live):
    """Nobody had asked for it, and the run is not done."""
    _, code, output, beat = live("returns_early")
    assert (code, beat.status, beat.returned_at) == (EXIT_AGAIN, "stopped", 10)
    assert "returned before its target, at step 10" in output


def test_a_target_without_a_checkpoint_is_told_as_that(live):
    """No disk has failed: the trainer never saved."""
    _, code, _, beat = live("saves_nothing")
    assert (code, beat.status) == (EXIT_AGAIN, "failed")
    assert "must save before it returns" in beat.error


@pytest.mark.parametrize(
    ("trainer", "argument"),
    [
        ("goes_back", "progress: step"),
        ("names_a_path", "a name in save: files"),
        ("names_a_path_beside", "a name in save: files"),
    ],
)
def test_what_cannot_be_used_ends_the_first_attempt(live, trainer, argument):
    """One line names the argument, and a person must mend the trainer: no loop follows."""
    run, code, output, beat = live(trainer)
    assert (code, beat.status) == (EXIT_BAD_SPEC, "failed")
    assert beat.error.startswith(argument)
    assert beat.error in output
    assert beat.failure == Failure(kind="ConfigValidationError", reason=beat.error)
    assert not [name for name in names_in(run.parent) if name == "outside"]


@pytest.mark.parametrize(
    ("trainer", "told"),
    [
        ("dies_unspeakably", "Unspeakable: a Unspeakable that cannot be told"),
        ("dies_with_broken_letters", "ValueError: ? [2J long long"),
        ("dies_of_a_full_disk", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_last_words_never_fail_for_what_they_tell(live, trainer, told):
    """They are short, on one line, and there."""
    _, code, _, beat = live(trainer)
    assert (code, beat.status) == (EXIT_AGAIN, "failed")
    assert beat.error.startswith(told)
    assert beat.error.isprintable()
    assert len(beat.error) <= said.TEXT_MAX_CHARS
    assert beat.of_the_machine == (trainer == "dies_of_a_full_disk")


def test_the_kind_of_an_error_never_fails_for_what_that_tells():
    """It is known of what can never work alone, in words that fit; of anybody's class, too."""

    class Long(BadSpec):
        failure = Failure(kind="Long", reason="x" * 9000, field="a\nb")

    class Broken(BadSpec):
        @property
        def failure(self):
            raise ValueError

    told = said.failure(Long())
    assert (told.kind, len(told.reason), told.field) == ("Long", said.TEXT_MAX_CHARS, "a b")
    assert said.failure(Broken()) is None
    assert said.failure(ValueError("a number")) is None


def test_a_forked_child_never_speaks_for_the_trainer(live):
    """One that comes back from where it was forked ends there; the last words are the trainer's."""
    _, code, _, beat = live("forks_a_child_that_returns")
    assert (code, beat.status, beat.step) == (EXIT_DONE, "done", 5)


def test_what_a_trainer_forks_ends_of_signals_as_other_processes_do(live):
    """Pools can be ended; the trainer itself heeds its signals as before."""
    _, code, output, _ = live("forks")
    assert code == EXIT_DONE, output
    told = [line.partition(" ")[2] for line in output.splitlines() if line.startswith("CHILD")]
    assert len(told) == 2
    default = str(signal.SIG_DFL)
    for child in told:
        assert child.count(repr(default)) == 3
        caught = int(child.rpartition("\\t")[2].split("'")[0], 16)
        # Above 31 are those of the C library; this one every process of Python catches.
        assert caught % 2**31 == 1 << (signal.SIGINT - 1)
    assert f"ENDED {-signal.SIGTERM}" in output
    assert "OURS ['<trainers.session.Stop" in output


def test_a_signal_that_comes_during_a_fork_ends_the_child(live):
    """It waits until the child heeds nothing of the trainer's, which would only remember it."""
    _, code, output, _ = live("ends_its_children_at_once")
    assert code == EXIT_DONE, output
    assert f"ENDS {{{-signal.SIGTERM}}}" in output


def test_no_words_make_a_heartbeat_unreadable(open_session):
    """Twenty notices of the longest kind, and the longest names, fit into it."""
    session = open_session()
    for number in range(NOTICES_MAX + 5):
        session.notice(f"{number} " + '"\N{GRINNING FACE}\\\x00\ud800' * 4000)
    session.fail('"\N{GRINNING FACE}' * 4000)
    content = session.folder.heartbeat.read_bytes()
    assert len(content) < HEARTBEAT_MAX_BYTES
    beat = msgspec.json.decode(content, type=Heartbeat)
    assert len(beat.notices) == NOTICES_MAX
    assert beat.notices_before == 5
    assert beat.notices[0].startswith("5 ")

"""Answers to wishes: found by the wish's id, bounded, and never written twice."""

import os

import msgspec
import pytest

from state.answers import KEPT, KEPT_S, Answer, Answers
from state.inbox import Inbox, Trouble

NOW = 1_800_000_000.0


def an_answer(wish="wish-1", **fields):
    return Answer(**{"wish": wish, "refused": False, "reason": "well", **fields})


@pytest.fixture
def answers(tmp_path):
    return Answers(tmp_path / "answers")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_answer_is_found_by_the_id_of_its_wish(answers):
    """Each reads its own, and who asked nothing finds nothing."""
    assert answers.read("wish-1") is None
    for wish in ("wish-1", "wish-2"):
        answers.put(an_answer(wish, reason=f"for {wish}"))
    assert answers.read("wish-2") == an_answer("wish-2", reason="for wish-2")
    assert answers.read("wish-3") is None


def test_the_first_answer_stays(answers):
    """A line that is delivered once more after a power cut changes no answer."""
    answers.put(an_answer(reason="first"))
    answers.put(an_answer(reason="second"))
    assert answers.read("wish-1").reason == "first"


@pytest.mark.parametrize("wish", ["", "../state", "a/b", ".hidden", "x" * 65, "n\n", "\0"])
def test_an_id_that_is_no_name_leads_nowhere(answers, tmp_path, wish):
    """It is neither written nor read, whatever lies there."""
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(an_answer(wish)))
    answers.put(an_answer(wish))
    assert answers.read(wish) is None
    assert names(tmp_path) == ["state.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b"\xff", b" " * 70_000])
def test_a_damaged_answer_is_none(answers, tmp_path, content):
    """Nor is that to another wish."""
    answers.put(an_answer())
    path = tmp_path / "answers/wish-1.json"
    path.write_bytes(content)
    assert answers.read("wish-1") is None
    path.write_bytes(msgspec.json.encode(an_answer("wish-2")))
    assert answers.read("wish-1") is None


def test_old_answers_are_forgotten_and_others_are_not_touched(answers, tmp_path):
    """As many stay as are kept, for as long; what is no answer is somebody else's."""
    answers.prune(NOW)
    answers.put(an_answer())
    folder = tmp_path / "answers"
    (folder / "wish-1.json").unlink()
    for number in range(KEPT + 20):
        path = folder / f"{number:05d}.json"
        path.write_bytes(b"{}")
        os.utime(path, (0, NOW + number - 2 * KEPT))
    for other in ("notes.txt", ".hidden.json"):
        (folder / other).write_bytes(b"")
        os.utime(folder / other, (0, 0))
    answers.prune(NOW)
    assert len(names(folder)) == KEPT + 2
    assert not (folder / "00019.json").exists()
    answers.prune(NOW + KEPT_S)
    assert names(folder) == [".hidden.json", "notes.txt"]


@pytest.mark.parametrize(
    ("name", "content", "wish"),
    [
        ("wish-7.json", b"nonsense", "wish-7"),
        ("wish-7.json", b'{"id":"wish-7","kind":"fly","by":"ada","asked_at":1}', "wish-7"),
        ("wish-7.json", b'{"id":"wish-8","kind":"pause","by":"ada","asked_at":1}', "wish-7"),
        ("two words.json", b"{}", None),
        ("wish-7", b"{}", None),
    ],
)
def test_what_is_no_wish_says_who_waits_for_an_answer(tmp_path, name, content, wish):
    """Damaged, of a newer version, or under a wrong name: the file's name is the id."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / name).write_bytes(content)
    wishes, (trouble,) = Inbox(folder).pending()
    assert wishes == ()
    assert isinstance(trouble, Trouble)
    assert trouble.wish == wish

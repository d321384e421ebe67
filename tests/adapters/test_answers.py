"""Answers to requests: found by the request's id, bounded, and never written twice."""

import os

import msgspec
import pytest

from state.answers import KEPT, KEPT_S, Answer, Answers
from state.inbox import Inbox, Trouble

NOW = 1_800_000_000.0


def an_answer(request="request-1", **fields):
    return Answer(**{"request": request, "refused": False, "reason": "well", **fields})


@pytest.fixture
def answers(tmp_path):
    return Answers(tmp_path / "answers")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_answer_is_found_by_the_id_of_its_request(answers):
    """Each reads its own, and who asked nothing finds nothing."""
    assert answers.read("request-1") is None
    for request in ("request-1", "request-2"):
        answers.put(an_answer(request, reason=f"for {request}"))
    assert answers.read("request-2") == an_answer("request-2", reason="for request-2")
    assert answers.read("request-3") is None


def test_the_first_answer_stays(answers):
    """A line that is delivered once more after a power cut changes no answer."""
    answers.put(an_answer(reason="first"))
    answers.put(an_answer(reason="second"))
    assert answers.read("request-1").reason == "first"


@pytest.mark.parametrize("named", ["", "../state", "a/b", ".hidden", "x" * 65, "n\n", "\0"])
def test_an_id_that_is_no_name_leads_nowhere(answers, tmp_path, named):
    """It is neither written nor read, whatever lies there."""
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(an_answer(named)))
    answers.put(an_answer(named))
    assert answers.read(named) is None
    assert names(tmp_path) == ["state.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b"\xff", b" " * 70_000])
def test_a_damaged_answer_is_none(answers, tmp_path, content):
    """Nor is that to another request."""
    answers.put(an_answer())
    path = tmp_path / "answers/request-1.json"
    path.write_bytes(content)
    assert answers.read("request-1") is None
    path.write_bytes(msgspec.json.encode(an_answer("request-2")))
    assert answers.read("request-1") is None


def test_old_answers_are_forgotten_and_others_are_not_touched(answers, tmp_path):
    """As many stay as are kept, for as long; what is no answer is somebody else's."""
    answers.prune(NOW)
    answers.put(an_answer())
    folder = tmp_path / "answers"
    (folder / "request-1.json").unlink()
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
    ("name", "content", "named"),
    [
        ("request-7.json", b"nonsense", "request-7"),
        ("request-7.json", b'{"id":"request-7","kind":"fly","by":"ada","asked_at":1}', "request-7"),
        (
            "request-7.json",
            b'{"id":"request-8","kind":"pause","by":"ada","asked_at":1}',
            "request-7",
        ),
        ("two words.json", b"{}", None),
        ("request-7", b"{}", None),
    ],
)
def test_what_is_no_request_says_who_waits_for_an_answer(tmp_path, name, content, named):
    """Damaged, of a newer version, or under a wrong name: the file's name is the id."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / name).write_bytes(content)
    requests, (trouble,) = Inbox(folder).pending()
    assert requests == ()
    assert isinstance(trouble, Trouble)
    assert trouble.request == named

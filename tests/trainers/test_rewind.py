"""A run goes back, or it does not; whatever is left behind is whole, and found."""

import errno
import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_lives import names_in, write_spec

from trainers import rewind
from trainers.checkpoint import Checkpoints, Manifest, Name, verify
from trainers.contract import START, NewerFile, Rewind, RunFolder, Score, Spec
from trainers.history import CannotGoBack, listed, way_back
from trainers.rewind import MARK, ahead, go_back
from trainers.session import Session


@pytest.fixture
def run(tmp_path):
    """The folder of a run with checkpoints at 100, 200 and 300, of which the second is the best."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_spec(folder)
    for step, score in ((100, 1), (200, 9), (300, 4)):
        save(Checkpoints(folder / "checkpoints"), step, score=score)
    return folder


@pytest.fixture
def checkpoints(run):
    return Checkpoints(run / "checkpoints")


def save(checkpoints, step, *, score=None, content=b"weights"):
    manifest = Manifest(
        run="run",
        trainer="drill",
        mode="light",
        step=step,
        episodes=0,
        score=None if score is None else Score(name="return_mean", value=float(score)),
        saved_at=float(step),
    )
    return checkpoints.save(manifest, [("a.bin", content)])


ids = map(str, count())


def to(name):
    return Rewind(id=next(ids), checkpoint=name)


def folders(checkpoints):
    return [name for name in names_in(checkpoints.folder) if name != MARK]


def newest(checkpoints):
    found = checkpoints.newest().checkpoint
    return None if found is None else found.manifest.step


def test_what_is_later_lies_beside(checkpoints):
    """And comes back by its step, whole."""
    came = go_back(checkpoints, to("100"))
    assert folders(checkpoints) == ["100", "beside-200", "beside-300"]
    assert (came.moved, came.to_start) == (True, False)
    assert came.told == (
        "it goes on from checkpoint 100, as a person asked; kept beside: beside-200, beside-300"
    )
    go_back(checkpoints, to("beside-300"))
    assert folders(checkpoints) == ["100", "300", "beside-200"]
    assert verify(checkpoints.folder / "300")


def test_the_beginning_is_a_place_to_go_back_to(checkpoints):
    """All lie beside; a run that begins anew knows it until it has saved."""
    came = go_back(checkpoints, to(START))
    assert newest(checkpoints) is None
    assert came.to_start
    assert go_back(checkpoints, None) == (None, False, True)
    go_back(checkpoints, to("beside-100"))
    assert go_back(checkpoints, None) == (None, False, False)


@pytest.mark.parametrize("name", ["300", "200", START, "999"])
def test_it_is_known_before_where_an_attempt_will_begin(checkpoints, name):
    """With what is asked and not done yet; whoever looks changes nothing."""
    asked = to(name)
    found, there = ahead(checkpoints, asked), folders(checkpoints)
    assert folders(checkpoints) == there
    go_back(checkpoints, asked)
    assert (found.manifest.step if found else None) == newest(checkpoints)
    save(checkpoints, 400)
    assert ahead(checkpoints, asked).manifest.step == 400


def test_what_is_asked_is_done_once(checkpoints):
    """However often the spec is read, and whatever was asked in between."""
    first, second = to("100"), to("beside-200")
    for asked in (first, second, first):
        go_back(checkpoints, asked)
    assert newest(checkpoints) == 200
    save(checkpoints, 250)
    assert go_back(checkpoints, second).told is None
    assert newest(checkpoints) == 250


def test_two_of_one_step_are_both_kept(checkpoints):
    """The way that was gone twice; the step alone means the one that was left last."""
    go_back(checkpoints, to("100"))
    save(checkpoints, 300, content=b"another")
    go_back(checkpoints, to("100"))
    assert folders(checkpoints) == ["100", "beside-200", "beside-300", "beside-300-2"]
    assert rewind.meant(checkpoints, "300") == "beside-300-2"
    go_back(checkpoints, to("beside-300"))
    assert (checkpoints.folder / "300/a.bin").read_bytes() == b"weights"
    go_back(checkpoints, to("beside-300-2"))
    assert (checkpoints.folder / "300/a.bin").read_bytes() == b"another"
    assert folders(checkpoints) == ["100", "300", "beside-200", "beside-300"]


def test_what_was_withheld_does_not_come_back_by_itself(checkpoints):
    """The supervisor forgets the deaths on the other way; what died there lies beside."""
    checkpoints.withhold([300])
    go_back(checkpoints, to("100"))
    checkpoints.withhold(())
    assert folders(checkpoints) == ["100", "beside-200", "beside-300"]


def test_a_run_can_go_on_from_what_was_withheld(checkpoints):
    """A person knows better, perhaps: a library was mended."""
    checkpoints.withhold([300])
    go_back(checkpoints, to(rewind.meant(checkpoints, "300")))
    assert newest(checkpoints) == 300


def test_what_is_beside_is_never_pruned(checkpoints):
    """It is a person's to delete."""
    go_back(checkpoints, to("100"))
    for step in range(101, 120):
        save(checkpoints, step)
    checkpoints.prune()
    assert {"beside-200", "beside-300"} <= set(folders(checkpoints))


@pytest.mark.parametrize("name", ["150", "beside-200", "withheld-300"])
def test_what_is_gone_meanwhile_changes_nothing(checkpoints, name):
    """It was pruned, or deleted, between the question and the stop; it is told, once."""
    asked = to(name)
    assert "no checkpoint" in go_back(checkpoints, asked).told
    assert folders(checkpoints) == ["100", "200", "300"]
    assert go_back(checkpoints, asked).told is None


def test_a_damaged_one_is_not_gone_back_to(checkpoints):
    """It is told, and nothing lies beside."""
    (checkpoints.folder / "100/a.bin").write_bytes(b"WEIGHTS")
    assert "checksum" in go_back(checkpoints, to("100")).told
    assert newest(checkpoints) == 300


def test_one_of_a_newer_version_is_neither_moved_nor_passed_over(checkpoints):
    """Nothing is, before a person has looked."""
    (checkpoints.folder / "300/manifest.json").write_text('{"version": 9}')
    with pytest.raises(NewerFile):
        go_back(checkpoints, to("100"))
    assert names_in(checkpoints.folder) == ["100", "200", "300"]


def test_a_disk_that_refuses_ends_the_attempt(run, monkeypatch):
    """Training must not go on from elsewhere than was asked; the next attempt goes back."""
    asked = to("100")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as refused:
        refused.setattr(rewind.durable, "write", full)
        with pytest.raises(OSError, match="No space"):
            session_of(run, rewind=asked)
    assert names_in(run / "checkpoints") == ["100", "200", "300"]
    assert session_of(run, rewind=asked).step == 100


def session_of(run, **fields):
    spec = Spec(run="run", trainer="drill", name="run", mode="light", threads=1, **fields)
    return Session(RunFolder(run), spec)


def test_a_session_begins_where_it_was_asked_to(run):
    """Its notice says so, and what lies beside; the next session goes on as ever."""
    asked = to("100")
    session = session_of(run, rewind=asked)
    assert (session.step, session.rewound, session.anew) == (100, True, False)
    assert "kept beside" in session._notices[0]
    session.progress(150)
    session.save({"a.bin": b"x"})
    session.finish()
    session = session_of(run, rewind=asked)
    assert (session.step, session.rewound) == (150, False)
    session = session_of(run, rewind=to(START))
    assert (session.step, session.anew) == (0, True)
    assert session_of(run).anew


def test_a_word_leads_to_a_checkpoint(run):
    """And tells what would lie beside."""
    assert way_back(run, "best").checkpoint == "200"
    assert way_back(run, "newest") == way_back(run, "300")
    assert way_back(run, "100").beside == ("200", "300")
    assert way_back(run, "0").checkpoint == START
    assert way_back(run, "start").beside == ("100", "200", "300")
    for word in ("150", "damaged-1", "", "../100", "latest"):
        with pytest.raises(CannotGoBack, match="there are: 100; 200; 300"):
            way_back(run, word)
    (run / "checkpoints/100/a.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(CannotGoBack, match="checksum"):
        way_back(run, "100")


def test_what_lies_beside_is_listed_with_the_reason(run, checkpoints):
    """It is whole, and neither the newest nor the best."""
    go_back(checkpoints, to("100"))
    *_, one = listed(run, verified=True).checkpoints
    assert (one.checkpoint, one.aside, one.whole, one.best) == ("beside-300", "beside", True, False)
    assert "gone back behind it" in one.reason


class Killed(BaseException):
    """The process is gone between two system calls."""


class Deadly:
    """Ends the process before the n-th thing that is done to the disk."""

    def __init__(self, left, patch):
        def counted(act):
            def done(*arguments, **named):
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return act(*arguments, **named)

            return done

        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "replace", counted(Path.replace))


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("save"), st.integers(1, 3)),
        st.tuples(st.just("withhold"), st.integers(0, 9)),
        st.tuples(st.just("rewind"), st.integers(0, 30), st.integers(0, 6)),
    ),
    max_size=14,
)


@settings(deadline=None, max_examples=150)
@given(acts=ACTS)
def test_whatever_is_saved_is_whole_and_findable_whenever_the_power_fails(acts):
    """Any run of saves, withholdings, rewinds and kills: nothing is lost, nothing is half done."""
    contents = map(str, count())
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        checkpoints = Checkpoints(Path(place) / "checkpoints")
        saved: set[str] = set()
        for kind, number, *kill in acts:
            if kind == "save":
                step = (newest(checkpoints) or 0) + number
                saved.add(content := next(contents))
                save(checkpoints, step, content=content.encode())
            elif kind == "withhold":
                checkpoints.withhold([number])
            else:
                names = [START, *rewind.reachable(checkpoints)]
                asked = to(names[number % len(names)])
                goal = content_of(checkpoints, asked.checkpoint)
                with patch.context() as deadly:
                    Deadly(kill[0], deadly)
                    try:
                        go_back(checkpoints, asked)
                        begun = True
                    except Killed:
                        begun = (checkpoints.folder / MARK).exists() and asked.id in rewind._read(
                            checkpoints.folder / MARK
                        ).done
                if begun:  # and the next attempt need not even be told again
                    go_back(checkpoints, None)
                    assert newest(checkpoints) == (asked.step or None)
                    assert content_of(checkpoints, str(asked.step)) == goal
                    assert not go_back(checkpoints, asked).moved
                else:
                    assert (
                        asked.checkpoint == START
                        or content_of(checkpoints, asked.checkpoint) == goal
                    )
            there = [content_of(checkpoints, name) for name in checkpoints.named()]
            assert sorted(there) == sorted(saved)


def content_of(checkpoints, name):
    """What the one of that name holds, which is whole."""
    path = checkpoints.folder / name
    if Name.of(name) is None or not path.exists():
        return None
    verify(path)
    return (path / "a.bin").read_text()

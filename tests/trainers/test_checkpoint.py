"""Checkpoints are complete or absent, whatever ends the writer."""

import errno
import hashlib
import json
import os
import subprocess

import msgspec
import pytest
from trainer_lives import names_in

from trainers import checkpoint, durable, said
from trainers.checkpoint import KEEP_DAMAGED, Checkpoints, DamagedCheckpoint, Manifest, verify
from trainers.contract import NewerFile, Score
from trainers.durable import UnreadableFile

DAY_S = 86_400


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def save(checkpoints, step, *, score=None, saved_at=0.0, content=b"weights", replace=False):
    manifest = Manifest(
        run="run",
        trainer="drill",
        mode="light",
        step=step,
        episodes=step // 10,
        score=Score(name="return_mean", value=score) if isinstance(score, float) else score,
        saved_at=saved_at,
    )
    return checkpoints.save(manifest, [("a.bin", content), ("b.bin", b"")], replace=replace)


def steps(checkpoints):
    return sorted(int(name) for name in names_in(checkpoints.folder) if name.isdigit())


def test_what_was_saved_is_found(checkpoints):
    """The newest checkpoint is the one with the highest step, not the one written last."""
    save(checkpoints, 200)
    save(checkpoints, 1000)
    save(checkpoints, 300)
    found = checkpoints.newest()
    assert found.checkpoint.manifest.step == 1000
    assert found.checkpoint.manifest.episodes == 100
    assert (found.checkpoint.path / "a.bin").read_bytes() == b"weights"
    assert not found.passed_over


def test_another_of_the_same_step_takes_its_place_if_asked_to(checkpoints, monkeypatch):
    """At once, so that there is always one; where the system cannot do that, the first stays."""
    save(checkpoints, 1, content=b"first")
    save(checkpoints, 1, content=b"again")
    assert (checkpoints.folder / "1" / "a.bin").read_bytes() == b"first"
    save(checkpoints, 1, content=b"more", replace=True)
    assert (checkpoints.newest().checkpoint.path / "a.bin").read_bytes() == b"more"
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    held = save(checkpoints, 1, content=b"most", replace=True)
    assert verify(held.path) == held
    assert (checkpoints.folder / "1" / "a.bin").read_bytes() == b"more"
    monkeypatch.setattr(durable, "exchange", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(checkpoints, 1, content=b"most", replace=True)
    assert names_in(checkpoints.folder) == ["1"]
    assert (checkpoints.newest().checkpoint.path / "a.bin").read_bytes() == b"more"


def test_a_file_is_moved_into_a_checkpoint(checkpoints, tmp_path):
    """Whatever its size, with its checksum, and never a link."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(2**26)
    manifest = Manifest(run="run", trainer="drill", mode="light", step=1, episodes=0, saved_at=0.0)
    held = checkpoints.save(manifest, [("a.bin", large), ("b.bin", b"x")])
    assert not large.exists()
    assert held.manifest.files["a.bin"].size_bytes == 2**26
    assert verify(held.path) == held
    link = tmp_path / "link"
    link.symlink_to(held.path / "a.bin")
    with pytest.raises(UnreadableFile):
        checkpoints.save(msgspec.structs.replace(manifest, step=2), [("a.bin", link)])
    assert names_in(checkpoints.folder) == ["1"]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_empty_run_has_none(checkpoints):
    """A run that never saved has no checkpoint, and looking creates nothing."""
    assert checkpoints.newest().checkpoint is None
    assert checkpoints.best().checkpoint is None
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize("name", ["a.bin", "manifest.json"])
def test_any_truncation_is_noticed(checkpoints, name):
    """Cut off at any byte, a checkpoint is passed over for the one before, with the reason."""
    save(checkpoints, 1)
    path = save(checkpoints, 2).path / name
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        found = checkpoints.newest()
        assert found.checkpoint.manifest.step == 1
        assert [damaged.path.name for damaged in found.passed_over] == ["2"]
        assert name in found.passed_over[0].reason
    path.write_bytes(whole)
    assert checkpoints.newest().checkpoint.manifest.step == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "a.bin").write_bytes(b"weighty"),
        lambda path: (path / "a.bin").unlink(),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_bytes(b"\0" * 300),
        lambda path: (path / "manifest.json").write_bytes(b"[" * 100_000),
        lambda path: (path / "manifest.json").write_bytes(b"[]"),
        lambda path: path.rename(path.with_name("3")),
    ],
)
def test_damage_is_passed_over(checkpoints, damage):
    """Changed bytes, lost files, NULs, nonsense and a wrong name are all damage."""
    save(checkpoints, 1)
    damage(save(checkpoints, 2).path)
    found = checkpoints.newest()
    assert found.checkpoint.manifest.step == 1
    assert len(found.passed_over) == 1


def test_a_damaged_checkpoint_is_set_aside_and_replaced(checkpoints):
    """Saving the step of a damaged checkpoint again keeps the damaged one for a person."""
    path = save(checkpoints, 7).path
    (path / "a.bin").write_bytes(b"torn")
    assert save(checkpoints, 7).path == path
    assert verify(path)
    assert (checkpoints.folder / "damaged-7" / "a.bin").read_bytes() == b"torn"


def test_a_good_checkpoint_is_never_overwritten(checkpoints):
    """Saving a step that is already safe changes nothing."""
    save(checkpoints, 7, content=b"first")
    again = save(checkpoints, 7, content=b"second")
    assert (again.path / "a.bin").read_bytes() == b"first"


def fail_to_open(monkeypatch, number):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable, "open_regular", fail)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_machine_at_its_limits_says_nothing_of_checkpoints(checkpoints, monkeypatch, number):
    """Where no file can be opened now, none is taken for damaged: the run waits, and loses none."""
    save(checkpoints, 1)
    with monkeypatch.context() as limits:
        fail_to_open(limits, number)
        with pytest.raises(OSError, match=os.strerror(number)):
            checkpoints.newest()
        with pytest.raises(OSError, match=os.strerror(number)):
            save(checkpoints, 1)
    assert checkpoints.newest().checkpoint.manifest.step == 1
    assert names_in(checkpoints.folder) == ["1"]


def test_a_file_that_the_disk_cannot_read_is_damage(checkpoints, monkeypatch):
    """A bad sector makes a checkpoint useless, for good."""
    save(checkpoints, 1)
    fail_to_open(monkeypatch, errno.EIO)
    assert [damaged.path.name for damaged in checkpoints.newest().passed_over] == ["1"]


def test_damaged_ones_do_not_pile_up(checkpoints):
    """A disk that damages everything does not fill itself with the remains."""
    for step in range(1, 10):
        (save(checkpoints, step).path / "a.bin").write_bytes(b"")
    for damaged in checkpoints.newest().passed_over:
        checkpoints.set_aside(damaged)
    checkpoints.prune()
    assert len(names_in(checkpoints.folder)) == KEEP_DAMAGED


def test_of_a_run_that_is_over_the_newest_and_the_best_stay(checkpoints):
    """Whole ones, and what a person has gone back behind; a kill has left nothing half."""
    for step, score in ((1, 1.0), (2, 9.0), (3, 99.0), (4, 2.0), (5, 3.0), (6, 4.0)):
        save(checkpoints, step, score=score)
    for name, other in (("1", "beside-1"), ("4", "withheld-4")):
        (checkpoints.folder / name).rename(checkpoints.folder / other)
    for step in ("3", "6"):
        (checkpoints.folder / step / "a.bin").write_bytes(b"bent")
    (checkpoints.folder / ".7.1.new").mkdir()
    checkpoints.thin()
    assert sorted(names_in(checkpoints.folder)) == ["2", "5", "beside-1"]


def test_where_no_checkpoint_is_whole_none_goes(checkpoints):
    """A person may still look at them."""
    (save(checkpoints, 1).path / "a.bin").write_bytes(b"bent")
    checkpoints.thin()
    assert steps(checkpoints) == [1]


def test_pruning_keeps_newest_best_and_one_a_day(checkpoints):
    """Kept: the last three, the one of the best score, and the newest of each UTC day."""
    for step, (day, score) in enumerate(
        [(1, 1.0), (1, 2.0), (2, 99.0), (2, 3.0), (3, None), (3, 4.0), (3, 5.0), (3, 6.0)], start=1
    ):
        save(checkpoints, step, score=score, saved_at=day * DAY_S + step)
    checkpoints.prune()
    assert steps(checkpoints) == [2, 3, 4, 6, 7, 8]
    assert checkpoints.best().checkpoint.manifest.step == 3


def test_best_falls_to_the_next_best(checkpoints):
    """A damaged best checkpoint gives way to the second best; unknown returns come last."""
    save(checkpoints, 1, score=5.0)
    (save(checkpoints, 2, score=9.0).path / "a.bin").write_bytes(b"")
    save(checkpoints, 3)
    found = checkpoints.best()
    assert found.checkpoint.manifest.step == 1
    assert [damaged.path.name for damaged in found.passed_over] == ["2"]


def rmse(value):
    return Score(name="rmse", value=value, better="lower")


def test_the_trainer_says_which_way_is_better(checkpoints):
    """The best forecast is that of the smallest error; what is unknown is no error at all."""
    for step, value in enumerate((3.0, 1.0, 2.0, None, 4.0, 5.0, 6.0), start=1):
        save(checkpoints, step, score=rmse(value))
    checkpoints.prune()
    assert checkpoints.best().checkpoint.manifest.step == 2
    assert 2 in steps(checkpoints)


def test_scores_of_another_name_are_no_better(checkpoints):
    """A trainer that measures otherwise now is judged by that: the newest says by what."""
    save(checkpoints, 1, score=99.0)
    save(checkpoints, 2, score=rmse(7.0))
    save(checkpoints, 3, score=rmse(8.0))
    assert checkpoints.best().checkpoint.manifest.step == 2


def test_a_checkpoint_of_the_version_before_is_gone_on_from(checkpoints):
    """It knew the mean return alone, which is a score like any other; its content is checked."""
    for step, mean in ((1, 9.0), (2, 3.0), (3, None)):
        path = save(checkpoints, step).path / "manifest.json"
        fields = json.loads(path.read_bytes()) | {"version": 1, "return_mean": mean}
        del fields["score"]
        path.write_text(json.dumps(fields))
        (path.parent / "manifest.sha256").unlink()
    found = checkpoints.newest().checkpoint
    assert (found.manifest.step, found.manifest.score) == (3, None)
    save(checkpoints, 4, score=5.0)
    best = checkpoints.best().checkpoint.manifest
    assert (best.step, best.score) == (1, Score(name="return_mean", value=9.0))
    (checkpoints.folder / "4" / "a.bin").write_bytes(b"")
    assert checkpoints.newest().checkpoint.manifest.step == 3


def test_a_failing_write_leaves_nothing(checkpoints):
    """An error in mid-write leaves the earlier checkpoint and no trace of the new one."""
    save(checkpoints, 1)

    def failing():
        yield "a.bin", b"weights"
        raise OSError(28, "No space left on device")

    manifest = Manifest(run="run", trainer="t", mode="m", step=2, episodes=0, saved_at=0.0)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(manifest, failing())
    assert names_in(checkpoints.folder) == ["1"]


def test_symlinks_are_not_followed(checkpoints, tmp_path):
    """A link in place of a file, a checkpoint or the whole folder is refused, its target intact."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"weights")
    path = save(checkpoints, 1).path
    (path / "a.bin").unlink()
    (path / "a.bin").symlink_to(outside)
    with pytest.raises((DamagedCheckpoint, OSError)):
        verify(path)
    whole = tmp_path / "whole"
    whole.mkdir()
    (checkpoints.folder / "2").symlink_to(whole)
    (checkpoints.folder / ".3.1.new").symlink_to(whole)
    assert checkpoints.newest().checkpoint is None
    checkpoints.remove_leftovers()
    assert whole.is_dir()
    assert outside.read_bytes() == b"weights"
    (tmp_path / "link").symlink_to(whole)
    with pytest.raises(UnreadableFile):
        Checkpoints(tmp_path / "link")


def test_a_name_cannot_lead_out_of_the_folder(checkpoints):
    """A manifest that names files elsewhere is damaged, wherever they lie."""
    path = save(checkpoints, 1).path
    manifest = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(manifest.replace("a.bin", "../../a.bin"))
    with pytest.raises(DamagedCheckpoint):
        verify(path)


def rewrite(path, **fields):
    """Have the manifest of a checkpoint say something else, as another program may have it."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps({**manifest, **fields}))


def flipped(content):
    """`content` with each of its bits flipped, one after the other."""
    for place in range(8 * len(content)):
        other = bytearray(content)
        other[place // 8] ^= 1 << place % 8
        yield bytes(other)


def test_no_flipped_bit_of_a_manifest_is_believed(checkpoints):
    """Not one changes what is gone on from, or which is best; damage or a newer version it is."""
    path = save(checkpoints, 7, score=2.5).path
    whole = (path / "manifest.json").read_bytes()
    newer = 0
    for damaged in flipped(whole):
        (path / "manifest.json").write_bytes(damaged)
        try:
            verify(path)
        except DamagedCheckpoint:
            continue
        except NewerFile:
            newer += 1
            continue
        pytest.fail(f"{damaged} was believed")
    assert newer <= 3  # what 2 becomes in the version


def test_the_checksum_of_a_manifest_is_one_that_a_person_can_check(checkpoints):
    """Its file is what `sha256sum` writes; a flipped bit in it is damage, too."""
    path = save(checkpoints, 7).path
    subprocess.run(["sha256sum", "--check", "--strict", "manifest.sha256"], cwd=path, check=True)
    for damaged in flipped((path / "manifest.sha256").read_bytes()):
        (path / "manifest.sha256").write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match="checksum"):
            verify(path)


def test_checkpoints_from_before_there_were_checksums_are_gone_on_from(checkpoints):
    """A home may hold them for years."""
    path = save(checkpoints, 7).path
    (path / "manifest.sha256").unlink()
    assert checkpoints.newest().checkpoint.manifest.step == 7


@pytest.mark.parametrize(
    "fields", [{"version": 3}, {"version": 99, "files": []}, {"colour": "red"}]
)
@pytest.mark.parametrize("checksum", ["old", "none", "its own"])
def test_a_checkpoint_of_a_newer_version_is_left_alone(checkpoints, fields, checksum):
    """Neither damaged nor passed over in silence: whoever would go on is told its name."""
    save(checkpoints, 1)
    path = save(checkpoints, 2).path
    rewrite(path, **fields)
    if checksum == "none":
        (path / "manifest.sha256").unlink()
    elif checksum == "its own":
        digest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
        (path / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    before = {name: (path / name).read_bytes() for name in names_in(path)}
    with pytest.raises(NewerFile, match=f"{path} was written by a newer version"):
        checkpoints.newest()
    with pytest.raises(NewerFile):
        save(checkpoints, 2)
    for step in range(3, 9):
        save(checkpoints, step, saved_at=DAY_S)
        checkpoints.prune()
    assert checkpoints.newest().checkpoint.manifest.step == 8
    assert [str(path) in str(newer) for newer in checkpoints.best().newer] == [True]
    assert {name: (path / name).read_bytes() for name in names_in(path)} == before


def test_a_manifest_that_tells_of_too_much_is_damage(checkpoints, monkeypatch):
    """Nothing is read for hours because a few bytes say so."""
    for fields in (
        {"files": {"a": {"size_bytes": 2**60, "sha256": ""}}},
        {"files": {str(n): {"size_bytes": 0, "sha256": ""} for n in range(1001)}},
        {"files": {"../a": {"size_bytes": 0, "sha256": ""}}},
    ):
        path = save(checkpoints, 7).path
        (path / "manifest.sha256").unlink()
        rewrite(path, **fields)
        with pytest.raises(DamagedCheckpoint, match=r"manifest\.json"):
            verify(path)
        checkpoints.set_aside(checkpoints.newest().passed_over[0])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "a"], "there once"),
        (["manifest.json"], "the session writes that"),
        (["manifest.sha256"], "the session writes that"),
        (map(str, range(1001)), "at most 1000 files"),
        (["a" * 30, "b" * 30], "bytes together"),
    ],
)
def test_what_could_not_be_found_again_is_refused_when_it_is_saved(
    checkpoints, monkeypatch, names, expected
):
    """And nothing of it is left."""
    monkeypatch.setattr(checkpoint, "FILES_MAX_BYTES", 50)
    manifest = Manifest(run="run", trainer="drill", mode="light", step=1, episodes=0, saved_at=0.0)
    with pytest.raises(said.Misused, match=expected):
        checkpoints.save(manifest, [(name, name.encode()) for name in names])
    assert names_in(checkpoints.folder) == []


def test_what_is_withheld_is_out_of_the_way_and_comes_back(checkpoints):
    """As the list says, each time; twice the same is once."""
    for step in (1, 2, 3):
        save(checkpoints, step)
    assert checkpoints.withhold([3]) == [3]
    assert checkpoints.withhold([3]) == []
    assert checkpoints.newest().checkpoint.manifest.step == 2
    checkpoints.withhold([])
    assert checkpoints.newest().checkpoint.manifest.step == 3
    assert names_in(checkpoints.folder) == ["1", "2", "3"]


def test_what_is_withheld_is_never_deleted_and_never_older_than_the_newest(checkpoints):
    """The run has gone on without it; a person may want it."""
    save(checkpoints, 1)
    save(checkpoints, 5, content=b"first")
    checkpoints.withhold([5])
    save(checkpoints, 5, content=b"second")
    checkpoints.withhold([5])
    assert names_in(checkpoints.folder) == ["1", "withheld-5", "withheld-5-2"]
    for step in range(6, 12):
        save(checkpoints, step)
        checkpoints.prune()
    checkpoints.withhold([])
    assert {"withheld-5", "withheld-5-2"} < {*names_in(checkpoints.folder)}
    assert (checkpoints.folder / "withheld-5/a.bin").read_bytes() == b"first"


def test_what_a_newer_version_has_written_is_not_withheld(checkpoints):
    """Nor brought back: it is told by name, and nothing older is taken in its place in silence."""
    for step in (1, 2, 3):
        save(checkpoints, step)
    checkpoints.withhold([3])
    for name in ("2", "withheld-3"):
        rewrite(checkpoints.folder / name, version=3)
    assert checkpoints.withhold([2]) == []
    assert names_in(checkpoints.folder) == ["1", "2", "withheld-3"]
    with pytest.raises(NewerFile, match=f"{checkpoints.folder}/2 was written by a newer version"):
        checkpoints.newest()


def test_the_checkpoint_that_was_gone_on_from_outlives_younger_ones(checkpoints):
    """Nobody knows yet whether these load."""
    for step in range(1, 9):
        save(checkpoints, step)
        checkpoints.prune(proven=2)
    assert steps(checkpoints) == [2, 6, 7, 8]

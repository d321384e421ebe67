"""A checkpoint from elsewhere is looked at without running it, copied, and gone on from."""

import json
import os
import pickle
import signal
import struct
import subprocess
import zipfile

import msgspec
import pytest
from programs import PYTHON, learner
from trainer_lives import names_in, write_spec

from trainers import drill, durable, importing
from trainers.attempt import CannotLock
from trainers.checkpoint import Checkpoints, Manifest, verify
from trainers.command import saved
from trainers.contract import HOME, BadSpec, Brought, Score
from trainers.importing import CannotImport, bring, look
from trainers.said import Misused


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    monkeypatch.setenv(HOME, str(home))
    return home


@pytest.fixture
def importer(home, tmp_path):
    """Imports into a run that has not started: what came of it, or why not."""

    def take(source, *, run="new", trainer="command", step=None, score=None, options=None, **spec):
        asked = tmp_path / "asked" / run
        asked.mkdir(parents=True, exist_ok=True)
        if trainer == "command":
            options = learner(tmp_path) | (options or {})
            spec = {"target": {"unit": "epochs", "count": 100_000}, **spec}
        write_spec(asked, trainer=trainer, options=options or {}, **spec)
        return bring(
            home / "runs" / run, trainer, asked / "spec.json", source, step=step, score=score
        )

    return take


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def a_zip(path, content=b"weights" * 1000):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content)
    return path


def of(home, run="new"):
    return Checkpoints(home / "runs" / run / "checkpoints")


def test_what_a_program_has_saved_is_handed_back_to_it(importer, home, tmp_path, start):
    """The whole of it, from the step in its name; it stays where it was."""
    source = put(tmp_path / "ckpt-7.json", b'{"epoch": 7}')
    brought = importer(source, score="loss=0.25")
    assert (brought.step, brought.files, brought.remarks) == (7, 2, ())
    assert brought.score == Score(name="loss", value=0.25, better="lower")
    assert source.read_bytes() == b'{"epoch": 7}'
    run = home / "runs" / "new"
    assert names_in(run / "checkpoints") == ["7"]
    options = learner(tmp_path, finish_s=0.2)
    write_spec(run, trainer="command", target={"unit": "epochs", "count": 9}, options=options)
    code, output, _ = start(run, "command").end()
    assert (code, "resumed from 7" in output) == (0, True)


def test_a_folder_is_handed_back_as_it_lay(importer, home, tmp_path):
    """That of Hugging Face tells its step itself."""
    folder = tmp_path / "checkpoint-500"
    put(folder / "trainer_state.json", b'{"global_step": 512, "epoch": 2.0, "log_history": []}')
    put(folder / "deep" / "rng.bin", b"x")
    target = {"unit": "steps", "count": 1000}
    options = {"progress": {"pattern": r"step (?P<step>\d+)"}}
    assert importer(folder, options=options, target=target).step == 512
    assert importer(folder, run="other").step == 2
    checkpoint = of(home).newest().checkpoint.path
    whole = saved.handed_back(checkpoint, saved.kept(checkpoint), tmp_path / "resume")
    assert whole.name == "checkpoint-500"
    assert names_in(whole) == ["deep", "trainer_state.json"]
    assert (whole / "deep/rng.bin").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("epoch=3-step=1200.ckpt", 3), ("ckpt-12.json", 12), ("model_epoch_4_v2.pt", 4),
        ("last.ckpt", None), ("model-1.5.pt", None), ("run3-best-12.pt", None),
    ],
)  # fmt: skip
def test_a_step_is_that_of_its_name_where_that_is_clear(importer, tmp_path, name, step):
    """Otherwise a person is asked; what they say goes before all."""
    source = put(tmp_path / name, b"weights")
    if step is None:
        with pytest.raises(CannotImport, match="--step N"):
            importer(source)
    else:
        assert importer(source, run="first").step == step
    assert importer(source, step=77).step == 77


def test_a_program_of_which_seconds_count_has_to_be_told(importer, tmp_path):
    """A number in a name is not how long it has trained."""
    source = put(tmp_path / "ckpt-7.json", b"weights")
    untold = {"options": {"progress": None}, "target": None}
    with pytest.raises(CannotImport, match="--step N"):
        importer(source, **untold)
    assert importer(source, step=3600, **untold).step == 3600


def test_a_torn_zip_is_refused(importer, home, tmp_path):
    """It has checksums, which are looked at; nothing of it is run."""
    whole = a_zip(tmp_path / "ckpt-1.pt")
    assert importer(whole, run="well").remarks == ()
    content = bytearray(whole.read_bytes())
    content[100] ^= 1
    with pytest.raises(CannotImport, match="checksum"):
        importer(put(tmp_path / "ckpt-2.pt", bytes(content)))
    with pytest.raises(CannotImport, match="damaged zip"):
        importer(put(tmp_path / "ckpt-3.pt", whole.read_bytes()[:3000]))
    assert not (home / "runs" / "new").exists()


def test_a_pickle_is_taken_as_it_is_and_never_opened(importer, tmp_path):
    """Who opens one runs what it says."""

    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    source = put(tmp_path / "ckpt-1.pt", pickle.dumps(Trap()))
    (remark,) = importer(source).remarks
    assert "ckpt-1.pt is a pickle" in remark
    assert not (tmp_path / "sprung").exists()


def test_safetensors_are_as_long_as_they_say(importer, tmp_path):
    """The header is JSON."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + b"12345678"
    folder = tmp_path / "ckpt-1.json"
    importer(put(folder / "model.safetensors", whole).parent, run="well")
    for torn in (whole[:-1], whole[:20], b"\xff" * 8 + b"{}", whole[:8] + b"x" * len(whole)):
        put(folder / "model.safetensors", torn)
        with pytest.raises(CannotImport, match="damaged"):
            importer(folder)


def test_what_is_no_file_is_refused(importer, tmp_path):
    """Missing, empty, or a link, through which something else would be read."""
    with pytest.raises(CannotImport, match="there is no"):
        importer(tmp_path / "ckpt-1.pt")
    with pytest.raises(CannotImport, match="is empty"):
        importer(put(tmp_path / "ckpt-2.pt", b""))
    folder = tmp_path / "ckpt-3"
    folder.mkdir()
    with pytest.raises(CannotImport, match="holds no file"):
        importer(folder)
    put(folder / "weights", b"x")
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(CannotImport, match="is a link"):
        importer(folder)


@pytest.mark.parametrize("score", ["loss", "loss=", "loss=nan", "accuracy=0.5"])
def test_a_score_is_the_number_by_which_the_run_is_compared(importer, tmp_path, score):
    """Another would make it the worst, or the best, for nothing."""
    with pytest.raises((CannotImport, Misused)):
        importer(put(tmp_path / "ckpt-1.json", b"x"), score=score)


def test_a_program_that_gets_nothing_back_takes_none(importer, tmp_path):
    """Or that looks for other names, where nobody hands it anything."""
    source = put(tmp_path / "best.pt", b"x")
    with pytest.raises(BadSpec, match="checkpoints is not set"):
        importer(source, step=1, options={"checkpoints": None, "resume": []})
    with pytest.raises(BadSpec, match="no name that the program looks for"):
        importer(source, step=1, options={"resume": []})
    assert importer(source, step=1).step == 1


def save(run, step, *, trainer="drill", files=(("a.bin", b"weights"),)):
    manifest = Manifest(
        run=run.name, trainer=trainer, mode="light", step=step, episodes=3, saved_at=5.0,
        score=Score(name="return_mean", value=9.0), trained_s=60.0,
    )  # fmt: skip
    return Checkpoints(run / "checkpoints").save(manifest, list(files)).path


def test_another_run_of_the_trainer_is_gone_on_from(importer, home):
    """Verified; so a run that has another name now keeps what it has learnt."""
    source = save(home / "runs/old", 300)
    brought = importer(source, trainer="drill")
    assert (brought.step, brought.score.value) == (300, 9.0)
    held = of(home).newest().checkpoint.manifest
    assert (held.run, held.episodes, held.trained_s) == ("new", 3, 60.0)
    assert verify(source)
    with pytest.raises(CannotImport, match="trained by 'command'"):
        importer(source, run="other")
    (source / "a.bin").write_bytes(b"WEIGHTS")
    with pytest.raises(CannotImport, match="damaged"):
        importer(source, trainer="drill", run="third")


def test_what_the_run_could_not_go_on_from_is_not_brought(importer, home, monkeypatch):
    """Its trainer knows; at its next start it would fail for good."""

    def fits(spec, checkpoint):
        raise BadSpec(f"checkpoint {checkpoint.name} is of another {spec.name}")

    monkeypatch.setattr(drill, "fits", fits, raising=False)
    with pytest.raises(BadSpec, match="300 is of another"):
        importer(save(home / "runs/old", 300), trainer="drill")
    assert not of(home).named()


def test_what_another_run_has_saved_is_put_back_in_the_folder_of_this_one(
    importer, home, tmp_path, start
):
    """A program that looks by itself finds it where it looks."""
    script = "import os; print('there', sorted(os.listdir())); exit(75)"
    options = {
        "command": [PYTHON, "-c", script],
        "checkpoints": "model-*",
        "resume": [],
        "progress": {"pattern": r"step (?P<step>\d+)"},
    }
    target = {"unit": "steps", "count": 1000}
    importer(put(tmp_path / "model-7", b"x"), run="old", options=options, target=target)
    importer(home / "runs/old/checkpoints/7", options=options, target=target)
    run = home / "runs/new"
    write_spec(run, trainer="command", target=target, options=options)
    assert "there ['model-7']" in start(run, "command").end()[1]
    assert not (home / "runs/old/work").exists()


def test_a_run_that_is_as_far_already_is_left_alone(importer, home, tmp_path):
    """It would never be gone on from; a run that was told to begin anew does so now."""
    source = put(tmp_path / "ckpt-7.json", b"x")
    importer(source)
    with pytest.raises(CannotImport, match="`supervisor rewind new 0`"):
        importer(source)
    brought = importer(source, rewind={"id": "1", "checkpoint": "start"})
    assert brought.step == 7
    assert list(of(home).named()) == ["beside-7", "7"]


def test_a_run_that_trains_is_left_alone(importer, home, make_run, start, tmp_path):
    """Its lock is held."""
    run = home / "runs/new"
    run.mkdir()
    lock = durable.hold(run)
    try:
        with pytest.raises(CannotLock, match="another trainer holds"):
            importer(put(tmp_path / "ckpt-7.json", b"x"))
    finally:
        lock.release()
    assert not (run / "checkpoints").exists()


def test_what_is_written_to_meanwhile_is_not_taken(importer, home, tmp_path, monkeypatch):
    """Complete or absent: nothing is left of it."""
    source = put(tmp_path / "ckpt-7.json", b"x" * 100)
    clone = durable.clone

    def slow(old, new, **how):
        clone(old, new, **how)
        source.write_bytes(b"y" * 200)

    monkeypatch.setattr(importing.durable, "clone", slow)
    with pytest.raises(CannotImport, match="being written to"):
        importer(source)
    assert names_in(home / "runs/new/checkpoints") == []


def test_a_trainer_that_imports_nothing_says_what_it_takes(importer, tmp_path):
    """A checkpoint of its own."""
    with pytest.raises(BadSpec, match="'drill' cannot import"):
        importer(put(tmp_path / "model.zip", b"x"), trainer="drill", step=1)


def test_a_process_of_its_own_does_it(home, tmp_path, make_run, start):
    """With exit codes that tell apart what can be mended."""
    options = learner(tmp_path)
    run = make_run(trainer="command", target={"unit": "epochs", "count": 9}, options=options)
    source = put(tmp_path / "ckpt-7.json", b'{"epoch": 7}')
    code, output, errors = start(run, "command", "--import", str(source)).end()
    assert (code, errors) == (0, "")
    assert msgspec.json.decode(output, type=Brought).step == 7
    again = start(run, "command", "--import", str(source)).end()
    assert again[0] == 2
    assert "has a checkpoint of step 7 already" in again[2]
    life = start(run, "command")
    life.wait_for(life.heartbeat)
    assert start(run, "command", "--import", str(source), "--step", "8").end()[0] == 75
    life.signal(signal.SIGTERM)
    life.end()


def test_folders_in_folders_beyond_all_measure_are_refused_in_a_line(tmp_path):
    """Whoever has made them, by mistake or not."""
    inner = tmp_path / "deep"
    inner.mkdir()
    handle = os.open(inner, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=handle)
        deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    with pytest.raises(CannotImport, match="beyond all measure"):
        look(inner)
    subprocess.run(["rm", "-rf", inner], check=True)

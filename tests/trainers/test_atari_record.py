"""A checkpoint plays, and what it plays becomes a film, whatever happens to disk and patience."""

import errno
import io
import os
import shutil

import msgspec
import numpy as np
import pytest
from PIL import Image
from trainer_lives import write_spec

from trainers import atari, durable, play
from trainers.__main__ import main
from trainers.atari import film as atari_film
from trainers.atari.game import GAME_MAX_FRAMES, Emulator
from trainers.attempt import read_spec
from trainers.beside import EXIT_INTERRUPTED
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, RunFolder
from trainers.film import CAPTION_PX, Film
from trainers.registry import Recording
from trainers.session import Session

pytestmark = pytest.mark.slow

SPEC = {
    "trainer": "atari",
    "name": "Breakout",
    "n_envs": 1,
    "batch_size": 16,
    "target_steps": 32,
    "options": {"rollout_steps": 32, "device": "cpu"},
}
WIDTH, HEIGHT = 320, 420


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of Breakout that has learnt next to nothing."""
    run = tmp_path_factory.mktemp("trained") / "run"
    run.mkdir()
    write_spec(run, **SPEC)
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder))
    atari.train(session)
    assert session.finish() == 0
    return run


@pytest.fixture
def record(tmp_path, monkeypatch, capsys):
    """Records a run: `record(run, "--seconds", "1")` gives exit code, JSON or stderr, and file."""
    niceness = []
    monkeypatch.setattr(os, "nice", niceness.append)
    file = tmp_path / "films" / "film.gif"
    file.parent.mkdir()

    def command(run, *arguments, trainer="atari", output=file):
        code = main([trainer, "--run", str(run), "--json", f"--record={output}", *arguments])
        said = capsys.readouterr()
        return code, msgspec.json.decode(said.out) if code == 0 else said.err, file

    yield command
    assert set(niceness) <= {play.RECORDING_NICE}


def pictures_of(content):
    """The pictures of a GIF as RGB, and for how long each is shown."""
    with Image.open(io.BytesIO(content)) as film:
        for i in range(film.n_frames):
            film.seek(i)
            yield np.asarray(film.convert("RGB")), film.info["duration"]


def console_colours():
    """All colours that the games of this console are drawn with."""
    ale = Emulator("breakout", GAME_MAX_FRAMES).ale
    ale.reset_game()
    colours = {tuple(colour) for colour in ale.getScreenRGB().reshape(-1, 3).tolist()}
    assert len(colours) > 4
    return colours


def test_a_film_shows_the_game_in_its_colours_at_real_speed(trained, record):
    """Thirty pictures a second of the screen at twice its size, that move; and what they are."""
    code, told, file = record(trained, "--seconds", "2")
    assert code == 0
    pictures, durations_ms = zip(*pictures_of(file.read_bytes()), strict=True)
    assert len(pictures) == told["pictures"] == 60
    assert sum(durations_ms) == 2000
    assert {picture.shape for picture in pictures} == {(told["height"], told["width"], 3)}
    screens = [picture[:HEIGHT] for picture in pictures]
    assert (told["width"], told["height"]) == (WIDTH, HEIGHT + CAPTION_PX)
    assert any(not np.array_equal(screens[0], screen) for screen in screens)
    seen = {tuple(colour) for colour in screens[0].reshape(-1, 3).tolist()}
    assert seen <= console_colours()
    assert all(np.array_equal(screen[::2, ::2], screen[1::2, 1::2]) for screen in screens)
    caption = pictures[0][HEIGHT:]
    assert caption.max() > 200
    assert told["size_bytes"] == file.stat().st_size
    assert {"name", "checkpoint_step", "returns", "return_so_far"} <= told.keys()
    assert (told["returns"], told["checkpoint_step"]) == ([], 32)


def test_a_recorded_game_is_the_one_that_an_evaluation_plays(trained, record, capsys):
    """It ends with the game, at the same return; asked for two games, the film goes on."""
    _, one, _ = record(trained, "--seconds", "600")
    assert one["return_so_far"] is None
    assert main(["atari", "--run", str(trained), "--evaluate", "1", "--json"]) == 0
    assert one["returns"] == msgspec.json.decode(capsys.readouterr().out)["returns"]
    seconds = int(one["seconds"]) + 2
    _, two, _ = record(trained, "--seconds", str(seconds), "--episodes", "2")
    assert (two["returns"], two["seconds"]) == (one["returns"], seconds)
    assert two["return_so_far"] is not None


def test_a_recording_disturbs_nothing(trained, record):
    """It is made beside a living trainer, and writes nothing into the run."""
    lock = durable.hold(trained)
    files = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    one = record(trained, "--seconds", "1", "--checkpoint", "newest")[2].read_bytes()
    lock.release()
    other = record(trained, "--seconds", "1")[2].read_bytes()
    assert one == other
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == files


def test_a_run_in_native_environments_is_recorded_too(trained, record, tmp_path):
    """The film is played on the plain emulator, however the run was trained."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    write_spec(run, **{**SPEC, "options": {"environments": "native"}})
    code, told, _ = record(run, "--seconds", "1")
    assert (code, told["pictures"]) == (0, 30)


def test_a_film_that_grows_too_large_ends(trained, record, monkeypatch):
    """A game that flashes all over must not fill the disk."""
    monkeypatch.setattr(atari_film, "MAX_BYTES", 10_000)
    _, told, file = record(trained, "--seconds", "600")
    assert told["return_so_far"] is not None
    assert 10_000 <= file.stat().st_size < 30_000


def test_every_pixel_of_a_film_is_the_one_that_was_shown():
    """Also where a picture is the one before, or differs in one pixel, or in all."""
    generator = np.random.default_rng(1)
    palette = generator.integers(256, size=(256, 3), dtype=np.uint8)
    pictures = [generator.integers(128, size=(210, 160)) * 2 for _ in range(3)]
    pictures = [picture.astype(np.uint8) for picture in pictures]
    pictures.insert(1, pictures[0])
    pictures.insert(2, pictures[0].copy())
    pictures[2][7, 9] ^= 2
    film = Film(atari_film.PICTURES_PER_S, atari_film.SCALE)
    for i, picture in enumerate(pictures):
        film.add(picture, f"caption {min(i, 1)}")
    shown = [picture for picture, _ in pictures_of(film.encoded(palette))]
    assert len(shown) == len(pictures)
    for picture, seen in zip(pictures, shown, strict=True):
        assert np.array_equal(seen[:HEIGHT], palette[picture].repeat(2, 0).repeat(2, 1))


def test_what_flickers_is_seen():
    """Games draw some things in every second picture; each picture of the film has them all."""

    class Flickering(atari_film._FilmedGame):
        def __init__(self):
            super().__init__("breakout", 1, 0.0)
            self._ale = self
            self._n = 0

        def act(self, _):
            self._n += 1
            return 0.0

        def getScreen(self):  # noqa: N802 - the emulator's
            return np.array([[2, 8 if self._n % 2 else 2]], np.uint8)

        def getScreenGrayscale(self):  # noqa: N802
            return self.getScreen()

        def getScreenRGB(self):  # noqa: N802
            return self.getScreen()[:, :, None].repeat(3, axis=2)

    game = Flickering()
    for _ in range(8):
        game._frame(None)
    assert [view.picture.tolist() for view in game.take()] == [[[2, 8]]] * 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"output": "film.mp4"}, play.EXIT_FAILED, "must end in .gif"),
        ({"output": "/nowhere/film.gif"}, play.EXIT_FAILED, "cannot write"),
        ({"trainer": "drill"}, EXIT_BAD_SPEC, "not 'drill'"),
    ],
)
def test_what_cannot_be_recorded_is_told_before_anything_is_played(
    trained, record, monkeypatch, arguments, code, words
):
    """One line says why."""
    monkeypatch.setattr(atari, "record", None)
    answer = record(trained, **arguments)
    assert answer[0] == code
    assert words in answer[1]


def test_without_a_checkpoint_there_is_nothing_to_record(tmp_path, record):
    """One line says so, and what to do."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, **SPEC)
    code, errors, _ = record(run)
    assert code == EXIT_AGAIN
    assert "no usable checkpoint yet" in errors
    assert "try again" in errors


def test_the_drill_cannot_be_recorded(make_run, record):
    """It plays nothing."""
    code, errors, _ = record(make_run(), trainer="drill")
    assert code == EXIT_BAD_SPEC
    assert "cannot record" in errors


def film_of(content):
    def record(*_, **__):
        if isinstance(content, BaseException):
            raise content
        return Recording(content, 1, 1, 1, 1.0, [], 0.0)

    return record


def test_ctrl_c_leaves_nothing(trained, record, monkeypatch):
    """Neither a file nor half of one, nor a traceback."""
    monkeypatch.setattr(atari, "record", film_of(KeyboardInterrupt()))
    code, errors, file = record(trained)
    assert (code, errors) == (EXIT_INTERRUPTED, "")
    assert list(file.parent.iterdir()) == []


def test_a_full_disk_leaves_the_film_that_was_there(trained, record, monkeypatch):
    """What cannot be written wholly is not written at all."""
    monkeypatch.setattr(atari, "record", film_of(b"new"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _, _, file = record(trained)
    assert file.read_bytes() == b"new"
    monkeypatch.setattr(os, "write", full)
    code, errors, _ = record(trained)
    monkeypatch.undo()
    assert code == play.EXIT_FAILED
    assert "No space left" in errors
    assert [path.read_bytes() for path in file.parent.iterdir()] == [b"new"]


def test_nothing_is_written_through_a_link(trained, record, monkeypatch, tmp_path):
    """A link in the film's place is replaced, and what it points to stays as it was."""
    monkeypatch.setattr(atari, "record", film_of(b"new"))
    precious = tmp_path / "precious"
    precious.write_bytes(b"old")
    (tmp_path / "films" / "film.gif").symlink_to(precious)
    assert record(trained)[0] == 0
    assert precious.read_bytes() == b"old"
    assert (tmp_path / "films" / "film.gif").read_bytes() == b"new"

"""The rolling picture of a run: whole, seldom, harmless, and of no cost to what is pictured."""

import errno
import io
import os
import threading
from contextlib import closing

import numpy as np
import pytest
from PIL import Image
from trainer_lives import write_spec

from testkit.patience import PATIENCE_S, until
from trainers import atari, durable
from trainers.atari.exact import ExactGames
from trainers.atari.native import NativeGames
from trainers.attempt import read_spec
from trainers.contract import RunFolder
from trainers.preview import INTERVAL_S, Preview
from trainers.session import Session

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


class Screen:
    """A screen that shows another colour each time, and how often it was looked at."""

    def __init__(self):
        self.looks = 0

    def __call__(self):
        self.looks += 1
        return np.full((210, 160, 3), self.looks, np.uint8)


class Clock:
    """Time that moves only when it is told to."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


class World:
    """A preview in a folder."""

    def __init__(self, folder):
        self.path = folder / "preview.png"
        self.screen = Screen()
        self._clock = Clock()
        self._preview = Preview(self.path, monotonic_s=self._clock)

    def update(self, *, after_s=0.0):
        self._clock.now_s += after_s
        self._preview.update(self.screen)

    def shown(self):
        """The colour that the picture has; None: there is none."""
        try:
            return pixels_of(self.path.read_bytes())[0, 0, 0]
        except FileNotFoundError:
            return None

    def settle(self):
        """Wait until the picture that was begun is written, or given up."""
        until(lambda: not self._preview._pictures.unfinished_tasks)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def pixels_of(content):
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        return np.asarray(image)


def test_a_picture_is_taken_at_once_and_then_once_a_second(world):
    """In between the screen is not even looked at."""
    for _ in range(10):
        world.update()
    world.settle()
    assert (world.screen.looks, world.shown()) == (1, 1)
    world.update(after_s=INTERVAL_S * 0.99)
    assert world.screen.looks == 1
    world.update(after_s=INTERVAL_S * 0.02)
    world.settle()
    assert (world.screen.looks, world.shown()) == (2, 2)


def test_a_disk_that_hangs_costs_the_picture_alone(world, monkeypatch):
    """The training goes on, no second picture waits behind the first, and a later one comes."""
    go_on, write = threading.Event(), durable.write

    def hang(*arguments, **fields):
        assert go_on.wait(PATIENCE_S)
        write(*arguments, **fields)

    monkeypatch.setattr(durable, "write", hang)
    for _ in range(5):
        world.update(after_s=10 * INTERVAL_S)
    assert world.screen.looks == 1
    go_on.set()
    world.settle()
    world.update()
    world.settle()
    assert (world.screen.looks, world.shown()) == (2, 2)


def test_a_full_disk_costs_the_picture_alone(world, monkeypatch):
    """The picture before stays, nobody hears of it, and later there is a new one."""
    world.update()
    world.settle()
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "write", full)
        world.update(after_s=INTERVAL_S)
        world.settle()
    assert world.shown() == 1
    assert [path.name for path in world.path.parent.iterdir()] == ["preview.png"]
    world.update(after_s=INTERVAL_S)
    world.settle()
    assert world.shown() == 3


@pytest.mark.parametrize("name", ["preview.png", ".preview.png.new"])
def test_nothing_is_written_through_a_link(world, tmp_path, name):
    """A link that somebody left in the folder goes; what it points to stays as it was."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"old")
    (tmp_path / name).symlink_to(precious)
    for _ in range(2):
        world.update(after_s=INTERVAL_S)
        world.settle()
    assert precious.read_bytes() == b"old"
    assert world.shown() == 2
    assert not world.path.is_symlink()


def test_a_reader_never_sees_half_a_picture(world):
    """It finds the one before or the one after, whenever it looks."""
    world.update()
    world.settle()
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            seen.append(world.shown())

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: seen)
    for _ in range(100):
        world.update(after_s=INTERVAL_S)
        world.settle()
    until(lambda: seen[-1] == 101)
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert None not in seen


def test_a_game_that_is_looked_at_goes_on_as_if_nobody_had(world):
    """The emulators come to the very same states, pictures and rewards."""
    actions = np.random.default_rng(4).integers(4, size=(60, 2))

    def lives(look):
        with closing(ExactGames("breakout", (5, 6), threads=1, sticky_actions=0.25)) as games:
            yield games.reset()
            for some in actions:
                if look:
                    world.screen = games.screen
                    world.update(after_s=INTERVAL_S)
                    world.settle()
                games.send(some)
                step = games.receive()
                yield step.observations, step.rewards, step.dones
            yield games.clone()

    for seen, unseen in zip(lives(look=True), lives(look=False), strict=True):
        np.testing.assert_equal(seen, unseen)
    assert pixels_of(world.path.read_bytes()).shape == (210, 160, 3)
    assert len(np.unique(pixels_of(world.path.read_bytes()).reshape(-1, 3), axis=0)) > 4


def test_native_environments_show_what_the_policy_sees(world):
    """They have no colours to show: the newest picture of the first game."""
    with closing(NativeGames("breakout", (5, 6), threads=1)) as games:
        world.screen = games.screen
        observations = games.reset()
        world.update()
        world.settle()
        assert np.array_equal(pixels_of(world.path.read_bytes()), observations[0, -1])
        for _ in range(3):
            games.send(np.array([0, 3]))
            observations = games.receive().observations
        world.update(after_s=INTERVAL_S)
        world.settle()
        assert np.array_equal(pixels_of(world.path.read_bytes()), observations[0, -1])


@pytest.mark.slow
def test_a_life_leaves_a_picture(tmp_path):
    """Training writes one into the run folder."""
    run = tmp_path / "run"
    run.mkdir()
    options = {"rollout_steps": 16, "device": "cpu"}
    spec = {"n_envs": 2, "batch_size": 16, "target_steps": 16, "options": options}
    write_spec(run, trainer="atari", name="Pong", **spec)
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder))
    atari.train(session)
    assert session.finish() == 0
    until(folder.preview.exists)
    assert pixels_of(folder.preview.read_bytes()).shape == (210, 160, 3)

"""Mode files: what a mode gives any run, and what only one trainer understands of it."""

import msgspec
import pytest

from modes import Mode, load_ladder
from modes.toml_file import InvalidFile
from supervisor.config import Config, InForce
from supervisor.core import queue
from testkit.builders import a_mode, a_run

OLD = "rung = 0\nslots = 2\nn_envs = 32\nbatch_size = 512\n"
NEW = "rung = 0\nslots = 2\n[load.atari]\nn_envs = 32\nbatch_size = 512\n"
GAMES = {"n_envs": 32, "batch_size": 512}


def ladder(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return load_ladder(folder)


def test_the_shipped_modes_keep_their_numbers():
    """Who upgrades trains on as before."""
    light, medium = load_ladder()
    assert (light.slots, light.load_of("atari")) == (2, GAMES)
    assert (medium.slots, medium.load_of("atari")) == (4, {"n_envs": 64, "batch_size": 1024})
    assert (light.load_of("drill"), light.threads, light.gpus) == ({}, None, None)


def test_an_old_mode_file_means_what_the_new_form_means(tmp_path):
    """For the one trainer that had those numbers, and for no other."""
    old, new = (
        ladder(tmp_path / name, light=text)["light"] for name, text in (("a", OLD), ("b", NEW))
    )
    assert old.load_of("atari") == new.load_of("atari") == GAMES
    assert old.load_of("tabular") == {}
    assert old.definition == new.definition
    assert new.dated is None


def test_an_old_mode_file_is_told_once_with_what_to_write(tmp_path):
    """One notice for each file; nothing else comes of it."""
    ladder(tmp_path / "modes", light=OLD, medium=NEW.replace("rung = 0", "rung = 1"))
    (tmp_path / "supervisor.toml").write_text('modes_dir = "modes"\n')
    (notice,) = Config(tmp_path / "supervisor.toml").dated
    assert notice.startswith(f"{tmp_path / 'modes/light.toml'}: n_envs and batch_size are")
    assert notice.endswith("[load.atari] and below it n_envs = 32, batch_size = 512")


def test_a_number_stands_in_one_place(tmp_path):
    """In both forms it might have two values."""
    with pytest.raises(InvalidFile, match=r"light.toml: n_envs stands in \[load.atari\] and"):
        ladder(tmp_path, light="n_envs = 8\n" + NEW)


def test_what_was_learnt_of_a_mode_is_kept_over_an_upgrade():
    """The words by which the ledger knows a mode are those of the version before."""
    light = load_ladder()["light"]
    before = "2 runs of 32 environments in batches of 512, nice 0, no power limit"
    assert light.definition == before
    for other in ({"gpus": 1}, {"threads": 3}, {"load": {"tft": {"batch_size": 64}}}, {"nice": 1}):
        assert msgspec.structs.replace(light, **other).definition != before


def test_modes_that_an_older_version_has_kept_are_read():
    """They are in force where the files cannot be read, and in turns that were written down."""
    mode = {"name": "light", "rung": 0, "slots": 2, "prefer": [], "nice": 0, "power_limit_w": None}
    kept = {"version": 1, "settings": {}, "modes": [mode | GAMES]}
    (mode,) = msgspec.convert(kept, InForce).modes
    assert mode.load_of("atari") == GAMES


def test_a_mode_says_how_many_threads_or_the_slots_share_the_cores():
    """A run that waits for a card needs no core meanwhile."""
    assert queue.share(a_mode(slots=2), "drill", cores=8).threads == 4
    assert queue.share(a_mode(slots=16), "drill", cores=8).threads == 1
    assert queue.share(a_mode(slots=2, threads=3), "drill", cores=8).threads == 3


def test_each_trainer_is_told_its_own_table_alone(tmp_path):
    """Two trainers in one mode have each their load; a date becomes what JSON has for it."""
    text = "rung = 0\nslots = 1\n[load.drill]\nday = 2026-01-05\n[load.other]\nn = 1\n"
    mode = ladder(tmp_path, light=text)["light"]
    spec = queue.spec(a_run(), mode, cores=1, checkpoint_interval_s=1.0, grace_s=120.0)
    assert spec.load == {"day": "2026-01-05"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gpus = -1", "gpus = -1"),
        ('load = "heavy"', "load = 'heavy'"),
        ("[load.atari.deep]\nx = 1", None),
        ('[load."../x"]\nx = 1', "load"),
        ("treads = 1", "did you mean 'threads'?"),
        ("threads = 0", "threads = 0"),
    ],
)
def test_a_mode_file_is_judged_as_far_as_no_trainer_has_to_be_asked(tmp_path, text, why):
    """What stands in a trainer's table is the trainer's."""
    text = f"rung = 0\nslots = 1\n{text}\n"
    if why is None:
        assert isinstance(ladder(tmp_path, light=text)["light"], Mode)
        return
    with pytest.raises(InvalidFile) as refused:
        ladder(tmp_path, light=text)
    assert why in str(refused.value)

"""What of a checkpoint is loaded: nothing that is packed beyond what it could hold."""

import zipfile
import zlib

import pytest
import torch

from trainers import baselines
from trainers.atari import snapshot as atari_snapshot


def test_what_torch_saves_is_loaded_and_what_is_packed_is_not(tmp_path):
    """A few kilobytes of a zip archive can hold gigabytes, which torch would unpack."""
    path = tmp_path / "state.pt"
    torch.save({"weights": torch.zeros(100_000)}, path)
    baselines.refuse_packed(path)
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(ValueError, match="packed"):
        baselines.refuse_packed(bomb)
    bomb.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not what torch saves"):
        baselines.refuse_packed(bomb)


def test_a_bomb_is_not_unpacked(tmp_path):
    """What is larger than a rollout can be is refused before it fills the memory."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(zlib.compress(bytes(2**20), 9))
    with pytest.raises(ValueError, match="unpacks to more than 1000 bytes"):
        atari_snapshot.unpacked(bomb, 1000)
    bomb.write_bytes(zlib.compress(bytes(999), 9)[:-4])
    with pytest.raises(ValueError, match="torn"):
        atari_snapshot.unpacked(bomb, 1000)
    transitions = (torch.zeros((2, 4), dtype=torch.int64),)
    (tmp_path / "pictures.zlib").write_bytes(zlib.compress(bytes(2**20), 9))
    with pytest.raises(ValueError, match="unpacks to more than"):
        atari_snapshot.pictures_of(tmp_path, {"transitions": transitions, "n_pictures": 10**9})

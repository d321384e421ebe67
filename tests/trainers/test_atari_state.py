"""What of a checkpoint is loaded: nothing that is packed beyond what it could hold."""

import zipfile

import pytest
import torch

from trainers.atari import learner as atari_learner


def test_what_torch_saves_is_loaded_and_what_is_packed_is_not(tmp_path):
    """A few kilobytes of a zip archive can hold gigabytes, which torch would unpack."""
    path = tmp_path / "state.pt"
    torch.save({"weights": torch.zeros(100_000)}, path)
    atari_learner._refuse_packed(path)
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(ValueError, match="packed"):
        atari_learner._refuse_packed(bomb)
    bomb.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not what torch saves"):
        atari_learner._refuse_packed(bomb)

"""What a person hears of a settings file that cannot be used."""

import pytest

from modes.toml_file import InvalidFile, read_toml
from supervisor.settings import Settings


@pytest.mark.parametrize(
    ("line", "what", "meant"),
    [
        ('runs = ["Breakout", "ALE/Pong-v5"]', "'ALE/Pong-v5'", "'Pong'"),
        ('runs = ["Space Invaders"]', "'Space Invaders'", "'SpaceInvaders'"),
        ('runs = ["Ms. Pac-Man"]', "'Ms. Pac-Man'", "'MsPac-Man'"),
        ('runs = [" Pong"]', "' Pong'", "'Pong'"),
        ('trainer = "trainers/atari.py"', "'trainers/atari.py'", "'atari'"),
        ('runs = ["卓球"]', "'卓球'", None),
        ('runs = [""]', "''", None),
        ('runs = ["../.."]', "'../..'", None),
    ],
)
def test_a_name_that_is_none_is_told_in_words(line, what, meant, tmp_path):
    """No pattern that only programs read, and the name that was likely meant."""
    path = tmp_path / "supervisor.toml"
    path.write_text(f"[campaign]\n{line}\n", encoding="utf-8")
    with pytest.raises(InvalidFile) as refused:
        read_toml(path, Settings)
    (problem,) = refused.value.problems
    assert f": {what} is no name: letters, digits" in problem
    assert "regex" not in problem
    assert problem.endswith(f"did you mean {meant}?") if meant else "did you mean" not in problem

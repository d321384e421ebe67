"""What a person's files come to, from whatever editor, and what is said of one that is wrong."""

import codecs

import pytest

from modes import ModeFile
from modes.toml_file import InvalidFile, read_toml
from supervisor.core.settings import Settings

TEXT = "# für alle\nrung = 0\nslots = 2\nnice = 4\n"


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


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
        TEXT.removesuffix("\n").encode(),
    ],
    ids=["plain", "mark", "CRLF", "mark and CRLF", "no last line end"],
)
def test_what_an_editor_adds_changes_nothing(tmp_path, raw):
    """A byte order mark, and the line ends of another system."""
    path = tmp_path / "mode.toml"
    path.write_bytes(raw)
    assert read_toml(path, ModeFile) == ModeFile(rung=0, slots=2, nice=4)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (TEXT.encode("latin-1"), "byte 0xfc in line 1"),
        (b"rung = 0\nslots = 2 # \xff\n", "byte 0xff in line 2"),
        (TEXT.encode("utf-16"), "is UTF-16 text"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "is UTF-16 text"),
        (TEXT.replace("ü", "u").encode("utf-16-le"), "a NUL byte in line 1"),
        (b"rung = 0\nslots = 2\n\0\0\0\0", "a NUL byte in line 3"),
        (codecs.BOM_UTF8, "is empty"),
        (b"", "is empty"),
        (b"rung = 0\n\xef\xbb\xbfslots = 1\n", "is not valid TOML"),
    ],
)
def test_what_is_no_text_is_named_with_its_line(tmp_path, raw, said):
    """Not where a decoder stopped, but what a person can look for."""
    path = tmp_path / "mode.toml"
    path.write_bytes(raw)
    with pytest.raises(InvalidFile) as caught:
        read_toml(path, ModeFile)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert said in problem

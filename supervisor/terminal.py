"""What reaches a terminal: text and our own colours, and nothing else that it would obey.

Whatever a command prints goes through one `Screen`. What somebody else has written (a name, a
reason, the output of a trainer) can hold bytes that move a cursor, hide text, or type for a person;
there it becomes a replacement character. Our colours pass, because they are marked by code points
that nothing which was read can hold.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO, cast

COLOURS = {
    "bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36,
}  # fmt: skip
FIRST_MARK = 0xD800
"""a surrogate: UTF-8, JSON and TOML hold none, and a name in other bytes holds those from 0xDC80"""
RESET = chr(FIRST_MARK)
MARKS = {RESET: "\x1b[0m"} | {chr(FIRST_MARK + code): f"\x1b[{code}m" for code in COLOURS.values()}
MARKED = re.compile(f"[{''.join(MARKS)}]")
COLOUR_CODE = re.compile(r"\x1b\[[0-9;:]*m")


class Screen:
    """A stream for people that gets no byte which could command a terminal.

    Args:
        stream: where the text goes; everything but `write` is as it has it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what is text, with our colours, in the letters that the stream knows."""
        shown = "".join(_shown(letter) for letter in text) if not text.isprintable() else text
        try:
            self._stream.write(shown)
        except UnicodeEncodeError as error:
            known = shown.encode(error.encoding, "replace").decode(error.encoding)
            self._stream.write(known)
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def screen(stream: TextIO) -> TextIO:
    """`stream` as a screen."""
    return cast("TextIO", Screen(stream))


def paint(text: str, colour: str) -> str:
    """`text` in that colour, where what is printed now is shown in colour."""
    return f"{mark(colour)}{text}{RESET}" if coloured(sys.stdout) else text


def mark(colour: str) -> str:
    """What a screen turns into the beginning of that colour."""
    return chr(FIRST_MARK + COLOURS[colour])


def coloured(stream: TextIO) -> bool:
    """Whether it is a screen on a terminal that knows colours, and NO_COLOR is not set."""
    plain_wanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return isinstance(stream, Screen) and stream.isatty() and not plain_wanted


def columns(text: str) -> int:
    """How many columns `text` takes, which may hold colours."""
    return len(MARKED.sub("", text))


def printable(value: object) -> str:
    """`value` in one line that commands no terminal: it may have been written by anybody."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value)
    )


def drawn(line: bytes) -> str:
    """A line of a program's output as its own terminal had it in the end: a bar that was redrawn
    is there once. Without its colours.
    """
    text = COLOUR_CODE.sub("", line.decode(errors="replace")).rstrip("\r")
    return text.rpartition("\r")[2]


def escaped(document: str) -> str:
    """A JSON document of the same content in which nothing commands a terminal."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else _escape(letter) for letter in document
    )


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in "\n\t":
        return letter
    return MARKS.get(letter, "\N{REPLACEMENT CHARACTER}")


def _escape(letter: str) -> str:
    return re.sub("....", lambda unit: f"\\u{unit[0]}", letter.encode("utf-16-be").hex())

"""What reaches a terminal is text and our own colours."""

import io
import json
import sys

import pytest

from supervisor.terminal import drawn, escaped, paint, printable, screen

HOSTILE = "\x1b[2J\x1b]8;;http://x\x07\x9b31m\x07\b\r\x7f\u202e\u2066\u2028\u200b\ue000\U000e0041"


class Terminal(io.StringIO):
    """A terminal that somebody looks at."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize("letter", HOSTILE)
def test_no_code_passes_a_screen(letter):
    """Whatever is no text is shown as something that cannot be shown."""
    terminal = Terminal()
    screen(terminal).write(f"a{letter}b\n\tc")
    kept = terminal.getvalue()
    assert kept.replace("\n", "").replace("\t", "").isprintable()
    assert (kept[0], kept[-4:]) == ("a", "b\n\tc")
    assert printable(letter).isprintable()


def test_our_colours_pass_and_nobody_else_can_make_them(monkeypatch):
    """What marks a colour can be read from no file: it is no code point of any text."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", screen(terminal))
    painted = paint("well", "green")
    sys.stdout.write(f"{painted} \x1b[32mforged\x1b[0m")
    assert terminal.getvalue().startswith("\x1b[32mwell\x1b[0m \ufffd[32m")
    with pytest.raises(UnicodeEncodeError):
        painted.encode()
    with pytest.raises(UnicodeDecodeError):
        painted.encode("utf-8", "surrogatepass").decode()


def test_letters_that_a_terminal_does_not_know_cost_no_command():
    """A terminal of Latin-1 is shown a question mark."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    told = screen(stream)
    told.write("für \u4e16\x1b")
    told.flush()
    assert raw.getvalue() == b"f\xfcr ??"


def test_a_document_keeps_its_content():
    """Codes in a document for machines are escapes, which mean the same."""
    document = json.dumps({"a": HOSTILE, "b": "für"}, ensure_ascii=False, indent=1)
    safe = escaped(document)
    assert json.loads(safe) == json.loads(document)
    assert safe.replace("\n", "").isprintable()


def test_a_progress_bar_is_shown_once():
    """The output of a trainer as its terminal showed it in the end, without its colours."""
    assert drawn(b"\r 10%\r\x1b[32m 20%\x1b[0m\r") == " 20%"
    assert drawn(b"f\xfcr") == "f\ufffdr"

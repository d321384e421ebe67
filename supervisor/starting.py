"""Settings for the program in a folder: looked for, asked for, written."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from modes.toml_file import NAME_IN_WORDS, InvalidFile
from supervisor.context import Context, Refused
from supervisor.proposal import (
    KEPT,
    Asked,
    Facts,
    File,
    Proposal,
    as_target,
    as_words,
    heading,
    propose,
    written,
)
from trainers.contract import NAME

FILES_MAX = 10_000
"""of a folder that are looked at"""
READ_MAX_BYTES = 2**20
"""of each"""
PYTHONS = (".venv/bin/python", "venv/bin/python")
NONE = ("-", "none")
"""answers that mean that there is no such thing"""

T = TypeVar("T")


def init(context: Context) -> int:
    """Write settings for the program in the home, which is no more than a folder as yet.

    Raises:
        Refused: there is nothing to write them for, or they are there; the message says what to do.
        InvalidFile: they would not work.
    """
    home, options = context.home, context.options
    if options.config:
        raise Refused("init writes supervisor.toml in its folder: leave --config out")
    if not home.path.is_dir():
        raise Refused(f"there is no folder {home.path}: make it, and put your program there")
    asked, facts = _asked(options), look(home.path)
    if os.path.lexists(home.settings):
        if (found := propose(facts, asked)) is not None:
            print(written(found), end="")
        raise Refused(
            f"{home.settings} is there, and stays as it is"
            + ("; add to it what is printed here" if found is not None else "")
        )
    if sys.stdin.isatty() and sys.stdout.isatty():
        asked = _questions(facts, asked)
    proposal = propose(facts, asked)
    if proposal is None:
        raise Refused(
            f"nothing in {home.path} looks like a program: name it, as in "
            "--command 'python3 train.py'"
        )
    text = heading() + written(proposal)
    remarks = _checked(text, context)
    _write_new(home.settings, text.encode())
    for line in _told(proposal, context, remarks):
        print(line)
    return 0


def look(folder: Path) -> Facts:
    """What lies in a folder, as far as it tells what is to be run."""
    files = []
    with os.scandir(folder) as entries:
        for _, entry in zip(range(FILES_MAX), entries, strict=False):
            file = _file(entry)
            if file is not None:
                files.append(file)
    python = next((name for name in PYTHONS if os.access(folder / name, os.X_OK)), None)
    return Facts(
        folder=folder.name,
        files=tuple(files),
        python=python,
        requirements=(folder / "requirements.txt").is_file(),
    )


def _file(entry: os.DirEntry[str]) -> File | None:
    """A file that may be a program; None: it is none, or cannot be read."""
    try:
        entry.name.encode()
        executable = os.access(entry.path, os.X_OK)
        if not entry.is_file() or not (executable or entry.name.endswith((".py", ".sh"))):
            return None
        with open(entry.path, "rb") as file:  # noqa: PTH123 - it is known by its entry
            content = file.read(READ_MAX_BYTES)
        # A disk that knows no rights says of every file that it is a program.
        executable = executable and content.startswith((b"#!", b"\x7fELF"))
        text = content.decode("utf-8-sig", "replace")
        return File(entry.name, text, executable, entry.stat().st_mtime)
    except (OSError, UnicodeEncodeError):
        return None


def _asked(options: argparse.Namespace) -> Asked:
    """What the command line says.

    Raises:
        Refused: it makes no sense.
    """
    if options.name is not None and not NAME.fullmatch(options.name):
        raise Refused(f"{options.name!a} is no name: {NAME_IN_WORDS}")

    def read(name: str, text: str | None, kind: Callable[[str], T]) -> T | None:
        try:
            return None if text is None else kind(text)
        except ValueError as error:
            raise Refused(f"--{name} {text!a}: {error}") from error

    return Asked(
        name=options.name,
        command=read("command", options.program, _some_words),
        checkpoints=read("checkpoints", options.checkpoints, _or_nothing),
        resume=read("resume", options.resume, _words_or_none),
        target=read("target", options.target, as_target),
        reporting=options.reporting,
    )


def _questions(facts: Facts, asked: Asked) -> Asked:
    """Ask a person what the command line does not say; an empty answer takes what is guessed."""
    if asked.command is None:
        guess = propose(facts, asked)
        shown = shlex.join(guess.command) if guess else ""
        asked = asked._replace(command=_answer("Which program?", shown, _some_words))
    guess = propose(facts, asked)
    if asked.checkpoints is None:
        shown = (guess.checkpoints if guess else "") or NONE[0]
        asked = asked._replace(checkpoints=_answer("What does it save?", shown, _or_nothing))
    if asked.resume is None and asked.checkpoints:
        guess = propose(facts, asked)
        shown = shlex.join(guess.resume) if guess and guess.resume else NONE[0]
        answer = _answer("  and which words resume from it?", shown, _words_or_none)
        asked = asked._replace(resume=answer)
    if asked.target is None:
        guess = propose(facts, asked)
        shown = "until it ends"
        if guess is not None and guess.target is not None:
            shown = "{}={}".format(*guess.target)
        asked = asked._replace(target=_answer("How far?", shown, _target_or_none))
    return asked


def _answer(question: str, shown: str, kind: Callable[[str], T]) -> T:
    """What a person answers, asked again until it makes sense.

    Raises:
        Refused: nobody answers any more.
    """
    while True:
        try:
            text = input(f"{question} [{shown}] " if shown else f"{question} ").strip()
        except EOFError:
            print()
            raise Refused("nothing was written") from None
        try:
            return kind(text or shown)
        except ValueError as error:
            print(f"  {error}")


def _some_words(text: str) -> tuple[str, ...]:
    words = as_words(text)
    if not words:
        raise ValueError("name a program")
    return words


def _or_nothing(text: str) -> str:
    return "" if text.strip() in NONE else text


def _words_or_none(text: str) -> tuple[str, ...]:
    return as_words(_or_nothing(text))


def _target_or_none(text: str) -> tuple[str, int] | None:
    return None if text in (*NONE, "until it ends") else as_target(text)


def _checked(text: str, context: Context) -> tuple[str, ...]:
    """See that settings work, before they are written; what the trainers remark on them.

    Raises:
        InvalidFile: they do not.
    """
    from supervisor import doctor  # noqa: PLC0415 - reading commands stay quick
    from supervisor.config import Config  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / context.home.settings.name
        path.write_text(text, encoding="utf-8")
        config = Config(path)
        problems, remarks = doctor.check_options(config, context.home, config.campaign)
    if problems:
        raise InvalidFile([*problems, "nothing was written: mend that, or say it by an option"])
    return remarks


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet; none is left where that fails.

    Raises:
        Refused: it is there by now.
        OSError: it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError as error:
        raise Refused(f"{path} is there, and stays as it is") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _told(proposal: Proposal, context: Context, remarks: tuple[str, ...]) -> Iterator[str]:
    """What was written, what is to be looked at, and what comes next."""
    home = context.home
    yield f"{home.settings} runs {shlex.join(proposal.command)}"
    if proposal.checkpoints:
        yield f"it saves {proposal.checkpoints}"
    yield from (f"note: {remark}" for remark in (*proposal.remarks, *remarks))
    if context.options.reporting:
        yield _reporting(home.path)
    if (home.path / ".git").exists():
        yield f"for .gitignore: {' '.join(KEPT)}"
    where = shlex.quote(str(context.named_home))
    yield f"next: supervisor --home {where} run"


def _reporting(folder: Path) -> str:
    """Put the module by which a script tells its progress there."""
    from supervisor.programs import ROOT  # noqa: PLC0415 - only here

    content = (ROOT / "supervised.py").read_bytes()
    path = folder / "supervised.py"
    if path.exists():
        same = path.read_bytes() == content
        return f"{path} is there" + ("" if same else ", another one than ours, and stays as it is")
    _write_new(path, content)
    return f"{path} is what your script imports to report"

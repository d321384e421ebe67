"""What a program needs to see, and to write to: for a service that sees less than a person.

Nothing is started, and nothing has to be there: whoever asks may see less than the service will.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from trainers.command.options import Known, Options, environment_of, expanded, written
from trainers.command.process import is_interpreter
from trainers.contract import BadSpec, Need

FIRST_LINE_MAX_BYTES = 256
"""of a script, as the kernel reads it"""
INTERPRETERS_MAX = 4
"""scripts that run scripts, as the kernel has it"""
WORD = "a word of its command"
ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
"""what a shell takes for a variable, before the program"""
WILD = frozenset("*?[")
"""letters of a pattern"""


def needed(known: Known, options: Options) -> Iterator[Need]:
    """Everything that the options name, in their order.

    Raises:
        BadSpec: nothing is called like a word in braces.
    """
    cwd = known.work
    if options.cwd is not None and (named := known.fill(options.cwd, "cwd")) is not None:
        cwd = expanded(named, "cwd")
        yield _need(cwd, "options.cwd", "enter", cwd)
    variables: dict[str, str] = {}
    if options.env_file is not None and (named := known.fill(options.env_file, "env_file")):
        file = (cwd or Path()) / expanded(named, "env_file")
        yield _need(file, "options.env_file", "read", file.parent)
        with suppress(BadSpec):
            variables |= environment_of(file)
    filled = {key: known.fill(written(value), "env") for key, value in options.env.items()}
    variables |= {key: text for key, text in filled.items() if text is not None}
    for key, text in variables.items():
        yield from _named(text.split(os.pathsep), f"{key} of its environment")
    path = variables.get("PATH", os.environ.get("PATH", os.defpath))
    beside = [words for words in (options.evaluate, options.export) if words is not None]
    if options.shell:
        for words in (options.command, options.resume, *beside):
            yield from _of_line(known, words, cwd, path)
    else:
        yield from _of_words(known, (*options.command, *options.resume), cwd, path)
        for words in beside:
            yield from _of_words(known, words, cwd, path)
    if options.checkpoints is not None:
        pattern = known.fill(options.checkpoints, "checkpoints")
        if pattern is not None and cwd is not None:
            folder = _fixed(cwd / pattern)
            yield _need(folder, "options.checkpoints", "write", folder)


def _of_words(known: Known, words: Sequence[str], cwd: Path | None, path: str) -> Iterator[Need]:
    """What the words of a call name."""
    # Only `evaluate` and `resume` know all; what is known later is none of the machine's places.
    filled = [known.fill(word, "evaluate") for word in words]
    program, *rest = filled
    if program is None:
        return
    if "/" in program:
        named = (cwd or Path()) / expanded(program, "command")
    elif found := shutil.which(program, path=path):
        named = Path(found)
    else:
        named = Path(program)  # without a folder, it says that there is none
    yield from _program(named, "its program", path)
    script = rest[0] if rest else None
    if script is not None and cwd is not None and is_interpreter(named, script):
        yield _need(cwd / script, "its script", "read", (cwd / script).parent)
        rest = rest[1:]
    yield from _named(_with_values([word for word in rest if word is not None]), WORD)


def _of_line(known: Known, words: Sequence[str], cwd: Path | None, path: str) -> Iterator[Need]:
    """What a line for a shell names, as far as that can be told without running it."""
    filled = (known.fill(word, "evaluate", shlex.quote) for word in words)
    line = " ".join(word for word in filled if word is not None)
    split = shlex.shlex(line, posix=True, punctuation_chars=True)
    split.whitespace_split = True
    try:
        found = list(split)
    except ValueError:  # the shell will say what is wrong with it
        found = line.split()
    before = (word for word in found if word != "exec" and not ASSIGNED.match(word))
    program = next(before, "")
    if "/" in program:
        yield from _program((cwd or Path()) / expanded(program, "command"), "its program", path)
        found.remove(program)
    # Of `~` a shell makes the folder of its own user.
    texts = [str(Path(one).expanduser()) if one.startswith("~/") else one for one in found]
    yield from _named(_with_values(texts), WORD)


def _program(path: Path, what: str, search: str) -> Iterator[Need]:
    """A program, what interprets it, and what a Python of a virtual environment is made from."""
    for _ in range(INTERPRETERS_MAX):
        yield _need(path, what, "run", _whole(path))
        yield from _beneath(path)
        interpreter = _interpreter(path, search)
        if interpreter is None:
            return
        what, path = f"the interpreter in the first line of {path}", interpreter


def _interpreter(script: Path, search: str) -> Path | None:
    """What the first line of a script names, behind `env`, too; None: it names none."""
    try:
        if not script.is_file():  # a pipe would be waited for
            return None
        with script.open("rb") as file:
            first = file.read(FIRST_LINE_MAX_BYTES).partition(b"\n")[0]
    except OSError:
        return None
    if not first.startswith(b"#!"):
        return None
    words = os.fsdecode(first[2:]).split()
    if words and Path(words[0]).name == "env":
        named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        found = shutil.which(named[0], path=search) if named else None
        return Path(found) if found else None
    return Path(words[0]) if words else None


def _beneath(python: Path) -> Iterator[Need]:
    """The installation that the Python of a virtual environment is a link into."""
    if not python.name.startswith("python"):
        return
    homes = {python.resolve().parent}
    with suppress(OSError, UnicodeDecodeError):
        for line in (python.parents[1] / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                homes.add(Path(value.strip()))
    for home in sorted(homes - {python.parent}):
        whole = home.parent if home.name == "bin" else home
        what = f"the Python that {_whole(python)} is made from"
        yield _need(whole, what, "enter", whole)


def _whole(program: Path) -> Path:
    """The folder without which a program is not whole."""
    above = program.parent.parent
    environment = any(os.access(above / name, os.F_OK) for name in ("pyvenv.cfg", "conda-meta"))
    # Of one that cannot be seen from here, the name has to tell.
    if program.parent.name == "bin" and (environment or program.name.startswith("python")):
        return above
    return program.parent


def _need(
    path: Path, what: str, use: Literal["run", "enter", "read", "write", "named"], within: Path
) -> Need:
    """A need, whose path a person can read: `..` is of a relative word, and no link."""
    return Need(path=os.path.normpath(path), what=what, use=use, within=os.path.normpath(within))


def _named(texts: Sequence[str], what: str) -> Iterator[Need]:
    """Those of the texts that are whole paths, and no part of an address such as `https://...`."""
    for text in texts:
        if text.startswith("/") and not text.startswith("//") and text != "/":
            path = Path(text)
            lies_in = path.parent if path.suffix and not _is_folder(path) else path
            yield _need(path, what, "named", lies_in)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # nobody here may look
        return False


def _with_values(words: Sequence[str]) -> list[str]:
    """The words, and of each `--name=value` the value."""
    return [part for word in words for part in (word, word.partition("=")[2])]


def _fixed(pattern: Path) -> Path:
    """The folder in which all lies that a pattern can mean."""
    folder = Path("/")
    for part in pattern.parts[1:-1]:
        if WILD & set(part):
            break
        folder /= part
    return folder

"""Settings from a scheduler's document: read, looked at, appended to what is there."""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modes.toml_file import InvalidFile
from supervisor.config import Config
from supervisor.context import Context, Refused
from supervisor.scheduler_config import READ_MAX_BYTES, BadDocument, Brought, brought, parsed
from trainers import durable

SETTINGS_MODE = 0o644
PRIVATE = 0o600
HEADING = "# Brought over from {} by `supervisor import-settings`.\n\n"


def import_settings(context: Context) -> int:
    """Bring the settings of a document over into those of the home.

    Raises:
        BadDocument: it cannot be used; the message names its keys, and never a value.
        Refused: something is there already that it would have to change.
        InvalidFile: what would come of it are no settings.
        OSError: something cannot be read or written.
    """
    home, options = context.home, context.options
    if context.config_named:
        raise Refused("import-settings writes supervisor.toml in the home: name no other settings")
    made = _read(options.document, options.program, skip_unknown=options.skip_unknown)
    old = home.settings.read_bytes() if os.path.lexists(home.settings) else None
    if old is not None:
        Config(home.settings)  # what is wrong with it already is told in its own name
    text = HEADING.format(_plain(options.document.name)) + _text(made)
    _refuse_roots(home.settings)
    _refuse_there(made, old, home.settings)
    fresh = {home.path / file: secret for file, secret in made.passwords.items()}
    for path, secret in list(fresh.items()):
        if os.path.lexists(path):
            _refuse_other(path, secret)
            del fresh[path]
    new = text.encode() if old is None else _ended(old) + b"\n" + text.encode()
    if not options.dry_run:
        home.make()
    remarks = _checked(new, context)
    if options.dry_run:
        _tell((*made.told, *remarks, f"would be written to {home.settings}:", "", text.rstrip()))
        return 0
    with ExitStack() as undone:
        for path, secret in fresh.items():
            _put(path, secret.encode(), PRIVATE)
            undone.callback(path.unlink, missing_ok=True)
        _refuse_changed(home.settings, old)
        mode = SETTINGS_MODE if old is None else stat.S_IMODE(home.settings.stat().st_mode)
        _put(home.settings.resolve(), new, mode)
        undone.pop_all()
    if made.passwords and (home.path / ".git").exists():
        remarks += (f"for .gitignore: {' '.join(f'/{file}' for file in made.passwords)}",)
    where = shlex.quote(str(home.path))
    _tell((*made.told, *remarks, f"written: {home.settings}"))
    _tell((f"next: supervisor --home {where} analyze-usage --dry-run",))
    return 0


def _read(path: Path, program: str | None, *, skip_unknown: bool) -> Brought:
    """What a document becomes."""
    try:
        words = None if program is None else tuple(shlex.split(program))
    except ValueError as error:
        raise Refused(f"--command: {error}") from None
    if words == ():
        raise Refused("--command: name a program")
    try:
        raw = durable.read(path, READ_MAX_BYTES, follow=True)
        made = brought(parsed(raw), words, skip_unknown=skip_unknown)
    except BadDocument as error:
        raise BadDocument(tuple(f"{path}: {problem}" for problem in error.problems)) from None
    except durable.UnreadableFile as error:
        raise BadDocument((str(error),)) from None
    return made


def _text(made: Brought) -> str:
    """What is added to the settings."""
    return "\n".join((*made.tables.values(), *filter(None, (made.comments,))))


def _refuse_roots(settings: Path) -> None:
    """See that settings of a service, which are root's, are not written with its account's rights.

    Raises:
        Refused: they would be.
    """
    place = settings.resolve().parent
    if place.is_dir() and not os.access(place, os.W_OK, effective_ids=True):
        raise Refused(
            f"{settings} leads to {place}, where its account may not write: bring them over into "
            "another home (--home FOLDER), and copy what is there; nothing was written"
        )


def _refuse_there(made: Brought, old: bytes | None, settings: Path) -> None:
    """See that no table that is to be written is there already.

    Raises:
        Refused: one is.
    """
    if old is None:
        return
    there = tomllib.loads(old.decode("utf-8-sig"))
    problems = []
    for table, keys in made.wanted_by.items():
        # What all runs have in common would become part of those that are there.
        found = "run" if table == "campaign" and table not in there else table
        if found in there:
            problems.append(
                f"{settings} has [{found}] already, which stays as it is: take it out, or take "
                f"{', '.join(keys)} out of the document"
            )
    if problems:
        raise Refused("\n".join((*problems, "nothing was written")))


def _refuse_other(path: Path, secret: str) -> None:
    """See that a file of a password holds this very one, closed to others.

    Raises:
        Refused: it does not.
    """
    try:
        with durable.open_regular(path) as file:
            closed = not os.fstat(file.fileno()).st_mode & 0o077
            same = file.read(READ_MAX_BYTES).rstrip(b"\r\n") == secret.encode()
    except OSError:
        closed = same = False
    if not (closed and same):
        why = "holds another password" if closed else "is not closed to others"
        raise Refused(f"{path} is there and {why}: look at it and remove it; nothing was written")


def _refuse_changed(path: Path, old: bytes | None) -> None:
    """See that settings are still those that were looked at.

    Raises:
        Refused: somebody else has written them.
    """
    now = path.read_bytes() if os.path.lexists(path) else None
    if now != old:
        raise Refused(f"{path} was changed meanwhile: try again; nothing was written")


def _checked(new: bytes, context: Context) -> tuple[str, ...]:
    """See that settings work, by what reads them, before they are written; what is remarked.

    Raises:
        InvalidFile: they do not.
    """
    from supervisor import doctor  # noqa: PLC0415 - what is refused before is refused quickly

    with _candidate(context.home.settings, new) as path:
        try:
            config = Config(path)
            problems, remarks = doctor.check_options(config, context.home, config.campaign)
        except InvalidFile as error:
            own = str(context.home.settings)
            problems = tuple(line.replace(str(path), own) for line in error.problems)
            raise InvalidFile([*problems, "nothing was written"]) from None
    if problems and context.options.program is not None:
        raise InvalidFile([*problems, "nothing was written"])
    # The program of the document, which nobody has named, may come later than its settings.
    return tuple(f"note: {line}" for line in (*problems, *remarks))


@contextmanager
def _candidate(settings: Path, content: bytes) -> Iterator[Path]:
    """A file with that content where the settings lie, as long as it is looked at.

    Paths in it lead where they will lead from the settings.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = settings.parent if settings.parent.is_dir() else Path(elsewhere)
        path = folder / f".{settings.name}.new"
        durable.fill(path, content, sync=False)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _put(path: Path, content: bytes, mode: int) -> None:
    """A file with these rights from its first moment, whole or as it was before."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    durable.sync_folder(path.parent)


def _ended(text: bytes) -> bytes:
    """A text that ends with its last line."""
    return text if text.endswith(b"\n") else text + b"\n"


def _plain(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _tell(lines: tuple[str, ...]) -> None:
    for line in lines:
        print(line)

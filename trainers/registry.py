"""Which trainers there are: modules and packages that define `train(session)`.

They are looked for in this folder, in the user's own (`trainers.yours`), and among the entry points
of packages that are installed. What is found is read and not imported, so that one trainer which is
broken, hostile or slow to import is no trouble for another.

A name of ours is nobody else's. In the user's folder it is refused, since a run must not be trained
by another program than before only because a newer version has brought one of that name. An entry
point of that name is passed over, and the list of trainers says so. The user's folder goes before
entry points: what somebody puts there is what they mean.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from trainers import durable, options
from trainers.checkpoint import EXHAUSTED
from trainers.contract import NAME, TRAINERS_DIR, BadSpec, Need, Score, Share, Spec, Tuning

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from trainers.session import Session

_PARSING = threading.Lock()
"""Python 3.11 counts how deep it is for all threads together, and ends with SystemError where two
parse at once (python/cpython#106905)"""
FOLDER = Path(__file__).parent
"""where our own are"""
YOURS = "trainers.yours"
"""the package that the user's folder is"""
GROUP = "training_supervisor.trainers"
"""of entry points: the name of a trainer, and its module"""
SHIPPED, OWN = "the supervisor", "trainers_dir"
"""who has put a trainer where it is; all others are packages"""
UNIT = "steps"
"""what a trainer's step is where it does not say"""
SOURCE_MAX_BYTES = 2**20
"""of a trainer's file: to read one as Python takes a hundred times its size in memory"""
ABOUT_MAX_CHARS = 200


class Recording(NamedTuple):
    """A film of greedy play."""

    content: bytes
    """a GIF"""
    width: int
    height: int
    pictures: int
    seconds: float
    """how long it plays, which is how long was played"""
    returns: list[float]
    """of the episodes that are over"""
    return_so_far: float | None
    """of the episode that was cut off; None: the last one is over"""


class Imported(NamedTuple):
    """What a trainer makes of a checkpoint that it has not saved itself."""

    files: Sequence[tuple[str, bytes | Path]]
    """name and content of each file, as for `session.save`, but one that is a path is copied"""
    step: int | None
    """where its training was; None: it does not tell"""
    score: Score | None = None
    """by what checkpoints of the run are compared, and how good it is where that is known"""
    episodes: int = 0
    remarks: tuple[str, ...] = ()
    """what a person should know of it, a line each"""


class Trainer(Protocol):
    """What a trainer's module, or package, offers. All but `train` may be absent.

    Importing it must be cheap: heavy libraries are imported inside the functions that need them, so
    that a spec can be checked in milliseconds. Beside these functions it may say, each at the top:

    * `Options`: a `msgspec.Struct` that forbids unknown fields, what can be set in `options`.
      Without it, and without a `check`, the trainer takes no options.
    * `Load`: likewise, what a mode may lay upon it in `[load.NAME]` of its file. Without it, it
      takes no load: slots, threads and GPUs are what a mode gives any trainer. `Load = dict`: it
      takes whatever a mode says.
    * `UNIT = "points"`: what its step is; "steps" where it does not say; "any": whatever the target
      counts.
    * `NAME = "pi"`: its name, which must be the one that it is found by.
    """

    def check(self, spec: Spec) -> None:
        """Refuse what its `Options` let pass and can never work; nothing heavy is imported.

        Raises:
            BadSpec: the options are not this trainer's, or an extra is not installed.
        """

    def remark(self, spec: Spec) -> str | None:
        """What a person should know of a valid spec before it is trained; may take a second."""

    def fits(self, spec: Spec, checkpoint: Path) -> None:
        """Refuse a spec under which nobody can go on from that checkpoint of the run.

        It is asked before options that have changed are in force, and so before anything stops.

        Raises:
            BadSpec: the message says what the two differ in.
        """

    def needs(self, spec: Spec) -> Sequence[Need]:
        """What of this machine a run needs to see or to write to beside what is its own.

        Asked for a service that sees less than a person: nothing has to be there, or readable.
        """

    def train(self, session: Session) -> None:
        """Learn until the target is reached or a stop is requested."""

    def warm_up(self, specs: Sequence[Spec]) -> Iterator[None]:
        """Load what attempts will need, in a process that trainers are forked from.

        First what every attempt needs, up to the first `yield`; then, piece by piece, what runs
        like these need. Each piece takes well under a second, since whoever asks for a trainer
        meanwhile waits for it. No thread may be left behind, and no GPU touched.
        """

    def probe(self, shares: Sequence[Share]) -> list[Tuning]:
        """Which way of calculating is the quickest here under each load, found within 20 s.

        Raises:
            BadSpec: a load is not this trainer's.
        """

    def evaluate(self, spec: Spec, checkpoint: Path, episodes: int) -> list[float]:
        """The undiscounted returns of `episodes` whole episodes played greedily."""

    def export(self, spec: Spec, checkpoint: Path, out: Path) -> None:
        """Write `out`, a file or a folder that is not there yet, for whoever uses what was learnt.

        Raises:
            BadSpec: nothing can be written of it.
        """

    def predict(self, spec: Spec, checkpoint: Path, rows: Path, out: Path) -> int:
        """Write forecasts of the rows of a file into `out`, in the format that its suffix names.

        Returns:
            How many there are.

        Raises:
            BadSpec: nothing can be forecast of these rows, or not in that format.
        """

    def record(self, spec: Spec, checkpoint: Path, *, episodes: int, seconds: float) -> Recording:
        """A film of greedy play: of so many episodes, or so long, whichever is over first."""

    def import_checkpoint(self, spec: Spec, path: Path) -> Imported:
        """What lies at `path`, a file or a folder, as a checkpoint; no code from it is run.

        Raises:
            BadSpec: it is nothing that this trainer could go on from; the message says why.
        """

    def begin_from(self, spec: Spec, checkpoint: Path) -> Iterable[tuple[str, bytes]]:
        """Files of a checkpoint of step 0: a run that begins with what another one has learnt.

        Its steps and episodes are counted from 0, whatever those of the other one were.

        Raises:
            BadSpec: a run of this spec cannot begin with that checkpoint.
        """


class Found(NamedTuple):
    """A trainer, as its source says it is."""

    name: str
    origin: str
    path: Path
    """its file; of a package the `__init__.py`"""
    module: str
    unit: str
    about: str
    """the first sentence of its documentation"""


class NoTrainer(BadSpec):
    """Nothing here trains under that name."""

    def __init__(self, name: str) -> None:
        there = names()
        close = difflib.get_close_matches(name, there, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(f"there is no trainer {name!r}{hint}; there are: {', '.join(there)}")


class BrokenTrainer(BadSpec):
    """What was meant to be a trainer, and cannot be used; other trainers can."""

    def __init__(
        self, name: str, path: Path, why: str, line: int | None = None, *, origin: str = SHIPPED
    ) -> None:
        self.name, self.path, self.origin = name, path, origin
        where = f"{path}, line {line}" if line else f"{path}"
        super().__init__(f"the trainer {name!r} cannot be used: {where}: {why}")


class FolderAway(durable.UnreadableFile):
    """The user's folder cannot be looked at, which may be over at the next start."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(folder, f"the folder of trainers_dir cannot be read: {error.strerror}")
        self.errno = error.errno


def own_folder() -> Path | None:
    """Where the user's own trainers lie; None: the settings name no such folder."""
    named = os.environ.get(TRAINERS_DIR)
    return Path(named) if named else None


def names() -> list[str]:
    """The trainers' names, found without importing any of them; not those of broken ones."""
    return sorted({one.name for one in everything() if isinstance(one, Found)})


def everything() -> list[Found | BrokenTrainer | FolderAway]:
    """All trainers, and what is wrong where there may be others."""
    shipped = _all_in(FOLDER, "trainers", SHIPPED)
    ours = {one.name: one.path for one in shipped}
    found: list[Found | BrokenTrainer | FolderAway] = list(shipped)
    there = set(ours)
    folder = own_folder()
    if folder is not None:
        try:
            _look_at(folder)
            for one in _all_in(folder, YOURS, OWN):
                found.append(_taken(one, ours[one.name]) if one.name in ours else one)
                there.add(one.name)
        except FolderAway as error:
            found.append(error)
    points = _entry_points()
    for name in dict.fromkeys(point.name for point in points):
        same = [point for point in points if point.name == name]
        if name in ours:
            found += [_taken(_meant(point), ours[name]) for point in same]
        elif name not in there:
            try:
                found.append(_of_package(same))
            except BrokenTrainer as error:
                found.append(error)
    return found


def find(name: str) -> Found:
    """The trainer called `name`, which is read and not imported.

    Raises:
        NoTrainer: there is none.
        BrokenTrainer: it cannot be read, says what cannot be, or has the name of another.
        FolderAway: the user's folder may have it, and cannot be looked at.
    """
    # Not looked for in `everything()`, which reads all of them.
    if not NAME.fullmatch(name):
        raise NoTrainer(name)
    shipped = _shipped(FOLDER, name)
    folder = own_folder()
    own: Found | BrokenTrainer | None = None
    if folder is not None:
        if shipped is None:
            _look_at(folder)
        try:
            own = _in_folder(folder, YOURS, OWN, name)
        except BrokenTrainer as error:
            own = error
    if shipped is not None and own is not None:
        raise _taken(own, shipped.path)
    if isinstance(own, BrokenTrainer):
        raise own
    found = shipped or own
    if found is None and (points := _entry_points(name)):
        found = _of_package(points)
    if found is None:
        raise NoTrainer(name)
    return found


def load(name: str) -> Trainer:
    """The trainer called `name`.

    Raises:
        NoTrainer: there is none.
        BrokenTrainer: it cannot be read or imported, or lacks what a trainer must have.
        FolderAway: the user's folder may have it, and cannot be looked at.
    """
    found = find(name)
    try:
        module = importlib.import_module(found.module)
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in EXHAUSTED:
            raise  # the machine's trouble, which may be over at the next start
        raise _broken(found, error) from error
    for said in ("Options", "Load"):
        kind = getattr(module, said, None)
        if said == "Load" and kind is dict:
            continue
        if kind is not None and not options.is_strict(kind):
            why = f"its {said} must be a msgspec.Struct with forbid_unknown_fields=True"
            raise BrokenTrainer(name, found.path, why, origin=found.origin)
    return cast("Trainer", module)


def broken(name: str, error: BaseException) -> Exception:
    """What to tell of an error in the code of the trainer called `name`."""
    try:
        return _broken(find(name), error)
    except (BadSpec, FolderAway) as other:  # it was changed meanwhile
        return other


def _broken(found: Found, error: BaseException) -> BrokenTrainer:
    path, line = _place_of(error, found.path)
    return BrokenTrainer(found.name, path, _in_words(error), line, origin=found.origin)


@functools.lru_cache(maxsize=100)
def _shipped(folder: Path, name: str) -> Found | None:
    """One of our own, which changes as little while a process lives as what it has imported."""
    return _in_folder(folder, "trainers", SHIPPED, name)


def _taken(one: Found | BrokenTrainer, by: Path) -> BrokenTrainer:
    why = f"the supervisor has a trainer of that name, {by}: give this one another"
    return BrokenTrainer(one.name, one.path, why, origin=one.origin)


# In a folder


def _look_at(folder: Path) -> None:
    """See that a folder can be searched.

    Raises:
        FolderAway: it cannot.
    """
    try:
        os.stat(folder / "__init__.py")  # noqa: PTH116 - may be missing, as long as one may look
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FolderAway(folder, error) from error
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise FolderAway(folder, error) from error


def _all_in(folder: Path, package: str, origin: str) -> list[Found | BrokenTrainer]:
    """Every trainer of a folder, and what was meant to be one."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise FolderAway(folder, error) from error
    called = {entry.stem for entry in entries if entry.suffix == ".py"}
    called |= {entry.name for entry in entries if os.path.lexists(entry / "__init__.py")}
    found: list[Found | BrokenTrainer] = []
    for name in sorted(called):
        if name.startswith(("_", ".")):
            continue
        try:
            one = _in_folder(folder, package, origin, name)
        except BrokenTrainer as error:
            found.append(error)
            continue
        if one is not None and not NAME.fullmatch(name):
            why = "its name must be letters, digits, '-' and '_', at most 64"
            found.append(BrokenTrainer(name, one.path, why, origin=origin))
        elif one is not None:
            found.append(one)
    return found


def _in_folder(folder: Path, package: str, origin: str, name: str) -> Found | None:
    """The trainer of that name in a folder; None: nothing there trains under that name.

    Raises:
        BrokenTrainer: it cannot be read, or there are two.
    """
    places = (folder / f"{name}.py", folder / name / "__init__.py")
    there = [path for path in places if os.path.lexists(path)]
    if not there:
        return None
    if len(there) > 1:
        why = f"{there[1]} has the same name: give one of them another"
        raise BrokenTrainer(name, there[0], why, origin=origin)
    return _read(name, origin, there[0], f"{package}.{name}")


# Of a package that is installed


def _entry_points(name: str | None = None) -> list[EntryPoint]:
    """Entry points of our group; a package that is installed twice counts once, as it is imported.

    Each package is read apart: one that is damaged hides its own alone.
    """
    from importlib import metadata  # noqa: PLC0415 - 20 ms that most starts need not pay

    found: dict[str | None, list[EntryPoint]] = {}
    for package in metadata.distributions():
        with suppress(OSError, ValueError, AttributeError, LookupError):
            if package.name not in found:
                found[package.name] = list(package.entry_points.select(group=GROUP))
    points = [point for of_one in found.values() for point in of_one if name in (None, point.name)]
    return sorted(points, key=lambda point: (point.name, point.value))


def _meant(point: EntryPoint) -> BrokenTrainer:
    return BrokenTrainer(point.name, Path(point.value), "", origin=_origin(point))


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "a package"


def _of_package(points: Sequence[EntryPoint]) -> Found:
    """The trainer that entry points of one name lead to.

    Raises:
        BrokenTrainer: they lead to none, or are several.
    """
    point, *others = points
    name, origin, value = point.name, _origin(point), Path(point.value)
    why = None
    if others:
        why = f"{' and '.join(map(_origin, points))} have a trainer of that name: uninstall one"
    elif not NAME.fullmatch(name):
        why = "its name must be letters, digits, '-' and '_', at most 64"
    elif not all(part.isidentifier() for part in point.value.split(".")):
        why = "an entry point of a trainer names a module, such as package.module"
    if why is not None:
        raise BrokenTrainer(name, value, why, origin=origin)
    path = _source_of(point.value)
    if path is None or path.suffix != ".py":
        why = f"the entry point of {origin} names no module with Python source"
        raise BrokenTrainer(name, value, why, origin=origin)
    found = _read(name, origin, path, point.value)
    if found is None:
        raise BrokenTrainer(name, path, "it defines no train(session)", origin=origin)
    return found


def _source_of(module: str) -> Path | None:
    """The file of a module, found without importing even the packages that it is in."""
    places: Sequence[str] | None = None
    file: str | None = None
    name = ""
    for part in module.split("."):
        if name and places is None:
            return None
        name = f"{name}.{part}" if name else part
        look = [finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec")]
        spec = next((spec for find in look if (spec := find(name, places, None))), None)
        if spec is None:
            return None
        places, file = spec.submodule_search_locations, spec.origin
    return Path(file) if file else None


# What a source says


def _read(name: str, origin: str, path: Path, module: str) -> Found | None:
    """What the source of a trainer says; None: it is no trainer's.

    Raises:
        BrokenTrainer: it cannot be read as Python, or says what cannot be.
    """
    try:
        tree = _parsed(path)
    except _Unread as error:
        raise BrokenTrainer(name, path, str(error), error.line, origin=origin) from error
    if not _trains(tree, in_package=path.name == "__init__.py"):
        return None
    said = {"NAME": name, "UNIT": UNIT}
    for node in tree.body:
        for key in said:
            value = _set_to(node, key)
            if value is None:
                continue
            text = value.value if isinstance(value, ast.Constant) else None
            if not isinstance(text, str) or not NAME.fullmatch(text):
                why = f"{key} must be a name in quotes: letters, digits, '-' and '_'"
                raise BrokenTrainer(name, path, why, node.lineno, origin=origin)
            said[key] = text
    if said["NAME"] != name:
        why = f"it says NAME = {said['NAME']!r} and is found as {name!r}: rename one of them"
        raise BrokenTrainer(name, path, why, origin=origin)
    about = " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())
    about = about.partition(". ")[0].removesuffix(".")[:ABOUT_MAX_CHARS]
    return Found(name, origin, path, module, said["UNIT"], about)


class _Unread(Exception):
    """A file that is no Python source; the message says why."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


def _parsed(path: Path) -> ast.Module:
    try:
        # With links: a person may keep trainers elsewhere.
        content = durable.read(path, SOURCE_MAX_BYTES, follow=True)
        with _PARSING:
            return ast.parse(content)
    except durable.UnreadableFile as error:
        raise _Unread(str(error).removeprefix(f"{path}: ")) from error
    except OSError as error:
        raise _Unread(error.strerror or str(error)) from error
    except (SyntaxError, ValueError) as error:  # the latter: a NUL, in older Pythons
        raise _Unread(_in_words(error), _place_of(error, path)[1]) from error
    except (RecursionError, MemoryError) as error:
        raise _Unread("it is nested too deeply") from error


def _trains(tree: ast.Module, *, in_package: bool) -> bool:
    """Whether it defines `train`; a package may have it of one of its modules."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "train":
            return True
        if isinstance(node, ast.ImportFrom) and in_package:
            known = {alias.asname or alias.name for alias in node.names}
            if "train" in known:
                return True
    return False


def _set_to(node: ast.stmt, name: str) -> ast.expr | None:
    """What a statement sets the variable `name` to, if it does."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return None
    named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return node.value if named else None


def _in_words(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {said}".split())


def _place_of(error: BaseException, path: Path) -> tuple[Path, int | None]:
    """The file and the line of a trainer at which an error came up; of a package, in any file."""

    def is_its(file: str) -> bool:
        if path.name != "__init__.py":
            return file == str(path)
        return Path(file).is_relative_to(path.parent)

    if isinstance(error, SyntaxError):
        if error.filename in (None, "<unknown>"):
            return path, error.lineno
        if is_its(error.filename):
            return Path(error.filename), error.lineno
    steps = traceback.extract_tb(error.__traceback__)
    step = next((step for step in reversed(steps) if is_its(step.filename)), None)
    return (path, None) if step is None else (Path(step.filename), step.lineno)

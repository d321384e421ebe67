"""The user's own function on a table: called, held to its promise, and looked at for peeking ahead.

`preprocess = "module:function"` names it. It lies in the folder of the user's own trainers, and so
is code that runs with all that a trainer may do. It gets each column with numbers or text, and that
of the times, as a dict of NumPy arrays, and returns these, or others, of the same rows: a dict, or
whatever has `items()` as a DataFrame of pandas has.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainers import durable
from trainers.checkpoint import EXHAUSTED
from trainers.registry import SOURCE_MAX_BYTES, YOURS, own_folder
from trainers.tables import leakage
from trainers.tables.config import Config
from trainers.tables.errors import ConfigValidationError
from trainers.tables.features import Feature
from trainers.tables.leakage import Finding
from trainers.tables.table import Column, Table
from trainers.tables.times import told

FIELD = "preprocess"
CUTS = (0.02, 0.1, 0.35, 0.7, 0.95)
"""of the rows, about: what a function makes of so many must be what it makes of these among all.
The fewest are so few that the highest value of all rows is hardly ever among them"""
MUST_WORK = 0.5
"""of the rows: of fewer a function may be unable to make anything"""
GAPS_MAX = 8
"""columns with missing values at one of which the table is cut, too, which shows who fills them
from what comes later"""
EXACT = 1e-9
"""of a column's deviation: what sums that are added up otherwise may differ by"""

Columns = dict[str, Column]

_NOTHING = Column(np.empty(0))
"""a column that is not there"""


class Function:
    """A function of the user's."""

    def __init__(self, asked: str) -> None:
        """Find it; what it is made of is hashed, and its module is imported.

        Raises:
            ConfigValidationError: it is not there, or importing it fails.
        """
        module, _, name = asked.partition(":")
        folder = own_folder()
        if folder is None:
            raise _wrong("It lies in the folder that `trainers_dir` of the settings names: none is")
        self._folder = folder
        sources = dict(_sources(folder, module))
        digest = hashlib.sha256()
        for path in sorted(sources):
            digest.update(f"{path.relative_to(folder)}\0{len(sources[path])}\0".encode())
            digest.update(sources[path])
        self.asked = asked
        self.sha256 = digest.hexdigest()
        """of its module's file, and of those beside it that this one imports"""
        loaded = self._guarded(lambda: importlib.import_module(f"{YOURS}.{module}"))
        self._function = getattr(loaded, name, None)
        if not callable(self._function):
            there = [key for key, value in vars(loaded).items() if callable(value)]
            close = difflib.get_close_matches(name, there, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise _wrong(f"{module} has no function {name}{hint}")

    def __call__(self, table: Table, time: str, wanted: Container[str] | None = None) -> Columns:
        """What it makes of a table's columns.

        Args:
            table: the rows.
            time: the column with their times.
            wanted: what it makes beside these is left; None: nothing is.

        Raises:
            ConfigValidationError: it fails, or what it returns is not of the same rows.
        """
        returned = self._guarded(lambda: self._function(_all_given(table, time)))  # type: ignore[misc]
        if not hasattr(returned, "items"):
            raise _wrong(f"{self.asked} must return the columns, and returns {_kind(returned)}")
        made = {str(name): np.asarray(values) for name, values in returned.items()}
        for name, values in made.items():
            if values.shape != table.times.shape:
                what = f"{len(values):,} rows" if values.ndim == 1 else "no list"
                raise _wrong(
                    f"{self.asked} gets {len(table.times):,} rows, and returns {what} of {name}: "
                    "each row must stay, in its place"
                )
        if time not in made:
            raise _wrong(f"{self.asked} must return the times, {time}, as they are")
        if not _same_times(made.pop(time), table.times):
            raise _wrong(f"{self.asked} must leave the times, {time}, as they are")
        del returned  # it may be much
        for name in [name for name in made if wanted is not None and name not in wanted]:
            del made[name]
        return {name: _taken(self.asked, name, values) for name, values in made.items()}

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """What a call of the user's code returns; what it raises is told with its line."""
        try:
            return call()
        except (Exception, SystemExit) as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in EXHAUSTED:
                raise  # the machine's trouble, which may be over at the next start
            said = error.msg if isinstance(error, SyntaxError) else str(error)
            words = " ".join(f"{type(error).__name__}: {said}".split())
            raise _wrong(f"{self._place_of(error)}: {words}") from error

    def _place_of(self, error: BaseException) -> str:
        """The user's own line at which an error came up."""
        steps = [(step.filename, step.lineno) for step in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError):
            steps.append((error.filename or "", error.lineno))
        for file, line in reversed(steps):
            if Path(file).is_relative_to(self._folder):
                return f"{Path(file).relative_to(self._folder)}, line {line}"
        return self.asked


def look(
    function: Function,
    config: Config,
    table: Table,
    made: Columns,
    plan: Sequence[Feature],
    time: str,
    working: Callable[[], None],
) -> list[Finding]:
    """See that what a function makes of a row depends on nothing that nobody knows by then.

    It is called again: with the same rows, with the first of them alone, and with other values of
    the target within the horizon before the last of these.

    Args:
        function: it.
        config: what is asked for.
        table: the rows that it was given.
        made: what it has made of them, as far as that is used.
        plan: of the features.
        time: the column with the times.
        working: is called every now and then meanwhile.

    Returns:
        What was found, and is allowed.

    Raises:
        ConfigValidationError: something is found that nobody has allowed; or it does not make the
            same of the same, or fails on the first of the rows.
    """
    for name in config.allow_leakage:
        if name not in config.features and name not in made:
            what = f"{name} is none of the features, and none of the columns that they are made of"
            raise ConfigValidationError("allow_leakage", what)
    _check_repeats(function, table, made, time)
    # Only a lag, or what is rolled, of a column is older than its row.
    in_row = {feature.column or "" for feature in plan if feature.kind == "column"}
    in_row -= {config.target, config.labels}  # which are named where they are features
    found: dict[tuple[str, str], Finding] = {}
    for cut in _cuts(table, config.random_seed):
        working()
        first = _first(table, cut)
        try:
            some = function(first, time, made)
        except ConfigValidationError as error:
            if cut < MUST_WORK * len(table.times):
                continue  # perhaps they are too few for it
            why = str(error.details["error"])
            raise _wrong(f"{why} (of the first {cut:,} rows, as if no other were known)") from error
        whole = {name: _first_of(column, cut) for name, column in made.items()}
        for one in _looking_ahead(config, first, whole, some):
            found.setdefault((one.feature, one.kind), one)
        now = {name: some.get(name, _NOTHING) for name in sorted(in_row)}
        del some
        for one in _knowing(function, config, table, first, now, time):
            found.setdefault((one.feature, one.kind), one)
    leakage.refuse(list(found.values()), FIELD)
    return [*_on_changed(function, config, table, made), *found.values()]


def _on_changed(
    function: Function, config: Config, table: Table, made: Columns
) -> Iterator[Finding]:
    """What a function has made another thing of, by which the model is judged."""
    for name in (config.target, config.labels):
        if name in made and name in table.columns and name is not None:
            row = _differs(table.columns[name], made[name], exactly=True)
            if row is not None:
                line = (
                    f"{function.asked} changes {name}, as at {told(int(table.times[row]))}: all "
                    "errors are those of what it makes of it"
                )
                yield Finding(feature=name, kind="target", severity="warning", line=line)


def _check_repeats(function: Function, table: Table, made: Columns, time: str) -> None:
    again = function(table, time, made)
    for name, column in made.items():
        if (row := _differs(column, again.get(name), exactly=True)) is not None:
            at = told(int(table.times[row]))
            raise _wrong(f"{function.asked} makes another {name} at each call, as at {at}")


def _looking_ahead(config: Config, first: Table, whole: Columns, some: Columns) -> list[Finding]:
    """Columns that are others among all rows than where no later ones are known."""
    found = []
    for name, column in whole.items():
        row = _differs(column, some.get(name), exactly=False)
        if row is not None:
            line = (
                f"{name} looks ahead: at {told(int(first.times[row]))} it is another when the rows "
                f"after {told(int(first.times[-1]))} are taken away"
            )
            found.append(_finding(config, name, "ahead", line))
    return found


def _knowing(
    function: Function, config: Config, whole: Table, first: Table, some: Columns, time: str
) -> list[Finding]:
    """Columns that change with what nobody knows at the time of their row."""
    found = []
    for judged, changed, begin in _changed(config, whole, first):
        other = function(changed, time, some)
        for name, column in some.items():
            ours, theirs = _last_of(column, begin), _last_of(other.get(name, _NOTHING), begin)
            row = _differs(ours, theirs, exactly=True)
            if row is not None:
                found.append(_on_judged(config, name, judged, int(first.times[begin + row])))
    return found


def _sources(folder: Path, module: str) -> Iterator[tuple[Path, bytes]]:
    """The file of a module of a folder, and those of modules there that are imported by it.

    Raises:
        ConfigValidationError: the module is not there, or cannot be read.
    """
    left, seen = [module], set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        place = folder.joinpath(*name.split("."))
        paths = (place / "__init__.py", place.with_name(f"{place.name}.py"))
        path = next((one for one in paths if one.is_file()), None)
        if path is None:
            if name == module:
                raise _wrong(f"There is no {paths[1].relative_to(folder)} in {folder}")
            continue  # what is within a module, or a module that is missing: importing tells
        try:
            content = durable.read(path, SOURCE_MAX_BYTES, follow=True)
            tree = ast.parse(content)
        except (durable.UnreadableFile, OSError) as error:
            raise _wrong(f"{path.relative_to(folder)}: {error}") from error
        except (SyntaxError, ValueError, RecursionError):
            tree = ast.Module([], [])  # which importing tells
        yield path, content
        left += [name.rpartition(".")[0]] if "." in name else []
        left += _imported(tree, name, is_package=path.name == "__init__.py")


def _imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """Names in the folder that a module imports, and perhaps some of what is within modules."""
    within = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [YOURS, *within[: len(within) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            names = [".".join(base), *(".".join([*base, alias.name]) for alias in node.names)]
        else:
            continue
        yield from (
            name.removeprefix(f"{YOURS}.") for name in names if name.startswith(f"{YOURS}.")
        )


def _all_given(table: Table, time: str) -> dict[str, NDArray[Any]]:
    given = {name: _given(column) for name, column in table.columns.items()}
    return {time: table.times.view("datetime64[ns]").copy()} | given


def _given(column: Column) -> NDArray[Any]:
    """A column as a function gets it: its own, to do with as it likes."""
    if column.labels is None:
        return column.values.copy()
    labels = np.array([*column.labels, None], dtype=object)
    places = np.where(np.isnan(column.values), len(column.labels), column.values)
    return np.asarray(labels[places.astype(np.int64)])


def _taken(asked: str, name: str, values: NDArray[Any]) -> Column:
    """A column as a function has returned it."""
    if values.dtype.kind in "fiub":
        return Column(values.astype(np.float64, copy=False))
    if values.dtype.kind == "U":
        values = values.astype(object)
    if values.dtype.kind != "O":
        raise _wrong(f"{asked} must make numbers or text of {name}, and makes {values.dtype}")
    missing = np.array([one is None or one != one for one in values], dtype=np.bool_)  # noqa: PLR0124
    there = values[~missing]
    odd = next((one for one in there if not isinstance(one, str)), None)
    found = np.full(len(values), np.nan)
    if odd is None and len(there):
        labels, places = np.unique(there.astype(str), return_inverse=True)
        found[~missing] = places
        return Column(found, tuple(str(label) for label in labels))
    try:
        found[~missing] = there.astype(np.float64)
    except (TypeError, ValueError):
        what = f"{asked} must make numbers or text of {name}, and makes {_kind(odd)} as well"
        raise _wrong(what) from None
    return Column(found)


def _same_times(values: NDArray[Any], times: NDArray[np.int64]) -> bool:
    if values.dtype.kind != "M":
        return False
    return bool(np.array_equal(values.astype("datetime64[ns]").view(np.int64), times))


def _cuts(table: Table, seed: int) -> list[int]:
    """How many of the first rows a function is called with, the fewest first."""
    rows, chance = len(table.times), np.random.default_rng(seed)
    cuts = {int(rows * share * chance.uniform(0.9, 1.04)) for share in CUTS}
    gaps = [np.flatnonzero(np.isnan(column.values)) for column in table.columns.values()]
    for gap in [gap for gap in gaps if len(gap)][:GAPS_MAX]:
        cuts.add(int(chance.choice(gap)) + 1)
    return sorted(cut for cut in cuts if 0 < cut < rows)


def _first(table: Table, rows: int) -> Table:
    spacing = table.spacing._replace(positions=table.spacing.positions[:rows])
    columns = {name: _first_of(column, rows) for name, column in table.columns.items()}
    return table._replace(times=table.times[:rows], columns=columns, spacing=spacing)


def _first_of(column: Column, rows: int) -> Column:
    return Column(column.values[:rows], column.labels)


def _last_of(column: Column, begin: int) -> Column:
    return Column(column.values[begin:], column.labels)


def _changed(config: Config, whole: Table, first: Table) -> Iterator[tuple[str, Table, int]]:
    """The first rows, with what nobody knows yet at the last as high and as low as it ever is.

    What is known of labels at the time of a row is all but that of this row.
    """
    positions = first.spacing.positions
    for judged, steps in ((config.target, max(1, config.horizon)), (config.labels, 1)):
        if judged is None or judged not in whole.columns:
            continue
        values, labels = whole.columns[judged]
        if np.isnan(values).all():
            continue
        begin = int(np.searchsorted(positions, positions[-1] - steps, "right"))
        for extreme in (np.nanmin(values), np.nanmax(values)):
            other = values[: len(positions)].copy()
            other[begin:] = extreme
            columns = {**first.columns, judged: Column(other, labels)}
            yield judged, first._replace(columns=columns), begin


def _differs(one: Column, other: Column | None, *, exactly: bool) -> int | None:
    """The first row in which two columns differ; None: none."""
    if other is None or len(other.values) != len(one.values):
        return 0
    empty = np.isnan(one.values).all() or np.isnan(other.values).all()
    if (one.labels is None) != (other.labels is None) and not empty:
        return 0
    if one.labels is not None and other.labels is not None:
        alike = _given(one) == _given(other)
    elif exactly:
        alike = (one.values == other.values) | (np.isnan(one.values) & np.isnan(other.values))
    else:
        finite = one.values[np.isfinite(one.values)]
        spread = float(finite.std()) if len(finite) else 0.0
        alike = np.isclose(one.values, other.values, EXACT, EXACT * spread, equal_nan=True)
    return None if alike.all() else int(np.argmin(alike))


def _on_judged(config: Config, name: str, judged: str, time: int) -> Finding:
    if judged == config.labels:
        line = f"{name} at {told(time)} depends on {judged} of the same row"
    else:
        steps = max(1, config.horizon)
        when = "that time" if steps == 1 else f"that time or less than {steps} steps before"
        line = (
            f"{name} at {told(time)} depends on {judged} of {when}, which nobody knows yet; "
            f"{name}_lag_{steps} does not"
        )
    return _finding(config, name, "target", line)


def _finding(config: Config, name: str, kind: Literal["ahead", "target"], line: str) -> Finding:
    severity: Literal["error", "allowed"] = "allowed" if name in config.allow_leakage else "error"
    return Finding(feature=name, kind=kind, severity=severity, line=line)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _wrong(what: str) -> ConfigValidationError:
    return ConfigValidationError(FIELD, what)

"""What can be set of a program, and the words that stand for what is only known at its start."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trainers.contract import EPISODES, NAME, BadSpec, Spec

SECONDS = "seconds"
"""the unit of a program that tells no progress"""
HINT = "for a brace itself write {{"
ONLY_LATER = {
    "checkpoint": ("resume", "evaluate", "export"),
    "out": ("evaluate", "export"),
}
"""words that are known in these options alone"""
SHOWN_MAX_CHARS = 60
STOP_SHARE = 0.75
"""of the grace: the rest is for keeping what the program saves in it"""
KINDS = {
    ".csv": "rows",
    ".tsv": "rows",
    ".json": "document",
    ".jsonl": "lines",
    ".ndjson": "lines",
}
"""how a file of metrics is read, by the end of its name"""
TENSORBOARD = "tfevents"
"""what the name of a file of TensorBoard holds"""

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{")

Words = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Code = Annotated[int, msgspec.Meta(ge=0, le=255)]
Value = str | int | float | bool


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a program tells how far it is."""

    pattern: str | None = None
    """a regular expression whose named groups are numbers, looked for in each line of its output"""
    file: str | None = None
    """metrics that it writes anyway, as a pattern of names below its working directory: `.csv`,
    `.tsv`, `.jsonl`, `.json`, or TensorBoard's `events.out.tfevents.*`"""
    step: str | None = None
    """which of its numbers is the step; unset: what is called like the unit of the target"""
    score: str | None = None
    """which of its numbers says how good it is"""
    better: Literal["higher", "lower"] = "higher"
    """which way"""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a program is run, watched and stopped."""

    command: Words
    """the program and its arguments, in which `{work}` and others stand for what is known then"""
    resume: tuple[str, ...] = ()
    """words that are added where there is a checkpoint, such as `--resume {checkpoint}`"""
    evaluate: Words | None = None
    """a program that prints numbers, or writes them to `{out}`, of `{checkpoint}`"""
    export: Words | None = None
    """a program that writes a file or a folder `{out}` of `{checkpoint}`, for whoever uses it;
    unset: it is what the program has saved"""
    shell: bool = False
    """whether the words, joined by blanks, are a line for `/bin/sh`"""
    cwd: str | None = None
    """its working directory; unset: the folder `work` of the run, which is its own"""
    env: dict[str, Value] = {}
    """variables of its environment"""
    env_file: str | None = None
    """a file of such variables, a line `KEY=VALUE` each; what `env` says goes before"""
    options: dict[str, Value] = {}
    """numbers and words of your own, for `{options.KEY}`"""
    progress: Progress | None = None
    """how it tells how far it is: `{}` for JSON lines in the file that `$SUPERVISOR_PROGRESS`
    names, which count beside a `pattern`, too; unset: seconds count"""
    checkpoints: str | None = None
    """what it saves, as a pattern of names below its working directory: files or folders; unset:
    it goes on by itself"""
    links: bool = False
    """keep hard links of what it saves and no copies: only for what it never writes to again"""
    stop_signal: Literal["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] = "SIGTERM"
    """what asks it to save and leave"""
    stop_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    """how long it may take for that, before it is ended; unset: three quarters of `grace_s` in
    `[recovery]`, which is all the time that there is"""
    finish_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    """how long it may go on once the target is reached, before it is asked to stop"""
    done: tuple[Code, ...] = (0,)
    """exit codes that say that nothing is left to do"""
    again: tuple[Code, ...] = (75, 137)
    """exit codes that ask for another start; a signal counts as 128 and its number"""
    never: tuple[Code, ...] = (2,)
    """exit codes that say that another start is pointless"""


def expanded(text: str, where: str) -> Path:
    """A path that may begin with somebody's home.

    Raises:
        BadSpec: there is nobody of that name.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BadSpec(f"options.{where}: {text}: {error}") from None


class Known:
    """What the words in braces stand for.

    Args:
        spec: of the run.
        options: its options.
        home: the home; None: it is not known here, nor is the run's folder.
    """

    def __init__(self, spec: Spec, options: Options, home: Path | None) -> None:
        self.home = home
        self.work = None if home is None else home / "runs" / spec.run / "work"
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self.values: dict[str, Value | None] = {
            "name": spec.name,
            "home": None if home is None else str(home),
            "work": None if self.work is None else str(self.work),
            "checkpoint": None,
            "out": None,
            "step": 0,
            "target": spec.target.count if spec.target is not None else "",
            "threads": spec.threads,
            "gpus": ",".join(spec.gpus) if spec.gpus is not None else gpus,
            "seed": spec.seed,
            "mode": spec.mode,
            **{f"load.{key}": _plain(value) for key, value in spec.load.items()},
            **{f"options.{key}": value for key, value in options.options.items()},
        }

    def fill(self, text: str, where: str, quote: Callable[[str], str] = str) -> str | None:
        """`text` with each word in braces as what it stands for; None: one is not known here.

        Raises:
            BadSpec: nothing has that name, or not in this option.
        """
        unknown = False

        def filled(match: re.Match[str]) -> str:
            nonlocal unknown
            if match[0] in ("{{", "}}"):
                return match[0][0]
            name = match[1]
            if name not in self.values or where not in ONLY_LATER.get(name, (where,)):
                raise BadSpec(self._refused(match[0], name, where))
            value = self.values[name]
            unknown |= value is None
            return quote(written(value))

        text = _BRACES.sub(filled, text)
        return None if unknown else text

    def words(self, words: tuple[str, ...], where: str) -> list[str | None]:
        """Each of `words` filled, as in `fill`."""
        return [self.fill(word, where) for word in words]

    def line(self, words: tuple[str, ...], where: str) -> str | None:
        """A line for a shell, in which what is filled in is no more than a word."""
        return self.fill(" ".join(words), where, shlex.quote)

    def _refused(self, shown: str, name: str | None, where: str) -> str:
        if name in ONLY_LATER:
            *others, last = ONLY_LATER[name]
            places = f"{', '.join(others)} and {last}"
            return f"options.{where}: {{{name}}} is known in {places} alone"
        known = [name for name in self.values if where in ONLY_LATER.get(name, (where,))]
        close = difflib.get_close_matches(name or "", known, n=1)
        if close:
            hint = f"did you mean {{{close[0]}}}?"
        else:
            hint = f"there are: {', '.join(f'{{{name}}}' for name in known)}"
        return f"options.{where}: nothing is called {shown[:SHOWN_MAX_CHARS]}; {hint}; {HINT}"


def environment_of(path: Path) -> dict[str, str]:
    """The variables in a file of lines `KEY=VALUE`, as shells and systemd read them.

    Raises:
        BadSpec: there is no such file, or a line of it is no such line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadSpec(
            f"options.env_file: {path}: {why}: write it, or take that line away"
        ) from None
    found: dict[str, str] = {}
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.strip().removeprefix("export ")
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.strip()):
            raise BadSpec(f"options.env_file: {path}, line {number}: write KEY=VALUE")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[key.strip()] = value
    return found


def check_progress(spec: Spec, options: Options) -> None:
    """See that the target can be told by what the program tells.

    Raises:
        BadSpec: it cannot, or what tells it cannot be used.
    """
    progress, unit = options.progress, spec.target.unit if spec.target is not None else None
    if progress is None:
        if unit not in (None, SECONDS, "steps"):
            raise BadSpec(
                f"a target in {unit}, and options.progress does not say how the program tells "
                'them: set progress = { pattern = "..." }, or progress = {} where it writes to '
                "$SUPERVISOR_PROGRESS, or target = {} where its exit code says when it is done"
            )
        return
    if progress.score is not None and not NAME.fullmatch(score_name(progress.score)):
        raise BadSpec(f"options.progress.score: {progress.score!r} is no name of a number")
    if progress.file is not None:
        _refuse_unknown_kind(progress.file)
    if progress.pattern is not None:
        _check_pattern(progress, progress.pattern, unit)


def _refuse_unknown_kind(file: str) -> None:
    name = Path(file).name
    if TENSORBOARD not in name and Path(name).suffix not in KINDS:
        raise BadSpec(
            f"options.progress.file: {file}: what it holds is known by its name, which ends in "
            f"{', '.join(KINDS)}, or is events.out.tfevents.*"
        )


def _check_pattern(progress: Progress, pattern: str, unit: str | None) -> None:
    """See that a pattern is one, and tells the step that the target is in."""
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise BadSpec(f"options.progress.pattern is no regular expression: {error}") from None
    if not groups:
        raise BadSpec(
            r"options.progress.pattern has no named group: write (?P<epoch>\d+) around a number"
        )
    wanted = ("episode", EPISODES) if unit == EPISODES else step_names(unit)
    if progress.step is not None or progress.file is not None:
        return
    counted = [name for name in step_names(None) if name in groups]
    if counted and not any(name in groups for name in wanted) and unit != SECONDS:
        raise BadSpec(
            f"options.progress.pattern tells {counted[0]}, and the target is in {unit}: call its "
            f"group {wanted[0]}, or set a target in {counted[0].removesuffix('s')}s"
        )


def step_names(unit: str | None) -> tuple[str, ...]:
    """What a number may be called that is the step of a run with a target in that unit."""
    if unit is not None and unit != EPISODES:
        return tuple(dict.fromkeys((unit.removesuffix("s"), unit)))
    usual = ("step", "epoch", "iteration", "iter", "round", "episode")
    return tuple(name for one in usual for name in (one, f"{one}s"))


def score_name(key: str) -> str:
    """The name of a score by the name of its number, in which there may be more than letters."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", key)


def stop_s(spec: Spec, options: Options) -> float:
    """How long the program may take to save and leave.

    Raises:
        BadSpec: we would be killed with it, and could keep nothing of what it saves.
    """
    if options.stop_s is None:
        return STOP_SHARE * spec.grace_s
    if options.stop_s >= spec.grace_s:
        raise BadSpec(
            f"options.stop_s: {options.stop_s:g} s to save and leave, and after {spec.grace_s:g} s "
            "all is ended: lower it, or raise grace_s in [recovery]"
        )
    return options.stop_s


def check_codes(options: Options) -> None:
    """See that each exit code says one thing.

    Raises:
        BadSpec: one says two.
    """
    tables: Mapping[str, tuple[int, ...]] = {
        "done": options.done,
        "again": options.again,
        "never": options.never,
    }
    said: dict[int, str] = {}
    for name, codes in tables.items():
        for code in codes:
            if said.setdefault(code, name) != name:
                raise BadSpec(f"options.{name}: {code} stands in options.{said[code]}, too")


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()


def written(value: Value | None) -> str:
    """A value as it stands in a word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)

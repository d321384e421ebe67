"""What a trainer says of a spec before it is trained: the one place here that knows trainers.

Those that need no library for it are asked in this process. Others of ours ask gymnasium whether
there is such a game; those of users and packages may do whatever they like. They are asked in a
process of their own, with a deadline.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from supervisor.jobs.errors import Busy, ConfigValidationError, NotInstalled, Problem
from supervisor.jobs.reading import converted, problem
from supervisor.programs import program
from trainers import options as trainers_options
from trainers import registry
from trainers.contract import BadSpec, Spec
from trainers.packages import PackagesMissing

LIGHT = frozenset({"command", "direction", "drill", "neural", "tabular"})
"""trainers of ours that look at a spec without a library of tables, games or models; a test holds
them to it"""
CHECK_MAX_S = 20.0
"""for another to say whether a spec can work"""
SAID_MAX_CHARS = 500
TRAINER = "trainer"
HYPERPARAMETERS = "hyperparameters"
"""option of models of tables: what they are told depends on the algorithm"""

Place = Callable[[str], str]
"""where in a request an option stands"""


class Judgement(NamedTuple):
    """What a trainer says of a spec that can work."""

    resolved: dict[str, Any]
    """its options, with what is unset"""
    remark: str | None
    """what a person should know"""


def is_ours(trainer: str) -> bool:
    """Whether it is one of the supervisor's own.

    Raises:
        ConfigValidationError: there is no such trainer, or it is broken.
    """
    try:
        return registry.find(trainer).origin == registry.SHIPPED
    except (BadSpec, registry.FolderAway) as error:
        raise _about_the_trainer(error) from error


def tells_of_rows(trainer: str) -> bool:
    """Whether a trainer can tell what it would learn from; only ours are asked."""
    return is_ours(trainer) and hasattr(registry.load(trainer), "rows")


def judge(spec: Spec, place: Place) -> Judgement:
    """Have the trainer of a spec look at it, as it does before it trains.

    Args:
        spec: what is asked of it.
        place: where in the request each of its options stands.

    Raises:
        ConfigValidationError: it can never work.
        NotInstalled: what the trainer imports is not there.
        Busy: a trainer in a process of its own has not answered in time.
    """
    if not is_ours(spec.trainer):
        return Judgement(dict(spec.options), _asked_elsewhere(spec, TRAINER))
    trainer = registry.load(spec.trainer)
    resolved = _resolved(trainer, spec, place)
    if spec.trainer not in LIGHT:
        return Judgement(resolved, _asked_elsewhere(spec, place("")))
    try:
        trainers_options.validate(trainer, spec)
        remark = getattr(trainer, "remark", None)
        said = remark(spec) if remark is not None else None
    except PackagesMissing as error:
        raise NotInstalled(spec.trainer, str(error)) from error
    except BadSpec as error:
        raise ConfigValidationError([_problem_of(error, place)]) from error
    except Exception as error:  # whatever a check stumbles over can be trained by nobody
        what = f"Cannot be looked at: {type(error).__name__}: {error}"
        raise ConfigValidationError([problem(place(""), what[:SAID_MAX_CHARS])]) from error
    return Judgement(resolved, said)


def _resolved(trainer: object, spec: Spec, place: Place) -> dict[str, Any]:
    """The options and, of a model of tables, its hyper-parameters, with what is unset.

    Raises:
        ConfigValidationError: some cannot be; all of them are told.
    """
    kind = getattr(trainer, "Options", None)
    if kind is None:
        return dict(spec.options)
    options = _placed(spec.options, kind, place, "")
    found: dict[str, Any] = msgspec.to_builtins(options, str_keys=True)
    given = getattr(options, HYPERPARAMETERS, None)
    learns = getattr(getattr(options, "learns", None), HYPERPARAMETERS, None)
    if given is not None and learns is not None:
        told = _placed(given, learns, place, HYPERPARAMETERS)
        found[HYPERPARAMETERS] = msgspec.to_builtins(told)
    return found


def _placed(values: dict[str, Any], kind: Any, place: Place, where: str) -> Any:
    try:
        return converted(values, kind, where)
    except ConfigValidationError as error:
        found = [problem(place(one.path or one.field), one.error) for one in error.problems]
        raise ConfigValidationError(found) from error


def _problem_of(error: BadSpec, place: Place) -> Problem:
    """What a trainer refuses, where it says which field that is about."""
    details = getattr(error, "details", {})
    if "field" in details and "error" in details:
        return problem(place(details["field"]), str(details["error"]))
    return problem(place(""), str(error))


def _about_the_trainer(error: Exception) -> ConfigValidationError:
    return ConfigValidationError([Problem(TRAINER, str(error)[:SAID_MAX_CHARS])])


def _asked_elsewhere(spec: Spec, path: str) -> str | None:
    """What the trainer remarks, asked in a process of its own; what it refuses stands at `path`."""
    with tempfile.TemporaryDirectory(prefix="judging-") as folder:
        file = Path(folder) / "spec.json"
        file.write_bytes(msgspec.json.encode(spec))
        run = Path(folder) / spec.run
        command = [*program("trainers.__main__"), spec.trainer, "--run", str(run)]
        try:
            ended = subprocess.run(
                [*command, "--check", "--spec", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=CHECK_MAX_S,
                env=dict(os.environ),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Busy(f"The trainer {spec.trainer}", CHECK_MAX_S) from None
    said = ended.stderr.decode(errors="replace").strip()
    last = said.rpartition("\n")[2].removeprefix("trainers: ")[:SAID_MAX_CHARS]
    if ended.returncode != 0:
        why = last or f"its check ended with {ended.returncode}"
        raise ConfigValidationError([problem(path, why)])
    return last or None

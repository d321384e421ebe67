"""What a trainer imports, and which versions of it will do: an extra of `pyproject.toml`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from trainers.contract import BadSpec

DISTRIBUTION = "training-supervisor"
PROJECT = Path(__file__).parent.parent / "pyproject.toml"
"""of a checkout; what was installed otherwise has no such file beside it"""
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}
"""what is imported of a package that is not called like it"""

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?(?:\s*>=\s*([\w.]+))?")
_RELEASE = re.compile(r"(?:\d+!)?(\d+(?:\.\d+)*)")


class PackagesMissing(BadSpec):
    """What a trainer imports is not there, or is too old for it."""

    def __init__(self, problems: list[str], extra: str) -> None:
        advice = f"pip install '{DISTRIBUTION}[{extra}]'"
        super().__init__(f"{'; '.join(problems)}: {advice}")


@cache
def require(extra: str) -> None:
    """See that all packages of an extra are installed, and new enough; nothing is imported.

    What is missing is looked for again each time: it may be installed while a server goes on.

    Raises:
        PackagesMissing: some are not.
    """
    problems = [said for name, least in _minimums(extra) if (said := _problem(name, least))]
    if problems:
        raise PackagesMissing(problems, extra)


def _problem(name: str, least: str) -> str | None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # It may come under another name, or without a word about itself.
        module = MODULES.get(name, name.replace("-", "_"))
        return None if importlib.util.find_spec(module) else f"{name} is not installed"
    there, needed = _release(version), _release(least)
    if there is not None and needed is not None and there < needed:
        return f"{name} {version} is too old, {least} at least"
    return None


@cache
def _minimums(extra: str) -> tuple[tuple[str, str], ...]:
    """The packages of an extra, and the least version of each; "" where any will do."""
    found = (_REQUIREMENT.match(requirement) for requirement in _requirements(extra))
    return tuple((match[1], match[2] or "") for match in found if match)


def _requirements(extra: str) -> list[str]:
    try:
        # First the file: what pip knows of a checkout is what the file said when it was set up.
        project: dict[str, Any] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        if project["name"] == DISTRIBUTION:
            return list(project["optional-dependencies"][extra])
    except (OSError, ValueError, LookupError):
        pass  # no checkout of ours
    try:
        known = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [words for words in known if re.search(rf"""extra == ['"]{extra}['"]""", words)]


def _release(version: str | None) -> tuple[int, ...] | None:
    """The numbers of a version, comparable; None where it has none.

    What stands after them does not count: builds of hardware vendors call themselves
    alphas, and are not.
    """
    match = _RELEASE.match(version or "")
    if match is None:
        return None
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and numbers[-1] == 0:  # 2.6 is 2.6.0
        numbers.pop()
    return tuple(numbers)

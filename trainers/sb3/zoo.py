"""A file of tuned hyper-parameters, in the format that rl-baselines3-zoo keeps them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers import durable
from trainers.contract import BadSpec
from trainers.sb3.algorithms import near

FILE_MAX_BYTES = 2**18
VALUES_MAX = 10_000
"""of an entry: what refers to itself again and again is more than the file"""
ATARI = "atari"
"""the entry of all games that have none of their own"""


def entry(path: Path, env: str) -> dict[str, Any]:
    """What a file says of an environment: plain values by name.

    Raises:
        BadSpec: it cannot be read, is none, or says nothing of that environment.
    """
    import yaml  # noqa: PLC0415 - only where there is such a file

    try:
        content = durable.read(path, FILE_MAX_BYTES, follow=True)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        table = yaml.load(content, loader)  # noqa: S506 - both loaders are the safe ones
    except OSError as error:
        raise BadSpec(f"options.zoo: {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadSpec(f"options.zoo: {path}: {' '.join(str(error).split())}") from error
    if not isinstance(table, dict):
        raise BadSpec(f"options.zoo: {path} is no table of environments")
    name = env.rpartition(":")[2]
    if name not in table and (name.startswith("ALE/") or "NoFrameskip" in name):
        name = ATARI
    found = table.get(name)
    if not isinstance(found, dict):
        hint = near(name, [key for key in table if isinstance(key, str)])
        raise BadSpec(f"options.zoo: {path} says nothing of {name!r}{hint}")
    _plain(found, f"options.zoo: {name}", [VALUES_MAX])
    return {str(key): value for key, value in found.items()}


def _plain(value: Any, where: str, left: list[int]) -> None:
    """Refuse what is more than numbers, words, lists and tables."""
    left[0] -= 1
    if left[0] < 0:
        raise BadSpec(f"{where}: more than {VALUES_MAX} values")
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise BadSpec(f"{where}: {key!r} is no name")
            _plain(part, where, left)
    elif isinstance(value, list):
        for part in value:
            _plain(part, where, left)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise BadSpec(f"{where}: {value!r} is neither a number nor a word")

"""Requests from outside: one small file each, put there by anyone, drained by the daemon.

A request made while the daemon is down waits for it. What is no request is moved out of
the way and told, and never read again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from state.answers import Answers
from state.records import Asked, Retry
from state.requests import Amend, OfTheAccount, Request, Submit, request
from trainers import durable
from trainers.contract import NAME, Target

REQUEST_MAX_BYTES = 65_536
"""of one; what is asked of a model may name a thousand features"""
DEPTH_MAX = 32
"""how deeply options may be nested: what is read here must be written and read again by all"""
AT_ONCE = 100
"""requests taken up together; fewer than the memory keeps ids of answered ones"""


class NoRequest(Exception):
    """A file in the inbox that is not a request."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path.name!a} in the inbox is no request: {why}")


class Trouble(NamedTuple):
    """Something that was found in the inbox and is no request."""

    text: str
    request: str | None = None
    """the id that whoever put it there waits for an answer to; None where it names none"""


class Inbox:
    """The folder of requests.

    Args:
        folder: where they lie; made on the first request. Answers lie beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.answers = Answers(folder.with_name("answers"))

    def put(
        self,
        kind: str,
        *,
        by: str,
        at: float,
        **fields: Any,
    ) -> Request:
        """Leave a request for the daemon; it is durable on return.

        Args:
            kind: what is asked.
            by: who asks.
            at: wall time, seconds since 1970.
            fields: what such a request says beside that; None is left out.

        Raises:
            OSError: the inbox cannot be written to.
        """
        # The name sorts by time, and within the same moment by chance. A clock may say 1969.
        name = f"{int(max(0.0, at) * 1e6):020d}-{_chance()}"
        asked = request(kind, id=name, by=by, asked_at=at, **fields)
        durable.make_folder(self._folder)
        durable.write(self._folder / f"{asked.id}.json", msgspec.json.encode(asked))
        return asked

    def pending(self) -> tuple[tuple[Request, ...], tuple[Trouble, ...]]:
        """The oldest requests that wait, in their order, and what was found that is none.

        An inbox that cannot be read holds no requests; that, too, is told.
        """
        requests: list[Request] = []
        trouble: list[Trouble] = []
        try:
            names = sorted(self._names())
        except FileNotFoundError:
            return (), ()
        except OSError as error:
            return (), (Trouble(f"the inbox cannot be read: {error.strerror}"),)
        for name in names:
            if name.startswith("."):
                continue  # being written, or moved out of the way
            path = self._folder / name
            try:
                requests.append(_read(path))
            except FileNotFoundError:
                continue  # taken back in this moment
            except NoRequest as error:
                known = path.suffix == ".json" and NAME.fullmatch(path.stem)
                trouble.append(Trouble(str(error), path.stem if known else None))
                self._set_aside(path)
            if len(requests) == AT_ONCE:
                break
        return tuple(requests), tuple(trouble)

    def holds(self, request: Request) -> bool:
        """Whether the request still waits here."""
        return (self._folder / f"{request.id}.json").exists()

    def remove(self, request: Request) -> None:
        """Forget a request that has been answered."""
        with contextlib.suppress(OSError):
            # Where that is forbidden, the memory still knows that it was answered.
            (self._folder / f"{request.id}.json").unlink(missing_ok=True)

    def _names(self) -> list[str]:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            return os.listdir(handle)  # noqa: PTH208 - of a handle, which no link misleads
        finally:
            os.close(handle)

    def _set_aside(self, path: Path) -> None:
        """Keep one refused thing for a person to look at; a newer one replaces it."""
        try:
            path.replace(self._folder / ".refused")
        except OSError:  # a folder over a file, or a folder that is not empty
            with contextlib.suppress(OSError):
                path.replace(self._folder / f".refused-{_chance()}")


def _chance() -> str:
    """Eight hexadecimal digits that nobody else has."""
    return os.urandom(4).hex()  # as the module secrets does, which loads OpenSSL for it


def _read(path: Path) -> Request:
    """The request in `path`.

    Raises:
        NoRequest: it is none.
        FileNotFoundError: it is gone.
    """
    try:
        with durable.open_regular(path) as file:
            owner = os.fstat(file.fileno()).st_uid
            content = file.read(REQUEST_MAX_BYTES + 1)
        if len(content) > REQUEST_MAX_BYTES:
            raise NoRequest(path, f"it is larger than {REQUEST_MAX_BYTES} bytes")
        asked: Request = msgspec.json.decode(content, type=Request)
        if isinstance(asked, Submit | Amend):
            _refuse_strangers(msgspec.json.decode(content)["asked"])
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoRequest(path, " ".join(str(error).split())) from error
    if path.name != f"{asked.id}.json" or not NAME.fullmatch(asked.id):
        raise NoRequest(path, "its id is not its name")
    if not asked.by.isprintable():
        raise NoRequest(path, "it holds characters that no name has")
    for_others = asked.on_behalf is not None or isinstance(asked, OfTheAccount)
    if for_others and owner != os.geteuid():
        raise NoRequest(path, "only the account of this home asks on behalf of others")
    return msgspec.structs.replace(asked, account=_account(owner))


def _refuse_strangers(asked: dict[str, Any]) -> None:
    """Refuse what no run has: a typo must not train something else for hours.

    The state reads over such fields, which a newer version may have written; a request does not.
    Nor may it bring what is nested so deeply that the state could not be read again.

    Raises:
        msgspec.ValidationError: there is something.
    """
    level: list[Any] = [asked]
    for _ in range(DEPTH_MAX):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    if level:
        raise msgspec.ValidationError(f"what is asked is nested more than {DEPTH_MAX} deep")
    parts = {"": (Asked, asked), "target.": (Target, asked.get("target"))}
    parts["retry."] = (Retry, asked.get("retry"))
    for where, (kind, given) in parts.items():
        strangers = sorted((given or {}).keys() - set(kind.__struct_fields__))
        if strangers:
            raise msgspec.ValidationError(f"what is asked has no field {where}{strangers[0]}")


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"

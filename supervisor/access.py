"""Who may look, and who may act, over HTTP: the operator's token, links that stand for it, names.

On loopback, while nobody has a token, whoever reaches the server is the operator, as on the command
line. Else each request bears a credential. All of them follow from one secret in the home, the
token: a new one makes every link, cookie and right to look that was given away worth nothing.

A *link* is what a person gives to another one, or opens on a phone: what it lets them do, until
when, and a seal. That to look may be opened by whoever has it; that to act by the first one alone.
Opened, it becomes a *pass*, which the browser keeps as a cookie.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from supervisor.core.settings import Settings
from supervisor.core.web_settings import host_and_port
from supervisor.errors import SupervisorError
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from trainers import durable

Right = Literal["look", "act"]
"""`act` is to look, too"""
RIGHTS: tuple[Right, ...] = get_args(Right)

TOKEN, LOOK_TOKEN = "token", "look-token"
OPENED = "opened.json"
"""links to act that have been opened, until they would be worth nothing anyway"""
SECRET_BYTES = 32
TOKEN_MAX_BYTES = 4096
OWNERS = 0o600
"""mode of a secret"""
ACT_LINK_S = 600.0
"""how long a link to act may be opened"""
LOOK_LINK_S = 7 * 86_400.0
"""how long one to look may, and what it has become lasts"""
PASS_S = 30 * 86_400.0
"""how long a pass to act lasts"""
REFUSALS_MAX, REFUSALS_S = 20, 60.0
"""so many credentials that are none, within so many seconds, and further ones are not looked at"""
FIELD = re.compile(
    r"(?P<what>link|pass)\.(?P<right>look|act)\.(?P<until>\d{1,12})\.(?P<nonce>[0-9a-f]{32})"
)
"""what is sealed: what it is, what it allows, until when, and what tells it from others"""


HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
"""a name or an address, perhaps with a port"""


class NoToken(SupervisorError):
    """The token of a home can be neither read nor made."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: {error.strerror or error}: without it nobody could be let in")


class TooManyRefusals(Exception):
    """Somebody tries one credential after the other."""

    retry_after_s = int(REFUSALS_S)


class Access:
    """Who may do what with the server of a home.

    Args:
        home: whose; its folder is there.
        clock: by which links and passes end.
        settings: which say where it answers, by which names, and whether tenants have tokens.

    Raises:
        NoToken: one is needed, and there is none, and none can be made.
    """

    def __init__(self, home: Home, clock: Clock, settings: Settings) -> None:
        self._folder, self._clock = home.api, clock
        self._file = home.api / TOKEN
        self._known: tuple[tuple[int, int, int], str] | None = None
        """the token, and by which it is seen whether the file is as it was"""
        self._refused: deque[float] = deque(maxlen=REFUSALS_MAX)
        self.heed(settings)

    @property
    def guarded(self) -> bool:
        """Whether each request has to bear a credential."""
        return self._in_force.guarded

    def heed(self, settings: Settings) -> None:
        """Have these settings in force from the next request on.

        Raises:
            NoToken: one is needed by now, and none can be made; nothing has changed.
        """
        found = _in_force(settings)
        if found.guarded:  # programs shall find theirs before anybody has come
            self._key()
        self._in_force = found

    def knows(self, host: str) -> bool:
        """Whether the header `Host` holds a name of ours, or an address.

        A page of another site cannot choose what its own name leads to while that name stands in
        the request. So no stranger's name server makes a browser ask here.
        """
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower().removesuffix(".")
        return name in self._in_force.names or name.endswith(".localhost") or _is_address(name)

    def bears(self, authorization: str) -> Right | None:
        """What the header `Authorization` lets somebody do; None: nothing, or it is another's.

        Raises:
            NoToken: nobody can tell.
        """
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = self._key()
        if _same(given.strip(), token):
            return "act"
        return "look" if _same(given.strip(), _look_token(token)) else None

    def holds(self, one: str) -> Right | None:
        """What a pass lets somebody do; None: nothing any more.

        Raises:
            NoToken: nobody can tell.
        """
        return self._sealed("pass", one)

    def link(self, right: Right) -> str:
        """A new link.

        Raises:
            NoToken: it could not be sealed.
        """
        return self._seal("link", right, lasts_s(right))

    def open(self, link: str) -> tuple[Right, str, float] | None:
        """The pass that a link becomes, what it lets somebody do, and for how many seconds.

        None: it is no link, is over, or was opened before and may be but once.

        Raises:
            NoToken: nobody can tell.
            OSError: it could not be written down that it was opened.
        """
        right = self._sealed("link", link)
        if right is None:
            return None
        _, _, until, nonce, _ = link.split(".")
        if right == "look":
            lasts_s = int(until) - self._now
        elif self._first(nonce, int(until)):
            lasts_s = PASS_S
        else:
            return None
        return right, self._seal("pass", right, lasts_s), lasts_s

    def refuse(self) -> None:
        """Count a credential that is none.

        Raises:
            TooManyRefusals: there were many, within a short while.
        """
        now_s = self._clock.read().monotonic_s
        full = len(self._refused) == REFUSALS_MAX and now_s - self._refused[0] < REFUSALS_S
        if full:
            raise TooManyRefusals
        self._refused.append(now_s)

    @property
    def _now(self) -> float:
        return self._clock.read().wall

    def _seal(self, what: str, right: Right, lasts_s: float) -> str:
        field = f"{what}.{right}.{int(self._now + lasts_s)}.{secrets.token_hex(16)}"
        return f"{field}.{_mac(self._key(), field)}"

    def _sealed(self, what: str, text: str) -> Right | None:
        field, _, mac = text.rpartition(".")
        found = FIELD.fullmatch(field)
        if found is None or found["what"] != what or not _same(mac, _mac(self._key(), field)):
            return None
        return found["right"] if int(found["until"]) > self._now else None  # type: ignore[return-value]

    def _first(self, nonce: str, until: int) -> bool:
        """Whether a link is opened for the first time, which is on the disk before it is of use."""
        path = self._folder / OPENED
        try:
            opened = msgspec.json.decode(durable.read(path), type=dict[str, int])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            opened = {}
        opened = {one: ends for one, ends in opened.items() if ends > self._now}
        if nonce in opened:
            return False
        durable.write(path, msgspec.json.encode({**opened, nonce: until}))
        return True

    def _key(self) -> str:
        """The token, as it is in the home now.

        Raises:
            NoToken: there is none, and none can be made.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                stat = self._file.stat()
                seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if self._known is not None and self._known[0] == seen:
                    return self._known[1]
                token = _read(self._file)
                if token is not None:
                    _write(self._folder / LOOK_TOKEN, _look_token(token))
                    self._known = seen, token
                    return token
            _write(self._file, secrets.token_urlsafe(SECRET_BYTES))
            token = _read(self._file)
            assert token is not None  # noqa: S101 - it was written in this moment
            _write(self._folder / LOOK_TOKEN, _look_token(token))
        except OSError as error:
            raise NoToken(self._file, error) from error
        return token


def lasts_s(right: Right) -> float:
    """For how many seconds a link may be opened."""
    return LOOK_LINK_S if right == "look" else ACT_LINK_S


class _InForce(NamedTuple):
    """What follows from the settings."""

    guarded: bool
    names: frozenset[str]


def _in_force(settings: Settings) -> _InForce:
    host, _ = host_and_port(settings.listen)
    here = socket.gethostname().lower()
    own = ("localhost", here, f"{here.partition('.')[0]}.local", host.lower())
    return _InForce(
        guarded=not is_here(host) or bool(settings.web.hosts) or settings.jobs.has_tokens,
        names=frozenset((*own, *(name.lower() for name in settings.web.hosts))),
    )


@lru_cache(maxsize=100)
def is_here(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, known: str) -> bool:
    """Whether both are one, which takes as long whatever they are."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())


def _mac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _look_token(token: str) -> str:
    return _mac(token, "look")


def _read(path: Path) -> str | None:
    """A token; None: what is there is none, as after a power cut.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it cannot be read.
    """
    text = durable.read(path, TOKEN_MAX_BYTES).decode("ascii", "replace").strip()
    return text if len(text) >= SECRET_BYTES and text.isascii() and text.isprintable() else None


def _write(path: Path, token: str) -> None:
    """Put a secret there that its owner alone can read, whole or not at all."""
    durable.make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, OWNERS)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    durable.sync_folder(path.parent)

"""Passwords of sources: read where the settings say, used, and told to nobody."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from supervisor.core.quiet_hours import UsageSource
from trainers import durable

MAX_BYTES = 4096
OTHERS = 0o077
CREDENTIALS = "CREDENTIALS_DIRECTORY"
HIDDEN = "***"


class NoPassword(Exception):
    """There is none where the settings say; the message says why, and no word of it."""


def password(source: UsageSource, here: Path, environment: Mapping[str, str]) -> str | None:
    """The password of a source; None where the settings name none.

    Args:
        source: whose.
        here: the folder that a relative path begins at.
        environment: of this process.

    Raises:
        NoPassword: it is not there, or others can read it.
    """
    kept = Kept(source.password_file, source.password_env, source.password_credential)
    return kept.read("password", here, environment)


class Kept(NamedTuple):
    """Where the settings say that a secret is kept; in no place: there is none."""

    file: str | None
    env: str | None
    credential: str | None

    def read(self, key: str, here: Path, environment: Mapping[str, str]) -> str | None:
        """The secret; None where the settings name none.

        Args:
            key: how the keys of the settings begin that name the places.
            here: the folder that a relative path begins at.
            environment: of this process.

        Raises:
            NoPassword: it is not there, or others can read it.
        """
        if self.env is not None:
            found = environment.get(self.env)
            if found is None:
                raise NoPassword(f"the environment has no {self.env}")
            return found
        if self.file is not None:
            return _content(here / Path(self.file).expanduser(), alone=True)
        if self.credential is not None:
            folder = environment.get(CREDENTIALS)
            if folder is None:
                raise NoPassword("systemd has given no credentials to this process")
            if "/" in self.credential:
                raise NoPassword(f"{key}_credential is the name of one, and no path")
            return _content(Path(folder) / self.credential, alone=False)
        return None


def hidden(text: str, secret: str | None) -> str:
    """A text without a secret, in one line; however whoever repeats it has written it."""
    if secret:
        as_text = ascii(secret)[1:-1], repr(secret)[1:-1], json.dumps(secret)[1:-1]
        forms = {secret, secret.strip(), quote(secret, safe=""), quote_plus(secret), *as_text}
        # The longest first: a shorter one may be the beginning of it.
        for form in sorted(filter(None, forms), key=len, reverse=True):
            text = text.replace(form, HIDDEN)
    return " ".join(text.split())


def _content(path: Path, *, alone: bool) -> str:
    try:
        with durable.open_regular(path, follow=True) as file:
            status = os.fstat(file.fileno())
            if alone and status.st_mode & OTHERS:
                mode = stat.S_IMODE(status.st_mode)
                raise NoPassword(f"{path} can be read by others (mode {mode:04o}): chmod 600 it")
            if alone and status.st_uid not in (0, os.geteuid()):
                raise NoPassword(f"{path} is another account's")
            raw = file.read(MAX_BYTES)
        return raw.decode().rstrip("\r\n")
    except OSError as error:
        raise NoPassword(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NoPassword(f"{path} is not UTF-8") from None

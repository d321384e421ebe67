"""Asks a service how quickly it answers, in the daemon's place: the child of `host.probe`."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import msgspec

from supervisor.helper import die_with_parent, serve

ANSWER_MAX_S = 10.0
"""what takes longer is no answer"""
LINE_BYTES_MAX = 4096


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon asks."""

    probe: str | tuple[str, ...]
    """`tcp://host:port`, `http://host:port/path`, or a command and its arguments"""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of it."""

    latency_ms: float | None = None
    """None: it has not answered"""
    trouble: str | None = None
    """why not"""


class _Failed(Exception):
    """The service does not answer; the message says why."""


def measure(probe: str | tuple[str, ...], max_s: float = ANSWER_MAX_S) -> Reply:
    """Ask the service once, and wait for its answer.

    Args:
        probe: what to ask.
        max_s: for how long, in seconds.
    """
    began_s = time.monotonic()
    try:
        if isinstance(probe, tuple):
            _run(probe, max_s)
        else:
            _connect(probe, max_s)
    except TimeoutError:
        return Reply(trouble=f"no answer within {max_s:g} s")
    except OSError as error:
        return Reply(trouble=error.strerror or str(error))
    except UnicodeError:  # by the encoding of names, which asks nobody
        return Reply(trouble="no host can have such a name")
    except _Failed as failed:
        return Reply(trouble=str(failed))
    return Reply(latency_ms=1000 * (time.monotonic() - began_s))


def _connect(address: str, max_s: float) -> None:
    """Connect, and with HTTP wait until it says that all is well."""
    until_s = time.monotonic() + max_s
    scheme, _, rest = address.partition("://")
    place, _, path = rest.partition("/")
    host, _, port = place.rpartition(":") if ":" in place.rpartition("]")[2] else (place, "", "80")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=max_s) as connection:
        if scheme == "tcp":
            return
        asked = f"GET /{path} HTTP/1.0\r\nHost: {place}\r\nConnection: close\r\n\r\n"
        connection.sendall(asked.encode())
        said = b""
        while b"\n" not in said and len(said) < LINE_BYTES_MAX:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
            if not (more := connection.recv(LINE_BYTES_MAX)):
                raise _Failed("it has hung up without an answer")
            said += more
    words = said.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise _Failed("what answers speaks no HTTP")
    if not 200 <= int(words[1]) < 400:
        raise _Failed(f"it answers with HTTP status {int(words[1])}")


def _run(command: tuple[str, ...], max_s: float) -> None:
    """Run the command until it ends; what it prints is of no interest, and may be a secret."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command,
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - nobody who asks has threads
    ) as running:
        try:
            status = running.wait(max_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            raise TimeoutError from None
    if status:
        how = f"exit code {status}" if status > 0 else f"signal {-status}"
        raise _Failed(f"the command ended with {how}")


def main() -> None:
    """Be that child."""
    serve(Request, lambda: (Reply(), lambda request: measure(request.probe)))

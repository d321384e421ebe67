"""One errand of the messenger, in a process of its own: a command is run, or a text is sent.

The job comes as JSON on stdin, and what came of it goes as JSON to stdout. Without a job nothing
is done. A job holds addresses and arguments that nobody else should see, so it is no argument.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

OUTPUT_MAX_BYTES = 2000
"""the end of what a command printed is kept"""
TERM_S = 5.0
"""how long a command is given to end itself"""
ATTEMPTS = 3
ATTEMPT_MAX_S = 10.0


Kind = Literal["info", "success", "warning", "failure"]
"""how bad it is, in apprise's words"""


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """What is to be done, and what all of that has in common."""

    seq: int = 0
    """the line of the log up to which this tells"""
    name: str
    """what the log calls it"""
    max_s: float
    """how long it may take"""


class Command(Job, frozen=True, kw_only=True):
    """Run a command."""

    words: tuple[str, ...]
    folder: str
    environment: dict[str, str] = {}


class Post(Job, frozen=True, kw_only=True):
    """Post a text to a server that takes JSON."""

    url: str
    body: str
    pause_s: float
    """between two attempts"""


class Message(Job, frozen=True, kw_only=True):
    """Send a message by apprise; one without a body only has the address read."""

    url: str
    title: str = ""
    body: str = ""
    kind: Kind = "info"


AnyJob = Command | Post | Message


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    well: bool
    said: str
    """the rest of a sentence that begins with the name"""
    code: int | None = None
    output: str = ""


def main() -> int:
    """Do what stdin asks for."""
    with suppress(OSError):  # the protection of the supervisor is not for what it runs
        adjust = Path("/proc/self/oom_score_adj")
        if int(adjust.read_text(encoding="ascii")) < 0:
            adjust.write_text("0", encoding="ascii")
    content = sys.stdin.buffer.read()
    if not content:
        return 0
    result = done(msgspec.json.decode(content, type=AnyJob))
    with suppress(OSError):  # nobody waits for it any more
        sys.stdout.buffer.write(msgspec.json.encode(result))
        sys.stdout.buffer.flush()
    os._exit(0)  # what hangs in a thread is not waited for


def done(job: AnyJob) -> Result:
    """Do it, to its end or to its deadline."""
    match job:
        case Command():
            return run(job)
        case Post():
            return post(job)
        case Message():
            return send(job)


def run(job: Command) -> Result:
    """Run a command to its end, or to its deadline."""
    try:
        child = subprocess.Popen(
            job.words,
            cwd=job.folder,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Result(well=False, said=f"could not be started: {error.strerror}")
    until_s = time.monotonic() + job.max_s
    output = _watched(child, until_s)
    code = child.poll()
    late = code is None
    if code is None:
        code = _ended(child)
    text = output.decode(errors="replace")
    last = (text.strip().splitlines() or [""])[-1][:200]
    how = f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}"
    if late:
        how = f"had not ended after {job.max_s:g} s, and was ended"
    said = f"{how}: {last}" if last else how
    return Result(well=code == 0 and not late, said=said, code=code, output=text)


def _watched(child: subprocess.Popen[bytes], until_s: float) -> bytes:
    """Read what a command prints until it ends or its time is over; the end of that."""
    output = b""
    with selectors.DefaultSelector() as ready:
        assert child.stdout is not None  # noqa: S101 - given by PIPE, unknown to mypy
        ready.register(child.stdout, selectors.EVENT_READ)
        ready.register(os.pidfd_open(child.pid), selectors.EVENT_READ)
        while (left_s := until_s - time.monotonic()) > 0:
            found = {key.fileobj for key, _ in ready.select(left_s)}
            if child.stdout in found:
                piece = os.read(child.stdout.fileno(), 65536)
                output = (output + piece)[-OUTPUT_MAX_BYTES:]
                if not piece:
                    ready.unregister(child.stdout)
            elif found:  # it has ended, and what it has left behind may hold the pipe
                break
    return output


def _ended(child: subprocess.Popen[bytes]) -> int:
    """End a command and what it has started; its code."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return child.wait(TERM_S)
    return -signal.SIGKILL


def post(job: Post) -> Result:
    """Post a text; again after a while if the other side is not to be had."""
    # Heavy, and of no use to the daemon, which knows the values above.
    from urllib import error, parse, request  # noqa: PLC0415 - see above

    parts = parse.urlsplit(job.url)
    address = parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    asked = request.Request(address, data=job.body.encode(), method="POST")  # noqa: S310 - checked
    asked.add_header("Content-Type", "application/json")
    asked.add_header("User-Agent", "training-supervisor")
    if parts.username is not None:
        pair = f"{parse.unquote(parts.username)}:{parse.unquote(parts.password or '')}"
        asked.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    opener = request.OpenerDirector()  # http and https alone, and nothing that leads elsewhere
    for handler in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler,
        request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    said = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(job.pause_s)
        try:
            with opener.open(asked, timeout=ATTEMPT_MAX_S) as answer:
                answer.read(1)
            return Result(well=True, said="has it")
        except error.HTTPError as refused:
            said = f"answered with status {refused.code}"
        except (OSError, ValueError) as trouble:
            said = f"cannot be reached: {getattr(trouble, 'reason', None) or trouble}"
        except Exception as trouble:  # noqa: BLE001 - of the protocol; only its name is harmless
            said = f"does not speak HTTP ({type(trouble).__name__})"
    return Result(well=False, said=said)


def send(job: Message) -> Result:
    """Send a message by apprise, or only have it read the address.

    What apprise says of a failure may hold the address: of that only a status is told on.
    """
    try:
        import apprise  # noqa: PLC0415 - heavy, an extra, and only for this
    except ModuleNotFoundError:
        return Result(
            well=False,
            said="needs a package that is missing: pip install 'training-supervisor[notify]'",
        )
    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.addHandler(heard)
    logger.propagate = False
    asset = apprise.AppriseAsset(
        app_id="training-supervisor",
        app_desc="Training supervisor",
        image_url_mask="",  # or whoever is told would fetch pictures from apprise's own pages
    )
    service = apprise.Apprise.instantiate(job.url, asset=asset)
    if service is None:
        return Result(
            well=False,
            said="is an address that apprise cannot read, or lacks a package that its kind needs: "
            "see https://appriseit.com/services",
        )
    if not job.body:
        return Result(well=True, said="can be read")
    taken: list[bool] = []

    def notify() -> None:
        sender = apprise.Apprise(asset=asset)
        sender.add(service)
        text = apprise.NotifyFormat.TEXT
        taken.append(bool(sender.notify(job.body, job.title, job.kind, body_format=text)))

    thread = threading.Thread(target=notify, daemon=True)
    thread.start()
    thread.join(job.max_s)
    if thread.is_alive():
        return Result(well=False, said=f"has not taken it within {job.max_s:g} s")
    if taken == [True]:
        return Result(well=True, said="has it")
    if heard.status is not None:
        return Result(well=False, said=f"answered with status {heard.status}")
    return Result(well=False, said="cannot be reached, or does not take it")


class _Heard(logging.Handler):
    """Listens to apprise, for the status by which a server refuses."""

    status: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the status, where there is one; the rest may hold what is secret."""
        found = re.search(r"\berror=([1-5][0-9]{2})\b", record.getMessage())
        self.status = found[1] if found else self.status

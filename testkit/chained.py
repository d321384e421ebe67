"""A trainer whose result tells whether a step was left out, done twice, or begun from elsewhere.

Each step hashes what the steps before have come to. So two runs come to the same only if each has
made every step once, in order, whatever has stopped, frozen or killed it in between. It has a
family: children that have children, in its process group and in a session of their own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainers.checkpoint import Checkpoints

NAME = "chain"
SOURCE = '''
"""Hashes what it has hashed before."""

import contextlib
import hashlib
import os
import signal
import subprocess
import time

import msgspec

from trainers.session import options_of

UNIT = "links"
FAMILY = "sleep 9999 & sleep 9999 & wait"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pause_s: float = 0.02
    family: bool = False
    save_s: float = 0.0


def files(link, save_s):
    yield "link", link
    time.sleep(save_s)  # a kill here finds the checkpoint half written
    yield "again", link


def train(session):
    options = options_of(session.spec, Options)
    link = (session.checkpoint.path / "link").read_bytes() if session.checkpoint else b""
    children = [
        subprocess.Popen(["sh", "-c", FAMILY], start_new_session=True)
        for _ in range(2 * options.family)
    ]
    try:
        while not (session.target_reached or session.stop_requested):
            time.sleep(options.pause_s)
            link = hashlib.sha256(link + b"%d" % session.step).digest()
            session.progress(session.step + 1)
            if session.checkpoint_due():
                session.save(files(link, options.save_s))
        if session.step:
            session.save(files(link, options.save_s))
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
'''


def install(folder: Path) -> None:
    """Put the trainer into a folder of trainers of the user's own."""
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.py").write_text(SOURCE)


def saved(run: Path) -> tuple[int, str]:
    """How many links the newest checkpoint of a run has, and what they come to; none is damaged."""
    found = Checkpoints(run / "checkpoints").newest()
    assert found.passed_over == ()
    if found.checkpoint is None:
        return 0, ""
    return found.checkpoint.manifest.step, (found.checkpoint.path / "link").read_bytes().hex()


def undisturbed(links: int) -> str:
    """What so many links come to where nothing ever happens."""
    link = b""
    for number in range(links):
        link = hashlib.sha256(link + b"%d" % number).digest()
    return link.hex()

"""Who is told elsewhere: each address of [notify], what goes there, and whether it can.

Of an address only its number among them and its kind are told, and of a server that takes JSON the
host: what else it holds may be a password. What sends is always `supervisor.errand`, in a process
of its own, and nothing here opens a connection.
"""

from __future__ import annotations

import os
import re
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from supervisor.core.events import Event
from supervisor.core.settings import Notify
from supervisor.errand import Job, Kind, Message, Post, Result
from supervisor.journal import Line, human
from supervisor.programs import program

POST_MAX_S = 60.0
"""one errand to one address, repetitions included"""
POST_PAUSE_S = 4.0
"""between its attempts"""
SPARE_S = 30.0
"""beyond its own deadline, before the process of an errand is ended"""
PACE_S = 60.0
"""between two messages to one address of apprise: they make a telephone ring"""
POSTED_LINES = 20
"""of one post; more follow at once"""
DIGEST_LINES = 12
"""of one message; of more it says how many"""
REASON_MAX = 500
"""letters of a sentence that is told"""
TEXT_MAX = 1900
"""letters of all of them together, as chat services take them"""
WORST_LAST: tuple[Kind, ...] = ("info", "success", "warning", "failure")
"""the worst of several lines is what a message is about"""
KINDS: dict[str, Kind] = {
    Event.CAMPAIGN_DONE: "success",
    Event.DISK_EASED: "success",
    Event.JOBS_EASED: "success",
    Event.MODE_PROVED: "success",
    Event.RUN_CLEARED: "success",
    Event.RUN_DONE: "success",
    Event.STATE_SAVED: "success",
    Event.DISK_LOW: "warning",
    Event.GPU_LEAKED: "warning",
    Event.GUARD_BLIND: "warning",
    Event.GUARD_EVICTED: "warning",
    Event.JOBS_LATE: "warning",
    Event.REQUEST_UNREADABLE: "warning",
    Event.RUN_DIED: "warning",
    Event.RUN_HUNG: "warning",
    Event.RUN_LOST: "warning",
    Event.RUN_NOTICED: "warning",
    Event.RUN_QUARANTINED: "warning",
    Event.SAMPLES_STOPPED: "warning",
    Event.SETTINGS_REFUSED: "warning",
    Event.USAGE_LATE: "warning",
    Event.USAGE_UNKNOWN: "warning",
    Event.RUN_BLOCKED: "failure",
    Event.RUN_FAILED: "failure",
    Event.STATE_DAMAGED: "failure",
    Event.STATE_UNSAVED: "failure",
}
"""how bad a line is by its event; any other is for information"""
TRIED = "this is a test: what the supervisor here decides and notices will be told like this"
"""what is told by hand"""


class Recipient(NamedTuple):
    """One address."""

    number: int
    """its place in the settings, from 1"""
    url: str

    @property
    def key(self) -> str:
        """What stands for the address on the disk; another address has another."""
        return f"{zlib.crc32(self.url.encode()):08x}"

    @property
    def by_apprise(self) -> bool:
        """Whether apprise knows what to do with it; else it takes JSON."""
        return re.match("https?://", self.url, re.IGNORECASE) is None

    @property
    def name(self) -> str:
        """What everybody may hear of it."""
        kind, _, rest = self.url.partition("://")
        host = "" if self.by_apprise else re.split("[/?#]", rest)[0].rpartition("@")[2]
        return f"number {self.number} of notify.urls ({kind.lower()}{host and f'://{host}'})"

    @property
    def pace_s(self) -> float:
        """How long it is left alone after it has been told something."""
        return PACE_S if self.by_apprise else 0.0

    def job(self, lines: Sequence[Line], home: Path) -> Job:
        """What tells it of lines of the log: of all of them, or of the first."""
        if self.by_apprise:
            title, body, kind = message(lines, home)
            return self._message(title, body, kind, seq=lines[-1]["seq"])
        lines = lines[:POSTED_LINES]
        text = "\n".join(f"{_host()}: {_in_words(line)}" for line in lines)
        return self._post(text, [_kept(line) for line in lines], seq=lines[-1]["seq"])

    def trial(self, home: Path) -> Job:
        """What tells it something that needs no answer, so that somebody sees it arrive."""
        if self.by_apprise:
            return self._message(f"{_host()}: a test ({home})", TRIED, "info")
        return self._post(f"{_host()}: {TRIED}", [])

    def reading(self) -> Job:
        """What has apprise read the address, and sends nothing."""
        return self._message("", "", "info")

    def _message(self, title: str, body: str, kind: Kind, *, seq: int = 0) -> Job:
        return Message(
            seq=seq, name=self.name, max_s=POST_MAX_S, url=self.url, title=title, body=body,
            kind=kind,
        )  # fmt: skip

    def _post(self, text: str, lines: Sequence[dict[str, Any]], *, seq: int = 0) -> Job:
        text = text[:TEXT_MAX]
        body = {"text": text, "content": text, "host": _host(), "lines": lines}
        return Post(
            seq=seq, name=self.name, max_s=POST_MAX_S, url=self.url, pause_s=POST_PAUSE_S,
            body=msgspec.json.encode(body).decode(),
        )  # fmt: skip


def of(wanted: Notify) -> tuple[Recipient, ...]:
    """Those of the settings, in their order."""
    return tuple(Recipient(number, url) for number, url in enumerate(wanted.urls, 1))


def message(lines: Sequence[Line], home: Path) -> tuple[str, str, Kind]:
    """Title, text and kind of the one message that tells of all these lines.

    It is about the worst of them, and of these the newest. Where there are too many for one, that
    is told, and the newest of the others.
    """
    worst = max(reversed(lines), key=lambda line: WORST_LAST.index(_kind_of(line)))
    told = {worst["seq"]: _in_words(worst)}
    left = TEXT_MAX - len(told[worst["seq"]])
    for line in reversed(lines):
        text = _in_words(line)
        left -= 0 if line is worst else len(text)
        if left < 0 or len(told) == DIGEST_LINES:
            break
        told[line["seq"]] = text
    texts = [text for _, text in sorted(told.items())]
    if untold := len(lines) - len(texts):
        texts.append(f"and {untold} more: see `supervisor decisions`")
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    title = f"{_host()}: {_headline(worst)}{more} ({home})"
    return title, "\n".join(texts), _kind_of(worst)


def _kind_of(line: Line) -> Kind:
    """How bad it is what a line tells."""
    event, evidence = line.get("event"), line.get("evidence") or {}
    if event == Event.MODE_CHANGED:
        return "success" if _climbs(line) else "warning"
    if event == Event.BOOT_RECORDED:
        return "warning" if evidence.get("crash") else "info"
    if event == Event.CAMPAIGN_DONE and evidence.get("failed"):
        return "warning"
    return KINDS.get(str(event), "info")


def _climbs(line: Line) -> bool:
    ladder = (line.get("facts") or {}).get("ladder") or ()
    old, new = line.get("old"), line.get("new")
    return old in ladder and new in ladder and ladder.index(new) > ladder.index(old)


def _headline(line: Line) -> str:
    """What has happened, in as many words as a telephone shows."""
    one = human(line)
    words = [one["event"].replace(".", " "), one["subject"]]
    if line.get("event") == Event.MODE_CHANGED:
        words[0] = "climbed" if _climbs(line) else "fell back"
    if line.get("event") == Event.BOOT_RECORDED and _kind_of(line) == "warning":
        words[0] = "back after a crash"
    return " ".join(filter(None, words))


def _in_words(line: Line) -> str:
    one = human(line)
    what = " ".join(filter(None, (one["event"], one["subject"])))
    return f"{what}: {one['reason'][:REASON_MAX]}"


def _kept(line: Line) -> dict[str, Any]:
    """What of a line is posted."""
    words = {
        field: str(line[field])[:REASON_MAX]
        for field in ("time", "event", "rule", "run", "old", "new", "reason")
        if line.get(field) is not None
    }
    return {"seq": line["seq"], **words}


def _host() -> str:
    return os.uname().nodename


def troubles(wanted: Notify) -> Iterator[str]:
    """What keeps each address from being told anything that can be known without telling it."""
    for one in of(wanted):
        if one.by_apprise and not (result := outcome_of(one.reading())).well:
            yield f"{one.name} {result.said}"


def outcome_of(job: Job) -> Result:
    """Have an errand done, and wait for it; what came of it."""
    try:
        ended = subprocess.run(
            program("supervisor.errand"),
            input=msgspec.json.encode(job),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=job.max_s + SPARE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return result_of(b"")
    return result_of(ended.stdout)


def result_of(content: bytes) -> Result:
    """What an errand has said of itself in the end."""
    try:
        return msgspec.json.decode(content, type=Result)
    except msgspec.MsgspecError:
        return Result(well=False, said="came to no end that is known")

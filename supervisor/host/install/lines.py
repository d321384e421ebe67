"""Lines of shells that start the supervisor, between the lines of a person's own file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from supervisor.host.install.steps import Step, is_held, our_command, run
from trainers import durable

BEGIN, END = "# >>> training-supervisor >>>", "# <<< training-supervisor <<<"
WITH_FILE, WITH_LINE_END = " and the file", " and the line end before it"
IN_EMPTY = " and no more"
"""behind the first mark: what else is ours"""
OURS = (" run --plain", " analyze-usage --timer", " sample-usage --timer")
"""one of them stands in every line that is ours: it starts the supervisor, or learns usage"""


def start_log(home: Path) -> str:
    """The file for what a start says that fails, as a shell takes it."""
    return shlex.quote(str(home / "start.log"))


def unless_running(home: Path) -> str:
    """A prefix that costs next to nothing while the supervisor runs and holds its lock.

    Without `flock` the supervisor itself finds out, in a tenth of a second.
    """
    lock = shlex.quote(str(home / durable.LOCK))
    return f"[ -f {lock} ] && flock -nsE 99 {lock} true; [ $? = 99 ] ||"


def start_apart(home: Path) -> str:
    """Starts the supervisor apart from the login, and again when it was killed."""
    start = f"{our_command(home)} run --plain 2>{start_log(home)}"
    again = f"until {start}; do [ $? = 75 ] && exit; sleep 5; done"
    return (
        # The whole group in the background lets go of the login's streams, and waits for no disk.
        f"({{ mkdir -p {shlex.quote(str(home))}; {unless_running(home)} "
        f"exec setsid sh -c {shlex.quote(again)}; }} </dev/null >/dev/null 2>&1 &)"
    )


def start_now(home: Path) -> Step:
    """What the next boot will do, done today."""
    line = start_apart(home)
    start = run("sh", "-c", line, unless=lambda: is_held(home))
    return start._replace(text="start the supervisor", details=line)


def stop_now(home: Path) -> Step:
    """What taking it away leaves nobody to do."""
    stop = run(*shlex.split(our_command(home)), "stop", unless=lambda: not home.exists())
    return stop._replace(text="save and stop every run, and the supervisor")


def with_lines(text: str, *lines: str, note: str = "") -> str:
    """A person's file with lines of ours at its end; the note says of an empty one whose it is."""
    if text and not text.endswith("\n"):
        text, note = f"{text}\n", WITH_LINE_END
    elif text:
        note = ""
    return "\n".join([f"{text}{BEGIN}{note}", *lines, END, ""])


def without_ours(text: str) -> tuple[str, bool]:
    """A person's file without our lines, and whether the whole file was of our making.

    Ours are the marks and, between them, the lines that start the supervisor or learn usage:
    whatever else stands there is the person's.
    """
    kept: list[str] = []
    within, whole_file, line_end = False, False, False
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        bare = line.rstrip()
        if bare.startswith(BEGIN):
            within, note = True, bare.removeprefix(BEGIN)
            # Earlier versions made no note of a file that they had made.
            whole_file, line_end = note in ("", WITH_FILE), note == WITH_LINE_END
        elif within and bare == END:
            within = False
        elif not (within and any(word in line for word in OURS)):
            kept.append(line)
            line_end = line_end and within  # behind other lines, it is needed
    rest = "".join(kept)
    return rest.removesuffix("\n") if line_end else rest, whole_file

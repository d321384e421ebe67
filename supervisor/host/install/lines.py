"""Lines of shells that start the supervisor, between the lines of a person's own file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from supervisor.host import api
from supervisor.host.home import Home
from supervisor.host.install.steps import Step, is_held, our_command, run
from trainers import durable

BEGIN, END = "# >>> training-supervisor >>>", "# <<< training-supervisor <<<"
WITH_FILE, WITH_LINE_END = " and the file", " and the line end before it"
IN_EMPTY = " and no more"
"""behind the first mark: what else is ours"""
RUN, SERVE = "run --plain", "serve"
"""what starts the supervisor, and the API beside it"""
OURS = (f" {RUN}", f" {SERVE} 2>", " analyze-usage --timer", " sample-usage --timer")
"""one of them stands in every line that is ours: it starts one of the two, or learns usage"""


def begin(home: Path, words: str) -> str:
    """What starts one of the two, as a shell takes it; what a start says that fails lies in a file.

    Args:
        home: whose.
        words: `RUN` or `SERVE`.
    """
    log = home / "start.log" if words == RUN else Home(home).api / api.LOG
    return f"{our_command(home)} {words} 2>{shlex.quote(str(log))}"


def unless_running(home: Path, words: str = RUN) -> str:
    """A prefix that costs next to nothing while that runs already, and holds its lock.

    Without `flock` it finds out itself, in a tenth of a second. Its folder is made where it is not.
    """
    folder = home if words == RUN else Home(home).api
    lock = shlex.quote(str(folder / durable.LOCK))
    make = f"mkdir -p {shlex.quote(str(folder))}"
    return f"{make}; [ -f {lock} ] && flock -nsE 99 {lock} true; [ $? = 99 ] ||"


def start_apart(home: Path, words: str = RUN) -> str:
    """Starts one of the two apart from the login, and again when it was killed."""
    # Two supervisors are one too many; an API may wait for its store, its port or a person.
    rest = "[ $? = 75 ] && exit" if words == RUN else "case $? in 75|78) sleep 55;; esac"
    again = f"until {begin(home, words)}; do {rest}; sleep 5; done"
    return (
        # The whole group in the background lets go of the login's streams, and waits for no disk.
        f"({{ {unless_running(home, words)} "
        f"exec setsid sh -c {shlex.quote(again)}; }} </dev/null >/dev/null 2>&1 &)"
    )


def start_now(home: Path) -> Step:
    """What the next boot will do, done today."""
    line = start_apart(home)
    start = run("sh", "-c", line, unless=lambda: is_held(home))
    return start._replace(text="start the supervisor", details=line)


def serve_now(home: Path) -> Step:
    """The same for the API."""
    line = start_apart(home, SERVE)
    start = run("sh", "-c", line, unless=lambda: api.served(Home(home)) is not None)
    return start._replace(text="start taking jobs in", details=line)


def stop_now(home: Path) -> Step:
    """What taking it away leaves nobody to do."""
    stop = run(*shlex.split(our_command(home)), "stop", unless=lambda: not home.exists())
    return stop._replace(text="save and stop every run, and the supervisor")


def serves(text: str) -> bool:
    """Whether lines of ours in a person's file start the API."""
    ours, _ = without_ours(text)
    return text.count(f" {SERVE} 2>") > ours.count(f" {SERVE} 2>")


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

"""A home under chaos, watched in a real browser: whatever happens, the page says what is true.

A supervisor, its trainers and the server of the page are killed, stopped and asked for things, from
one seed. Two tabs stay open all the while, one of each size, and a third one that runs no scripts
is opened anew for each look. Who knows the truth is the command line: `show-state`, and the log.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import expect

from supervisor.core.queue import ENDED
from supervisor.screen import count
from testkit.browser import Chromium, Visit
from testkit.commands import Commands
from testkit.machine import Machine
from testkit.processes import mains
from testkit.storm import free_port, kill

SETTINGS = """\
[campaign]
trainer = "drill"
runs = [{runs}]
target = {{ steps = 10000000 }}

[campaign.options]
steps_per_s = 200

[checkpoints]
interval_s = 0.2

[recovery]
backoff_first_s = 0.1
backoff_max_s = 0.5
quarantine_after = 1000

[policy]
idle_after = 99

[web]
listen = "127.0.0.1:{port}"
"""
NAMES = (
    "A", "B", "constructor", "0", "toString", "NaN", "1e3", "a" * 64, "hasOwnProperty", "null",
    "x--", "Z_-_-9", "false", "verdict", "runs", "part",
)  # fmt: skip
"""of runs: the first two at once, one more with each blow that adds one. A script that takes a name
for anything but text stumbles over some of them"""
NO_NAME = "</script><img src=x onerror=alert(1)>\u202e"
"""what the settings refuse, and the log quotes"""
LOOKS_MAX = 10
"""of the page, after which what it says is wrong and not late"""
LINES = 50
"""of the log, which the page shows"""

READ = """() => {
    const text = one => one ? one.textContent.replace(/\\s+/g, " ").trim() : "";
    const live = key => text(
        [...document.querySelectorAll("[data-live]")].find(one => one.dataset.live === key));
    const rows = {};
    for (const term of document.querySelectorAll("#next dt")) {
        rows[text(term)] = text(term.nextElementSibling);
    }
    const verdict = document.querySelector("#verdict");
    return {
        at: live("verdict.at"),
        opened: document.body.dataset.opened ?? "",
        apart: document.body.classList.contains("apart"),
        title: document.title,
        icon: document.querySelector("link[rel=icon]").href.split("/").pop(),
        tone: verdict.classList[1],
        said: live("verdict.said"),
        rows,
        buttons: [...document.querySelectorAll("#next .button")].map(text),
        runs: [...document.querySelectorAll("#runs [data-run]")].map(one => ({
            called: one.dataset.run,
            status: text(one.querySelector(".status") ?? one.querySelector("span:not(.sign)")),
            reached: text(one.querySelector(".reached") ?? one.querySelector(".much")),
            restarts: live(`runs.${one.id.slice("run=".length)}.restarts`),
        })),
        log: [...document.querySelectorAll("#decisions .log li")].map(one => [
            text(one.querySelector(".seq")), text(one.querySelector(".event")),
            text(one.querySelector(".reason"))]),
    };
}"""
"""all that a page says, at one moment"""


class Truth(NamedTuple):
    """What the command line tells of one moment."""

    state: dict[str, Any]
    log: list[dict[str, Any]]

    @property
    def is_quiet(self) -> bool:
        """Nothing is under way: whoever should train does, and nobody begins or ends."""
        kinds = Counter(run["status"] for run in self.state["runs"])
        if kinds["starting"] or kinds["stopping"]:
            return False
        at_work = self.state["daemon"]["state"] == "running" and not self.state["goal"]["pauses"]
        return not at_work or kinds["running"] == len(self.demanded)

    @property
    def demanded(self) -> list[dict[str, Any]]:
        """Runs that should train."""
        runs = self.state["runs"]
        return [run for run in runs if run["status"] not in ENDED and run["waits"] is None]

    @property
    def steps(self) -> dict[str, float]:
        """How far each run is, as it is shown."""
        return {run["called"]: _number(count(run["step"])) for run in self.state["runs"]}

    def told(self) -> dict[str, Any]:
        """What a page has to say of it, but for steps and times."""
        state = self.state
        tone, said = self._verdict()
        paused = "person" in state["goal"]["pauses"]
        pinned = state["goal"]["pinned"]
        return {
            "tone": tone,
            "said": said,
            "next": _timeless(state["next"]["why"]),
            "mode": state["mode"],
            "bounds": ", ".join(state["bounds"]) or "none",
            "buttons": [
                "Resume" if paused else "Pause", "Scale up", "Scale down",
                "Unpin" if pinned else f"Pin {state['mode']}",
            ],
            "runs": {
                run["called"]: (
                    run["status"]
                    + (f" in {run['mode']}" if run["mode"] and run["pid"] else ""),
                    str(run["restarts"]) if run["step"] or run["status"] != "queued" else "",
                )
                for run in state["runs"]
            },
            "log": [
                [str(line["seq"]), line["event"], _plain(line["reason"])]
                for line in reversed(self.log[-LINES:])
            ],
        }  # fmt: skip

    def _verdict(self) -> tuple[str, str]:
        state, crashes = self.state, self.state["crashes_total"]
        fell = f"{crashes or 'no'} crash{'es' if crashes > 1 else ''} in 24 h"
        if state["daemon"]["state"] != "running":
            last = [line["event"] for line in self.log if line["event"].startswith("supervisor.")]
            if last[-1:] == ["supervisor.stopped"]:
                return "rest", "Stopped as asked; nothing trains"
            return "bad", "The supervisor is gone without a word; nobody looks after training"
        if state["goal"]["pauses"]:
            return "rest", f"Paused by a person; {fell}"
        many = len(self.demanded)
        tone = "warn" if state["crashes_last_hour"] else "well"
        return tone, f"Training, {state['mode']}, {many} of {many} running; {fell}"


class Tab:
    """One tab.

    Args:
        visit: it.
        anew: it is opened anew for each look, as whoever runs no scripts does it.
    """

    def __init__(self, visit: Visit, *, anew: bool = False) -> None:
        self.visit, self._anew = visit, anew
        visit.go()
        visit.page.evaluate("document.body.dataset.opened = 'once'")

    def read(self) -> dict[str, Any]:
        """All that it says now."""
        if self._anew:
            self.visit.go()
        found: dict[str, Any] = self.visit.page.evaluate(READ)
        assert self._anew or found["opened"], "the page was loaded again"
        return found


def differences(found: Mapping[str, Any], before: Truth, after: Truth) -> list[str]:
    """What a tab says that was not true from one moment to another, between which it was read."""
    told = after.told()
    wrong = [
        f"{what}: it says {said!r}, true is {told[what]!r}"
        for what, said in _said(found).items()
        if said != told[what]
    ]
    for run in found["runs"]:
        low, high = (one.steps.get(run["called"], -1.0) for one in (before, after))
        step = _number(run["reached"])
        if not low <= step <= high:
            wrong.append(f"{run['called']} is at {step:g}, and was from {low:g} to {high:g}")
    if found["apart"]:
        wrong.append("it says that it is cut off")
    if found["title"] != found["said"]:
        wrong.append(f"the title is {found['title']!r}, and the verdict {found['said']!r}")
    if found["icon"] != f"icon-{found['tone']}.svg":
        wrong.append(f"the icon is {found['icon']}, and the tone {found['tone']}")
    return wrong


def _said(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a page says, in the shape of `Truth.told`."""
    signs = "●◐❚✓▲■ "
    return {
        "tone": found["tone"],
        "said": _timeless_verdict(found["said"]),
        "next": _timeless(found["rows"]["next"]),
        "mode": found["rows"]["mode"].partition(" ")[0],
        "bounds": found["rows"]["bounds"],
        "buttons": found["buttons"],
        "runs": {
            run["called"]: (run["status"].strip(signs), run["restarts"]) for run in found["runs"]
        },
        "log": [[seq, event.strip(signs), _plain(why)] for seq, event, why in found["log"]],
    }


def _timeless_verdict(said: str) -> str:
    """The sentence at the top without times, which go on."""
    said = re.sub(r", [^,;]* left", "", said)
    return re.sub(r"(, (the newest )?| )[\d.]+ \w+ ago", "", said)


def _timeless(said: str) -> str:
    return re.sub(r"[\d.]+ (s|min|h|d)\b", "#", said)


def _plain(reason: str) -> str:
    """A text as it is where nothing in it turns it around, and each space is one."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in reason)
    return re.sub(r"\s+", " ", shown).strip()


def _number(shown: str) -> float:
    """The number with which a text begins, as `screen.count` writes it."""
    found = re.match(r"([\d.]+)([kMG]?)", shown)
    assert found, shown
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]


class Chaos:
    """What happens to a home while its page is watched.

    Args:
        place: a folder for it.
        commands: starts commands quickly.
        browser: the browser.
        seed: of all chance.
    """

    def __init__(self, place: Path, commands: Commands, browser: Chromium, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - to be lived again, not to be secret
        self._browser = browser
        self._port = free_port(random.Random(seed))  # noqa: S311 - as above
        self._names = 2
        self._asked: list[str] = []
        """what was asked of the supervisor, in order"""
        self._machine = Machine(place / "home", commands=commands)
        self._configure()
        self._blows: dict[str, Callable[[], None]] = {
            "trainer": self._kill_trainer,
            "supervisor": self._kill_supervisor,
            "reboot": self._reboot,
            "server": self._kill_server,
            "pause": self._pause,
            "run": self._add_run,
            "mode": self._move,
            "nonsense": self._write_nonsense,
            "stop": self._stop,
        }

    def rage(self, count: int) -> None:
        """So many blows, after each of which every tab says what is true.

        Raises:
            AssertionError: one does not, or the browser has complained, or the page has done
                something to the home.
        """
        address = f"http://127.0.0.1:{self._port}"
        with contextlib.ExitStack() as stack:
            stack.callback(self._machine.crash)
            self._start()
            self._serve()
            phone, desk, still = (
                stack.enter_context(self._browser.visiting(address, size=size, scripts=scripts))
                for size, scripts in (("phone", True), ("desk", True), ("phone", False))
            )
            self._live = [Tab(phone), Tab(desk)]
            self._still = Tab(still, anew=True)
            self._see("it was opened")
            for blow in self._dealt(count):
                with self._one_hidden():
                    self._blows[blow]()
                self._see(blow)
            self._see_that_nothing_was_done()

    def _dealt(self, count: int) -> Iterator[str]:
        """Kinds of blows: all of them before one comes again."""
        kinds: list[str] = []
        for _ in range(count):
            kinds = kinds or self._chance.sample(list(self._blows), len(self._blows))
            yield kinds.pop()

    @contextlib.contextmanager
    def _one_hidden(self) -> Iterator[None]:
        """Perhaps one of the tabs is hidden meanwhile: it has no stream, and asks for nothing."""
        if self._chance.random() < 0.5:
            yield
            return
        shown, hidden = self._chance.sample(self._live, 2)
        hidden.visit.hide()
        self._machine.until(lambda: not hidden.visit.streams(), "it has closed its stream")
        asked = len(hidden.visit.asked)
        self._live = [shown]
        yield
        assert not hidden.visit.streams()
        assert hidden.visit.asked[asked:] == []
        hidden.visit.show()
        self._live = [shown, hidden]

    # What is seen.

    def _truth(self) -> Truth:
        return Truth(self._machine.state(), self._machine.events())

    def _see(self, after_what: str) -> None:
        """See that every tab says what is true, once nothing is under way.

        A tab may be late by some looks, but not by more: what it has missed would often be mended
        by what comes next, and nobody would know.
        """
        before, tried = self._truth(), [""]
        late: dict[Tab, set[str]] = {tab: set() for tab in (*self._live, self._still)}

        def all_say_so() -> bool:
            nonlocal before, tried
            read = {tab: tab.read() for tab in self._live}
            moments = [found["at"] for found in read.values()]
            if moments == tried:
                return False  # they have been told nothing since
            tried = moments
            read[self._still] = self._still.read()
            now = self._truth()
            if not now.is_quiet or now.told() != before.told():
                before = now
                for known in late.values():
                    known.clear()
                return False
            wrong = {tab: differences(found, before, now) for tab, found in read.items()}
            for tab, found in read.items():
                if wrong[tab]:
                    late[tab].add(found["at"])
                    assert len(late[tab]) <= LOOKS_MAX, f"after {after_what}: {wrong[tab]}"
            return not any(wrong.values())

        self._machine.until(all_say_so, f"after {after_what} all tabs say what is true")

    def _see_that_nothing_was_done(self) -> None:
        """See that the page has only looked, and that all was asked by the command line."""
        tabs = [*self._live, self._still]
        methods = {asked.method for tab in tabs for asked in tab.visit.asked}
        assert methods == {"GET"}, methods
        found = [line["evidence"]["kind"] for line in self._machine.events() if "request" in line]
        assert found == self._asked, (found, self._asked)

    # Who lives.

    def _configure(self, *more: str) -> None:
        runs = ", ".join(f"'{name}'" for name in (*NAMES[: self._names], *more))
        self._machine.configure(SETTINGS.format(runs=runs, port=self._port))

    def _start(self) -> None:
        self._supervisor = self._machine.start()

    def _serve(self) -> None:
        self._server = self._machine.launch(self._machine.command("serve"))
        self._machine.until(lambda: self._machine.state()["page"], "the page is served")

    @contextlib.contextmanager
    def _cut_off(self) -> Iterator[None]:
        """The server is away: whoever looks is told so, and is told otherwise once it is back."""
        told = [tab.visit.page.locator("#connection") for tab in self._live]
        with contextlib.ExitStack() as stack:
            for tab in [*self._live, self._still]:
                stack.enter_context(tab.visit.bearing_troubles())
            self._server.kill()
            self._server.wait()
            for one in told:
                expect(one).to_contain_text("Not connected since")
            yield
            self._serve()
            for one in told:
                expect(one).to_be_hidden()

    def _await(self, event: str, act: Callable[[], object]) -> None:
        """Do something, and wait until the log tells that of it."""
        seen = len(self._machine.events(event))
        act()
        self._machine.until(lambda: len(self._machine.events(event)) > seen, event)

    # Blows. Each returns once what it was about has come to be.

    def _kill_trainer(self) -> None:
        victim = self._chance.choice(sorted(mains(self._machine.home / "runs")))
        self._await("run.died", lambda: kill(victim.pid))

    def _kill_supervisor(self) -> None:
        self._supervisor.kill()
        self._supervisor.wait()
        self._see("the supervisor was killed")
        self._start()

    def _reboot(self) -> None:
        with self._cut_off():
            self._machine.reboot()
            self._start()

    def _kill_server(self) -> None:
        with self._cut_off():
            self._kill_trainer()  # so that there is something which no tab was told

    def _pause(self) -> None:
        self._ask("pause", "pause")
        self._see("a pause")
        self._ask("resume", "resume")

    def _move(self) -> None:
        if self._machine.state()["mode"] == "light":
            self._ask("force-scale-up", "scale_up")
        else:
            self._ask("force-scale-down", "scale_down")

    def _ask(self, command: str, kind: str) -> None:
        answer = self._machine(command)
        assert answer.returncode == 0, answer.stderr
        self._asked.append(kind)

    def _add_run(self) -> None:
        self._names = min(self._names + 1, len(NAMES))
        self._await("settings.changed", self._configure)

    def _write_nonsense(self) -> None:
        self._await("settings.refused", lambda: self._configure(NO_NAME))
        self._see("nonsense in the settings")
        self._configure()

    def _stop(self) -> None:
        self._machine.stop(self._supervisor)
        self._see("a stop")
        self._start()

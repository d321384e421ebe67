"""Errands of a supervisor: a command when all is done, and lines that are posted elsewhere."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import apprise
import msgspec
import pytest

from modes import load_ladder
from state.records import Generations
from supervisor import recipients
from supervisor.core import history
from supervisor.core.events import TOLD_ELSEWHERE
from supervisor.core.settings import Notify, Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.journal import Journal
from supervisor.messenger import Messenger, Said
from supervisor.recipients import KINDS, PACE_S, WORST_LAST
from testkit.listener import SECRETS, Listener
from testkit.patience import PATIENCE_S

REST_S = 4000.0
"""longer than any place rests"""


class World:
    """A home, its log, and supervisors of it that live one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder)
        self.home.make()
        self.wanted = Notify()
        self.now_s = 0.0
        self.boot_id = SystemClock().read().boot_id
        self.said: list[Said] = []
        self.seq = 0
        self.start()

    def read(self):
        """All clocks, as the messenger reads them."""
        real = SystemClock().read()
        return msgspec.structs.replace(
            real,
            wall=real.wall + self.now_s,
            monotonic_s=real.monotonic_s + self.now_s,
            boot_id=self.boot_id,
        )

    def start(self) -> None:
        """A supervisor comes to life."""
        self.journal = Journal(self.home, screen=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        self.messenger = Messenger(self.home, self.journal, self)
        ended = tuple(run.but(status="done") for run in Settings().queue())
        memory = history.first_day(SystemClock().read(), load_ladder(), ended)
        self.memory = msgspec.structs.replace(memory, resting=True)

    def log(self, event: str, reason: str = "so it was", **fields: object) -> None:
        self.seq += 1
        self.journal.deliver([{"seq": self.seq, "event": event, "reason": reason, **fields}])

    def tend(self) -> list[Said]:
        """One turn of the loop; what was said."""
        said = self.messenger.tend(self.wanted, self.memory)
        for one in said:
            self.log(one.event, one.reason)
        self.messenger.go()
        self.said += said
        return said

    def settle(self) -> list[str]:
        """Turn until no errand is left; the events that were told."""
        told = [one.event for one in self.tend()]
        while self.messenger.handles:
            poll = select.poll()
            for handle in self.messenger.handles:
                poll.register(handle, select.POLLIN)
            assert poll.poll(PATIENCE_S * 1000)
            told += [one.event for one in self.tend()]
        return told

    @property
    def ran(self) -> int:
        """How often the command was run."""
        path = self.folder / "ran"
        return len(path.read_text().splitlines()) if path.exists() else 0


RUN = ("sh", "-c", "echo $SUPERVISOR_OUTCOME $SUPERVISOR_RUNS >>ran")
STAY = ("sh", "-c", "echo begun >>ran; exec sleep 60")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("supervisor.recipients.POST_PAUSE_S", 0.01)
    return World(tmp_path / "home")


def until_begun(world: World) -> None:
    """The command has made its mark."""
    while not world.ran:
        select.select([], [], [], 0.02)


def test_the_end_of_a_campaign_runs_the_command_once(world: World) -> None:
    """Also over restarts; a later end is another one."""
    world.wanted = Notify(when_done=RUN)
    assert world.settle() == []
    world.log("campaign.done")
    assert world.settle() == ["notify.started", "notify.ended"]
    assert (world.folder / "ran").read_text() == "done 10\n"
    for _ in range(2):
        assert world.settle() == []
        world.start()
    assert world.ran == 1
    world.log("campaign.done")
    world.settle()
    assert world.ran == 2


@pytest.mark.parametrize("change", ["no longer the end", "asked for later"])
def test_it_is_run_for_an_end_alone(world: World, change: str) -> None:
    """Not when new work has come meanwhile, nor for an end from before somebody asked for it."""
    if change == "no longer the end":
        world.wanted = Notify(when_done=RUN)
        world.memory = msgspec.structs.replace(world.memory, resting=False)
    world.log("campaign.done")
    world.settle()
    world.wanted = Notify(when_done=RUN)
    world.settle()
    assert world.ran == 0


def test_the_end_of_a_generation_runs_it_though_the_next_one_trains(world: World) -> None:
    """It has the number of the one that has ended, and how that came out."""
    script = "echo $SUPERVISOR_GENERATION $SUPERVISOR_OUTCOME $SUPERVISOR_RUNS >>ran"
    world.wanted = Notify(when_done=("sh", "-c", script))
    world.settle()
    world.memory = msgspec.structs.replace(
        world.memory, resting=False, generations=Generations(number=4)
    )
    world.log("campaign.done", evidence={"generation": 3, "runs": 7, "failed": 1})
    world.settle()
    assert (world.folder / "ran").read_text() == "3 failed 7\n"
    world.log("campaign.done", evidence={"generation": 4, "runs": 7, "failed": 0})
    world.settle()  # it was over, and somebody has asked for more of it
    assert world.ran == 1


def test_a_log_from_before_this_was_known_runs_nothing(world: World) -> None:
    """An older version's campaign ended long ago."""
    world.log("campaign.done")
    (world.folder / "told.json").unlink()
    world.start()
    world.wanted = Notify(when_done=RUN)
    assert world.settle() == []


def test_a_command_that_a_crash_cut_off_is_begun_once_more(world: World) -> None:
    """Results may have to be copied before the machine may go; but it is no endless loop."""
    world.wanted = Notify(when_done=STAY)
    world.log("campaign.done")
    for boot in range(1, 4):
        told = [one.event for one in world.tend()]
        if boot == 3:
            assert told == ["notify.failed"]
            break
        assert told == ["notify.started"]
        while world.ran < boot:
            select.select([], [], [], 0.02)
        world.messenger._errand.end()
        world.boot_id = f"{boot:032x}"
        world.start()
    assert world.settle() == []
    assert world.ran == 2


def test_an_orderly_stop_meanwhile_is_its_end(world: World) -> None:
    """The command may be what stops the machine; switched on again, that stays on."""
    world.wanted = Notify(when_done=STAY)
    world.log("campaign.done")
    world.tend()
    until_begun(world)
    errand = world.messenger._errand
    assert [one.event for one in world.messenger.leave()] == ["notify.ended"]
    world.boot_id = "f" * 32
    world.start()
    assert world.settle() == []
    assert world.ran == 1
    errand.end()


def test_a_command_that_outlived_its_supervisor_gets_no_second_beside_it(world: World) -> None:
    """Two copies of an upload would spoil each other."""
    world.wanted = Notify(when_done=STAY)
    world.log("campaign.done")
    world.tend()
    until_begun(world)
    errand = world.messenger._errand
    world.start()  # the first was killed
    assert world.tend() == []
    assert not world.messenger.busy
    errand.end()
    world.now_s += REST_S
    assert [one.event for one in world.tend()] == ["notify.started"]
    world.messenger._errand.end()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/no/such/program", "secret"), "/no/such/program could not be started: No such file"),
        (("sh", "-c", "echo oh dear; exit 3"), "sh ended with code 3: oh dear"),
        (("sh", "-c", "kill -9 $$"), "sh was ended by signal 9"),
        (("sh", "-c", "trap '' TERM; sleep 1000 & wait"), "sh had not ended after 0.5 s"),
        (("sh", "-c", "sleep 1000 & exit 4"), "sh ended with code 4"),
    ],
)
def test_a_command_that_fails_is_told(world: World, command: tuple[str, ...], said: str) -> None:
    """With its code and its last line, without its arguments; and it is not repeated."""
    world.wanted = Notify(when_done=command, when_done_max_s=0.5 if "trap" in command[-1] else 60)
    world.log("campaign.done")
    assert world.settle() == ["notify.started", "notify.failed"]
    assert world.said[-1].reason.startswith(said)
    assert "secret" not in str(world.said)
    assert world.settle() == []


def test_what_a_command_prints_is_kept_within_bounds(world: World) -> None:
    """The end of a gigabyte is enough to know what happened."""
    world.wanted = Notify(
        when_done=("sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' '\\1'; echo fin")
    )
    world.log("campaign.done")
    assert world.settle() == ["notify.started", "notify.ended"]
    output = world.said[-1].evidence["output"]
    assert output.endswith("fin\n")
    assert len(output) <= 2000


# Posting


@pytest.fixture
def place() -> Iterator[Listener]:
    place = Listener()
    yield place
    place.close()


def test_chosen_lines_are_posted_in_their_order(world: World, place: Listener) -> None:
    """As JSON that chat services show, each line once, also over restarts."""
    world.log("run.failed", "before anybody asked")
    world.start()
    world.wanted = Notify(urls=(place.url,), events=("run.failed", "campaign.done"))
    world.log("run.failed", "an unknown game", run="atari-Pong")
    world.log("run.started")
    world.log("campaign.done")
    assert world.settle() == []
    world.start()
    assert world.settle() == []
    assert place.events == ["run.failed", "campaign.done"]
    headers, body = place.heard[0]
    assert headers["Authorization"] == "Basic bG92ZWxhY2U6c8OpY3JldA=="
    assert "run.failed atari-Pong: an unknown game" in str(body["text"])
    assert body["lines"][0]["seq"] == 2


def test_an_analysis_that_is_late_is_posted_to_who_has_chosen_nothing(
    world: World, place: Listener
) -> None:
    """From day 8 on there is a week left to see what is wrong."""
    world.start()
    world.wanted = Notify(urls=(place.url,))
    world.log("usage.unknown")
    world.log("usage.late", "the newest analysis is 8.3 days old, and of use for 15: no answer")
    assert world.settle() == []
    assert place.events == ["usage.late"]
    assert "8.3 days old" in str(place.heard[0][1]["text"])


@pytest.mark.parametrize("status", [302, 404, 500, None])
def test_a_place_that_takes_nothing_is_told_once_and_tried_again(
    world: World, place: Listener, status: int | None
) -> None:
    """Whatever is wrong with it: nothing is lost, and nobody hears the address."""
    url = place.url if status else place.url.replace("127.0.0.1", "nobody.invalid")
    place.status = status or 200
    world.wanted = Notify(urls=(url,))
    world.log("run.failed")
    assert world.settle() == ["notify.failed"]
    world.now_s += REST_S
    assert world.settle() == []
    told = str(world.said) + (world.home.path / "decisions.jsonl").read_text()
    assert not any(secret in told for secret in (*SECRETS, "hook"))
    place.status, place.heard = 200, []
    if status:
        world.now_s += REST_S
        world.settle()
        assert place.events == ["run.failed"]


def test_the_end_is_posted_before_the_command_takes_the_machine_away(
    world: World, place: Listener
) -> None:
    """A poweroff would keep everybody from hearing why."""
    world.wanted = Notify(urls=(place.url,), when_done=RUN)
    world.log("campaign.done")
    world.tend()
    assert (world.messenger.busy, world.ran) == (True, 0)
    world.settle()
    assert (place.events, world.ran) == (["campaign.done"], 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Notify(urls=("ntfy.sh/topic",)),
        lambda: Notify(urls=("ntfy://topic with blanks",)),
        lambda: Notify(urls=("https://",)),
        lambda: Notify(urls=("https://ada:sec/ret@example.com/",)),
        lambda: Notify(events=("campain.done",)),
        lambda: Notify(events=("notify.failed",)),
        lambda: Notify(when_done=("",)),
    ],
)
def test_what_nobody_could_do_is_refused(make: Callable[[], Notify]) -> None:
    """A wrong address or event is said at the start, and not at the end of a campaign."""
    with pytest.raises(ValueError, match=r"notify\.(urls|events|when_done): "):
        make()


def test_the_first_end_of_all_is_not_lost(world: World) -> None:
    """A crash between the end and its command, in the very first life of a supervisor."""
    world.log("campaign.done")
    world.start()
    world.wanted = Notify(when_done=RUN)
    assert world.settle() == ["notify.started", "notify.ended"]


def test_a_command_that_cannot_be_written_down_waits(world: World) -> None:
    """Without room on the disk nobody could know that it was begun: told once, and later it is."""
    world.wanted = Notify(when_done=RUN)
    world.log("campaign.done")
    blocker = world.folder / "told.json"
    blocker.unlink()
    blocker.mkdir()
    (blocker / "full").touch()
    assert world.settle() == ["notify.started"]
    assert world.messenger.due_s > 1
    world.now_s += REST_S
    assert world.settle() == []
    (blocker / "full").unlink()
    blocker.rmdir()
    world.now_s += REST_S
    assert world.settle() == ["notify.ended"]
    assert world.ran == 1
    assert world.messenger.due_s > REST_S


def test_a_place_that_nobody_names_any_more_wakes_nobody(world: World, place: Listener) -> None:
    """Its rest ends without an errand."""
    place.status = 500
    world.wanted = Notify(urls=(place.url,))
    world.log("run.failed")
    world.settle()
    assert 1 < world.messenger.due_s <= REST_S
    world.wanted = Notify()
    world.now_s += REST_S
    assert world.settle() == []
    assert world.messenger.due_s > REST_S


# By apprise

LADDER = {"ladder": ["light", "medium"]}


@pytest.mark.parametrize(
    ("line", "title", "kind"),
    [
        ({"event": "run.failed", "run": "Pong"}, "run failed Pong", "failure"),
        ({"event": "campaign.done", "evidence": {"failed": 0}}, "campaign done", "success"),
        ({"event": "campaign.done", "evidence": {"failed": 1}}, "campaign done", "warning"),
        (
            {"event": "mode.changed", "old": "light", "new": "medium", "facts": LADDER},
            "climbed light -> medium",
            "success",
        ),
        (
            {"event": "mode.changed", "old": "medium", "new": "light", "facts": LADDER},
            "fell back medium -> light",
            "warning",
        ),
        ({"event": "boot.recorded", "evidence": {"crash": True}}, "back after a crash", "warning"),
        ({"event": "boot.recorded", "evidence": {"crash": False}}, "boot recorded", "info"),
        ({"event": "usage.analysed"}, "usage analysed", "info"),
    ],
)
def test_apprise_takes_the_sentence_of_the_log(
    world: World, place: Listener, line: dict[str, object], title: str, kind: str
) -> None:
    """With a title that says where and what, and how bad it is."""
    world.wanted = Notify(urls=(place.by_apprise("json"),), events=(str(line["event"]),))
    world.log(reason="it was so", **line)
    assert world.settle() == []
    (message,) = place.bodies
    assert message["title"] == f"{os.uname().nodename}: {title} ({world.folder})"
    assert str(message["message"]).endswith(": it was so")
    assert message["type"] == kind


def test_ntfy_has_it_and_every_address_hears_of_each_line(world: World, place: Listener) -> None:
    """A telephone and a program beside it."""
    world.wanted = Notify(urls=(place.by_apprise("ntfy"), place.url))
    world.log("run.failed", "an unknown game", run="Pong")
    assert world.settle() == []
    (on_the_phone,) = (body for body in place.bodies if "topic" in body)
    assert on_the_phone["topic"] == "hidden"
    assert on_the_phone["message"] == "run.failed Pong: an unknown game"
    assert [body["text"] for body in place.bodies if "text" in body] == [
        f"{os.uname().nodename}: run.failed Pong: an unknown game"
    ]


def test_what_comes_within_a_minute_is_one_message_after_it(world: World, place: Listener) -> None:
    """It is about the worst of it, has the newest of the others, and how many are left; once."""
    world.wanted = Notify(urls=(place.by_apprise("json"),))
    world.log("run.done", "the first")
    world.settle()
    world.log("run.failed", "an unknown game", run="Pong")
    for number in range(30):
        world.log("run.done", f"number {number}")
    for _ in range(2):  # also over restarts
        assert world.settle() == []
        assert world.messenger.busy
        assert len(place.bodies) == 1
        world.start()
        world.now_s += PACE_S / 2 - 1
    world.tend()
    assert 0 < world.messenger.due_s <= 2
    world.now_s += 2
    assert world.settle() == []
    assert not world.messenger.busy
    world.start()
    world.now_s += PACE_S
    assert world.settle() == []
    first, digest = place.bodies
    assert str(first["message"]) == "run.done: the first"
    assert "run failed Pong and 30 more" in str(digest["title"])
    assert digest["type"] == "failure"
    worst, *lines, more = str(digest["message"]).splitlines()
    assert worst == "run.failed Pong: an unknown game"
    assert lines == [f"run.done: number {number}" for number in range(19, 30)]
    assert more.startswith("and 19 more")


def test_a_message_is_no_longer_than_a_chat_takes(world: World, place: Listener) -> None:
    """However long sentences are, and however many."""
    world.wanted = Notify(urls=(place.by_apprise("json"),))
    for _ in range(8):
        world.log("run.failed", "very " * 300)
    assert world.settle() == []
    (message,) = place.bodies
    assert len(str(message["message"])) < 2000
    assert "and 5 more" in str(message["message"])


def test_the_command_waits_for_what_is_told_after_the_minute(world: World, place: Listener) -> None:
    """Or the machine would be off before anybody hears that all is done."""
    world.wanted = Notify(urls=(place.by_apprise("json"),), when_done=RUN)
    world.log("run.done")
    world.settle()
    world.log("campaign.done")
    world.settle()
    assert (world.messenger.busy, world.ran) == (True, 0)
    world.now_s += PACE_S
    assert world.settle() == ["notify.started", "notify.ended"]
    assert len(place.bodies) == 2
    assert world.ran == 1


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("refuses", "(json) answered with status 403; it is tried again"),
        ("hangs", "(json) has not taken it within 2 s; it is tried again"),
        ("nobody there", "(json) cannot be reached, or does not take it; it is tried again"),
        ("no address", "(tgram) is an address that apprise cannot read, or lacks a package"),
        ("no package", "(json) needs a package that is missing: pip install"),
    ],
)
def test_apprise_tells_of_what_it_cannot_send_and_of_no_address(
    world: World,
    place: Listener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    said: str,
) -> None:
    """Once, with what to do; and it is tried again until somebody has done that."""
    address = place.by_apprise("json", "?rto=600&cto=600")
    world.wanted = Notify(urls=(address,))
    match trouble:
        case "refuses":
            place.status = 403
        case "hangs":
            place.hangs = True
            monkeypatch.setattr("supervisor.recipients.POST_MAX_S", 2.0)
        case "nobody there":
            place.close()
        case "no address":
            world.wanted = Notify(urls=("tgram://secret-hidden-lovelace",))
        case "no package":
            (tmp_path / "apprise.py").write_text("raise ModuleNotFoundError('apprise')\n")
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    world.log("run.failed")
    assert world.settle() == ["notify.failed"]
    world.now_s += REST_S
    assert world.settle() == []
    assert world.said[0].reason.startswith(f"number 1 of notify.urls {said}")
    told = str(world.said) + (world.home.path / "decisions.jsonl").read_text()
    assert not any(secret in told for secret in SECRETS)
    if trouble in ("refuses", "no package"):
        place.status, place.heard = 200, []
        monkeypatch.delenv("PYTHONPATH", raising=False)
        world.now_s += REST_S
        assert world.settle() == []
        assert len(place.bodies) == 1


def test_every_kind_is_one_of_apprise() -> None:
    """What is told elsewhere has a kind, and each that is named here can be told."""
    assert KINDS.keys() <= set(TOLD_ELSEWHERE)
    assert set(WORST_LAST) == {one.value for one in apprise.NotifyType}


def test_no_address_is_in_what_is_said_of_it() -> None:
    """Only its number and kind, and of a server its host."""
    wanted = Notify(urls=("https://a:b@example.com:8443/c?d#e", "tgram://123:abc/456"))
    assert [one.name for one in recipients.of(wanted)] == [
        "number 1 of notify.urls (https://example.com:8443)",
        "number 2 of notify.urls (tgram)",
    ]

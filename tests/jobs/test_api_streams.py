"""Answers that go on: logs, events and long polls, over real connections."""

from __future__ import annotations

import itertools
import json
import threading
import time

import httpx
import pytest

from state.jobs.records import Ending, Seen
from supervisor.output import rotate
from testkit.job_requests import whole
from testkit.patience import until
from trainers.contract import LEVELS, Remark

JOBS = "/ai/training/jobs"
TEXT = {"accept": "text/plain"}
EVENTS = {"accept": "text/event-stream"}


@pytest.fixture
def job(api):
    return api.post(JOBS, json=whole()).json()["job_id"]


@pytest.fixture
def claim(store, job):
    return store.claim(job, "home-a").claim.token


@pytest.fixture
def output(place, job):
    """What the run of the job prints to."""
    folder = place.run(job).path
    folder.mkdir(parents=True)
    return folder / "output.log"


class Reader:
    """Somebody who reads an answer as it comes, line by line."""

    def __init__(self, api, path, **more):
        self.lines, self.over = [], False
        self._response = None
        self._asked = (str(api.base_url).rstrip("/") + path, more)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        url, more = self._asked
        with httpx.Client(timeout=60) as client, client.stream("GET", url, **more) as response:
            self._response = response
            for line in response.iter_lines():
                self.lines.append(line)
        self.over = True

    def has(self, *lines):
        until(lambda: self.lines == list(lines), f"{lines} have come", lambda: str(self.lines))

    def ends(self):
        until(lambda: self.over, "the answer ends")
        return self.lines


def add(path, text):
    with path.open("a") as file:
        file.write(text)


def end(store, job, claim, status="COMPLETED"):
    return store.finish(job, claim, Ending(status=status, metrics={"mae": 1.0}))


def events_of(lines):
    """The ids, names and contents of events."""
    found, one = [], {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            one[name] = value
        elif one:
            found.append((one["id"], one["event"], one["data"]))
            one = {}
    return found


def test_lines_come_as_they_are_printed_until_the_job_ends(api, store, job, claim, output):
    """Over a retry and a rotation, and the last one without an end."""
    add(output, "first\n")
    reader = Reader(api, f"{JOBS}/{job}/logs")
    reader.has("first")
    add(output, "sec")
    add(output, "ond\n")
    reader.has("first", "second")
    store.mirror(job, claim, Seen(status="PENDING", attempt=1, next_attempt_in_s=60))
    rotate(output, output.stat().st_size)
    add(output, "after the rotation\n")
    reader.has("first", "second", "after the rotation")
    add(output, "no end")
    end(store, job, claim)
    assert reader.ends() == ["first", "second", "after the rotation", "no end"]


def test_a_job_that_waits_is_followed_from_its_first_line(api, store, place, job, claim):
    """Whoever follows it waits with it."""
    reader = Reader(api, f"{JOBS}/{job}/logs")
    time.sleep(0.3)
    folder = place.run(job).path
    folder.mkdir(parents=True)
    add(folder / "output.log", "begun\n")
    reader.has("begun")
    end(store, job, claim)
    assert reader.ends() == ["begun"]


def test_the_lines_that_are_there_are_told_at_once(api, job, output):
    """All, the last ones, as JSON, and as events that go on behind a known one."""
    add(output.with_name("output.log.1"), "old\n")
    add(output, "a\nb\nc \xe4\n")
    path = f"{JOBS}/{job}/logs"
    assert api.get(path, params={"follow": 0}).text.splitlines() == ["old", "a", "b", "c ä"]
    assert api.get(path, params={"follow": 0, "tail": 2}).text.splitlines() == ["b", "c ä"]
    told = api.get(path, params={"tail": 1}, headers={"accept": "application/json"}).json()
    assert told == {"job_id": job, "logs": ["c ä"], "total_lines": 4}
    lines = api.get(path, params={"follow": 0}, headers=EVENTS)
    told = events_of(lines.text.splitlines())
    assert told == [("4", "log", "old"), ("6", "log", "a"), ("8", "log", "b"), ("13", "log", "c ä")]
    again = EVENTS | {"last-event-id": "6"}
    lines = api.get(path, params={"follow": 0, "tail": 1}, headers=again)
    assert events_of(lines.text.splitlines()) == told[2:], "all since, however few were asked for"
    for wrong in (
        {"tail": 0}, {"tail": 1001}, {"follow": 2}, {"tial": 3}, {"level": "loud"}, {"since": "x"},
    ):  # fmt: skip
        assert api.get(path, params=wrong).status_code == 422


def test_what_happens_is_told_and_told_again_from_where_one_was(api, store, job, claim):
    """From the job's first event on; behind the last one of an ended job there is nothing more."""
    path = f"{JOBS}/{job}/events?logs=0"
    reader = Reader(api, path, headers=EVENTS)
    until(lambda: len(events_of(reader.lines)) == 1)
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1, current_step="training"))
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1, metrics={"mae": 2.0}))
    until(lambda: len(events_of(reader.lines)) >= 4)
    end(store, job, claim)
    seen = events_of(reader.ends())
    assert [kind for _, kind, _ in seen][:3] == ["state", "state", "step"]
    assert {"metric", "state", "step"} == {kind for _, kind, _ in seen}
    assert json.loads(seen[-1][2])["status"] == "COMPLETED"
    ids = [int(number) for number, *_ in seen]
    assert ids == sorted(set(ids))
    again = api.get(path, headers={"last-event-id": seen[1][0]})
    assert events_of(again.text.splitlines()) == seen[2:]
    nothing = api.get(path, headers={"last-event-id": seen[-1][0]})
    assert nothing.status_code == 204
    for wrong in ("x", "1.", ".1", "-1", "1.2.3", "1" * 19):
        assert api.get(path, headers={"last-event-id": wrong}).status_code == 422


def test_what_is_printed_stands_among_what_happens(api, store, job, claim, output):
    """Before the event that ends the job; whoever comes again anywhere gets exactly the rest."""
    path = f"{JOBS}/{job}/events"
    reader = Reader(api, path, headers=EVENTS)
    add(output, Remark("trainers", 60.0, "info", "step 1").line + "\n")
    until(lambda: "log" in [kind for _, kind, _ in events_of(reader.lines)])
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1, current_step="training"))
    until(lambda: "step" in [kind for _, kind, _ in events_of(reader.lines)])
    add(output, "epoch 1\nno end")
    end(store, job, claim)
    seen = events_of(reader.ends())
    printed = [json.loads(data) for _, kind, data in seen if kind == "log"]
    assert [(one["line"][-7:], one["at"]) for one in printed] == [
        (" step 1", 60.0),
        ("epoch 1", None),
        ("no end", None),
    ]
    assert json.loads(seen[-1][2])["status"] == "COMPLETED"
    places = [tuple(map(int, name.split("."))) for name, *_ in seen]
    assert all(a <= c and b <= d for (a, b), (c, d) in itertools.pairwise(places))
    for place, (name, *_) in enumerate(seen[:-1], 1):
        again = api.get(path, headers={"last-event-id": name})
        rest = events_of(again.text.splitlines())
        for logs in (True, False):
            was = [data for _, kind, data in seen[place:] if (kind == "log") == logs]
            assert [data for _, kind, data in rest if (kind == "log") == logs] == was
    assert api.get(path, headers={"last-event-id": seen[-1][0]}).status_code == 204


def test_a_job_that_ends_during_a_look_has_printed_all_before(
    api, store, job, claim, output, monkeypatch
):
    """After it was asked whether it has ended, and before its events are read."""
    add(output, "no end")
    events = store.events

    def ends_first(*given, job_id=None, **named):
        if job_id is not None:
            monkeypatch.undo()
            end(store, job, claim)
        return events(*given, job_id=job_id, **named)

    monkeypatch.setattr(store, "events", ends_first)
    seen = events_of(Reader(api, f"{JOBS}/{job}/events", headers=EVENTS).ends())
    assert [kind for _, kind, _ in seen] == ["log", "state", "state"]


def test_lines_are_chosen_by_level_and_time(api, job, output):
    """Of those that are asked for the last ones, as text and as JSON; their number is told."""
    said = [Remark("trainers", 60.0 * n, level, "said").line for n, level in enumerate(LEVELS)]
    output.write_text("".join(f"{line}\nprinted\n" for line in said))
    path = f"{JOBS}/{job}/logs"

    def told(**asked):
        return api.get(path, params={"follow": 0, **asked}).text.splitlines()

    assert told(level="WARNING") == said[1:]
    assert told(since="1970-01-01T00:01:30Z") == [said[2], "printed"]
    assert told(since="1970-01-01T00:01:00", level="warning", tail=1) == said[2:]
    whole = api.get(path, params={"level": "error"}, headers={"accept": "application/json"})
    assert whole.json() == {"job_id": job, "logs": [said[2]], "total_lines": 1}


def test_whoever_waits_is_told_once_it_is_otherwise(api, store, job, claim):
    """At the change, or at the end of the wait that it is not."""
    path = f"{JOBS}/{job}"
    tag = api.get(path).headers["etag"]
    assert api.get(path, headers={"if-none-match": tag}).status_code == 304
    asked = {"if-none-match": tag, "prefer": "wait=1"}
    begun = time.monotonic()
    assert api.get(path, headers=asked).status_code == 304
    assert time.monotonic() - begun > 0.9
    changed = []

    def wait():
        url = str(api.base_url).rstrip("/") + path
        changed.append(httpx.get(url, headers=asked | {"prefer": "wait=30"}, timeout=60))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1))
    waiter.join()
    [answer] = changed
    assert (answer.status_code, answer.json()["status"]) == (200, "RUNNING")
    assert answer.headers["etag"] != tag
    assert api.get(path, headers=asked).status_code == 200


def test_twenty_who_follow_and_go_leave_nothing_behind(api, job, output):
    """The server is as quick as before."""
    add(output, "line\n")
    url = str(api.base_url).rstrip("/") + f"{JOBS}/{job}/logs"
    for _ in range(20):
        with httpx.Client() as client, client.stream("GET", url) as response:
            assert next(response.iter_lines()) == "line"
    begun = time.monotonic()
    assert api.get(f"{JOBS}/{job}").status_code == 200
    assert time.monotonic() - begun < 5

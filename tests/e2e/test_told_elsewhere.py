"""Who is told elsewhere, by a real supervisor and by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from testkit.listener import SECRETS, Listener
from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S

SHORT = SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A", "B"]').replace("1000000", "20")


@pytest.fixture
def place() -> Iterator[Listener]:
    place = Listener()
    yield place
    place.close()


def asked(*urls: str, events: str = "", runs: str = SHORT) -> str:
    """Settings by which these are told."""
    return f"{runs}[notify]\nurls = {json.dumps(urls)}\n{events}"


def test_a_supervisor_tells_of_the_end_before_it_ends(machine: Machine, place: Listener) -> None:
    """A telephone has the very sentence of the log, and no line of a log has an address."""
    events = 'events = ["campaign.done"]\n'
    machine.configure(asked(place.url, place.by_apprise("ntfy"), events=events))
    daemon = machine.launch(machine.command("run", "--until-done"))
    assert daemon.wait(PATIENCE_S) == 0
    (end,) = machine.events("campaign.done")
    (message,) = [body["message"] for body in place.bodies if "topic" in body]
    assert message == f"campaign.done: {end['reason']}"
    assert place.bodies[0]["lines"][0]["reason"] == end["reason"]
    assert machine.events("notify.failed") == []
    logs = [path.read_text() for path in machine.home.glob("*.jsonl")]
    assert len(logs) >= 3, "of decisions, of looks and of turns"
    assert not any(
        secret in text for text in (*logs, machine.screen.read_text()) for secret in SECRETS
    )


def test_a_test_is_sent_to_each_and_told_of_each(machine: Machine, place: Listener) -> None:
    """By hand, with or without a supervisor; the exit code says whether all have it."""
    machine.configure(asked(place.url, place.by_apprise("json")))
    answer = machine("notify-test")
    assert (answer.returncode, answer.stderr) == (0, "")
    first, second = answer.stdout.splitlines()
    assert first.startswith("number 1 of notify.urls (http://127.0.0.1:")
    assert second == "number 2 of notify.urls (json) has it"
    assert [body.get("title", "") != "" for body in place.bodies] == [False, True]
    place.status = 401
    answer = machine("notify-test", "--json")
    assert answer.returncode == 1
    assert [one["said"] for one in json.loads(answer.stdout)] == ["answered with status 401"] * 2
    assert not any(secret in answer.stdout for secret in SECRETS)


def test_without_an_address_there_is_nothing_to_test(machine: Machine) -> None:
    """Which is said, with the place where one belongs."""
    answer = machine("notify-test")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "`urls` in [notify]" in answer.stderr


def test_an_address_that_nobody_can_read_is_told_before_a_night(machine: Machine) -> None:
    """By its number, by whoever checks."""
    machine.configure(asked("json://127.0.0.1:9", "tgram://cret-hidden"))
    checked, examined = machine("check-config"), machine("doctor")
    assert checked.returncode == 78
    assert checked.stderr.startswith("supervisor: number 2 of notify.urls (tgram) is an address")
    assert examined.returncode == 1
    assert "number 2 of notify.urls (tgram) is an address" in examined.stdout
    assert not any(secret in checked.stderr + examined.stdout for secret in SECRETS)


def test_an_address_that_nobody_can_read_costs_no_training(machine: Machine) -> None:
    """What is to be trained changes all the same, and the first line that is due says it."""
    events = 'events = ["run.done"]\n'
    machine.configure(SHORT)
    machine.start()
    machine.configure(
        asked("tgram://cret-hidden", events=events, runs=SHORT.replace("= 20", "= 40"))
    )
    machine.until(lambda: machine.events("notify.failed"), "it is told")
    (failed,) = machine.events("notify.failed")
    assert failed["reason"].startswith("number 1 of notify.urls (tgram) is an address")
    assert machine.events("settings.refused") == []

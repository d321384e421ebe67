"""Requests as files: each kind says what it needs, and no more; for others only their own home."""

import json
import os

import pytest

from state.inbox import Inbox

ADA = {"id": "r-1", "by": "ada", "asked_at": 0.0}


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "inbox").mkdir()
    return Inbox(tmp_path / "inbox")


JOB = {"id": "job-1", "trainer": "drill", "name": "one", "seed": 1}


def left(inbox, tmp_path, **fields):
    """What the inbox makes of a file that says this."""
    (tmp_path / "inbox/r-1.json").write_text(json.dumps(ADA | fields))
    return inbox.pending()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"kind": "pin"}, "missing required field `mode`"),
        ({"kind": "pin", "mode": "../x"}, "regex"),
        ({"kind": "pause", "mode": "light"}, "unknown field `mode`"),
        ({"kind": "dance"}, "Invalid value 'dance'"),
        ({}, "missing required field `kind`"),
        ({"kind": "retry", "run": ""}, "regex"),
        ({"kind": "pause", "id": "r-2"}, "its id is not its name"),
        ({"kind": "pause", "by": "a\u001b"}, "characters"),
    ],
)
def test_what_does_not_fit_its_kind_is_no_request(inbox, tmp_path, fields, why):
    """It is told with the reason, and whoever waits for an answer has one."""
    requests, (trouble,) = left(inbox, tmp_path, **fields)
    assert requests == ()
    assert why in trouble.text
    assert trouble.request == "r-1"


def test_a_request_is_read_back_as_it_was_made(inbox, tmp_path):
    """Its kind is its type."""
    (asked,), _ = left(inbox, tmp_path, kind="forbid", mode="medium")
    assert (type(asked).__name__, asked.kind, asked.mode) == ("Forbid", "forbid", "medium")
    assert asked.words == "forbid medium"


def test_for_others_asks_the_account_of_the_home_alone(inbox, tmp_path, monkeypatch):
    """A server that asks for its tenants runs as this account; nobody else is believed."""
    (asked,), _ = left(inbox, tmp_path, kind="pause", on_behalf="acme")
    assert asked.asker.endswith(" for acme")
    owner = os.geteuid()
    monkeypatch.setattr("state.inbox.os.geteuid", lambda: owner + 1)
    requests, (trouble,) = left(inbox, tmp_path, kind="pause", on_behalf="acme")
    assert requests == ()
    assert "on behalf of others" in trouble.text


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "submit", "asked": JOB},
        {"kind": "amend", "asked": JOB | {"revision": 1}},
        {"kind": "withdraw", "run": "job-1"},
        {"kind": "cancel", "run": "job-1", "token": "t"},
    ],
)
def test_what_is_submitted_is_asked_by_the_account_of_the_home_alone(
    inbox, tmp_path, monkeypatch, fields
):
    """Whoever may write into the inbox may pause; what the home trains is its owner's."""
    (request,), _ = left(inbox, tmp_path, **fields)
    assert (request.kind, request.run) == (fields["kind"], "job-1")
    owner = os.geteuid()
    monkeypatch.setattr("state.inbox.os.geteuid", lambda: owner + 1)
    requests, (trouble,) = left(inbox, tmp_path, **fields)
    assert requests == ()
    assert "on behalf of others" in trouble.text


def test_of_jobs_that_wait_the_account_of_the_home_alone_tells(inbox, tmp_path, monkeypatch):
    """Whoever else may write into the inbox rings nobody out of bed."""
    (request,), _ = left(inbox, tmp_path, kind="jobs_wait", waited_s=90_000.0, job="job-1")
    assert (request.kind, request.job) == ("jobs_wait", "job-1")
    owner = os.geteuid()
    monkeypatch.setattr("state.inbox.os.geteuid", lambda: owner + 1)
    requests, (trouble,) = left(inbox, tmp_path, kind="jobs_wait", waited_s=90_000.0)
    assert requests == ()
    assert "on behalf of others" in trouble.text


def test_a_typo_in_what_is_asked_for_is_no_request(inbox, tmp_path):
    """It would train something else for hours."""
    _, (trouble,) = left(inbox, tmp_path, kind="submit", asked=JOB | {"targte": {}})
    assert "targte" in trouble.text


def nested(depth):
    return {} if depth == 0 else {"deeper": [nested(depth - 1)]}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"options": nested(200)}, "nested more than"),
        ({"retry": {"factor": 1e300}}, "<= 100"),
        ({"retry": {"first_s": 0}}, "> 0"),
        ({"retry": {"retires": 1}}, "retry.retires"),
        ({"target": {"unit": "steps", "count": 1, "of": 2}}, "target.of"),
        ({"max_s": -1}, "> 0"),
        ({"place": "../moon"}, "matching regex"),
    ],
)
def test_what_would_break_whoever_reads_it_is_no_request(inbox, tmp_path, fields, why):
    """It ends here, and not in the state, from where it would come back at each start."""
    _, (trouble,) = left(inbox, tmp_path, kind="submit", asked=JOB | fields)
    assert why in trouble.text


def test_options_may_be_nested_as_people_do(inbox, tmp_path):
    """A few levels are nothing special."""
    (asked,), troubles = left(inbox, tmp_path, kind="submit", asked=JOB | {"options": nested(5)})
    assert (asked.asked.options, troubles) == (nested(5), ())

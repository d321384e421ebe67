"""What strangers, their pages and their names can do: nothing. Every route, every method."""

import re

import httpx
import pytest

from state.inbox import Inbox
from supervisor.access import LOOK_TOKEN, REFUSALS_MAX, TOKEN, Access
from supervisor.config import Config
from supervisor.core.settings import Settings
from supervisor.core.web_settings import Web
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.page.app import HEADERS, POLICY
from supervisor.page.asking import KINDS
from supervisor.page.shown import Page
from testkit.api import Doors

METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND",
    "BREW",
)  # fmt: skip
READS = ("GET", "HEAD")
RUN = "atari-Pong"
OURS = {"sec-fetch-site": "same-origin"}
GUARDED = Settings(web=Web(hosts=("box.example.org",)))


@pytest.fixture(scope="module")
def doors():
    found = Doors()
    yield found
    found.close()


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path / "home")
    found.make()
    return found


@pytest.fixture
def page(home):
    return Page(home, lambda: Config(home.settings, required=False), Settings(), None)


@pytest.fixture
def guarded(home):
    return Page(home, lambda: Config(home.settings, required=False), GUARDED, None)


@pytest.fixture
def asking(doors, page):
    with doors.behind(page.app) as address, httpx.Client(base_url=address) as client:
        yield client


@pytest.fixture
def outside(doors, guarded):
    """Whoever asks where a credential is needed."""
    with doors.behind(guarded.app) as address, httpx.Client(base_url=address) as client:
        yield client


def paths(page):
    """An address of each route."""
    given = {
        "{run}": RUN, "{part}": "verdict", "{job}": "J", "{seq}": "1", "{kind}": "pause",
        "{request}": "R", "{hash}": "h", "{name:path}": "page.css",
    }  # fmt: skip
    return [
        "/".join(given.get(part, part) for part in path.split("/")) for path in page.app._handlers()
    ]


def asked_of(home):
    return [one.kind for one in Inbox(home.inbox).pending()[0]]


def status(client, method, path, **headers):
    """Of an answer, whose body may have no end."""
    with client.stream(method, path, headers=headers) as answer:
        return answer.status_code


def test_each_route_knows_no_other_methods_than_its_own(asking, page, home):
    for path in paths(page):
        for method in METHODS:
            if method in READS or (method == "POST" and path.startswith("/ask/")):
                continue
            assert status(asking, method, path, **OURS) in (404, 405), (method, path)
    assert asked_of(home) == []


def test_no_name_of_a_stranger_leads_to_any_route(asking, page, home):
    for path in paths(page):
        for method in METHODS:
            assert status(asking, method, path, host="evil.example", **OURS) == 403, (method, path)
    assert asked_of(home) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {},
    ],
)
def test_no_page_of_another_site_changes_anything(asking, page, home, headers):
    for path in paths(page):
        for method in METHODS:
            if method not in READS:
                assert status(asking, method, path, **headers) == 403, (method, path)
    answer = asking.post("/ask/pause", data={}, headers=headers)
    assert answer.status_code == 403
    assert asked_of(home) == []


def test_nothing_that_only_reads_asks_for_anything(asking, page, home):
    for path in paths(page):
        for method in READS:
            status(asking, method, path)
    for kind in KINDS:
        asking.get(f"/ask/{kind}")
    assert asked_of(home) == []


def test_without_a_credential_nothing_is_told_where_one_is_needed(outside, guarded, home):
    for path in paths(guarded):
        opened = path.startswith(("/enter", "/static/"))
        for method in METHODS:
            found = status(outside, method, path, **OURS)
            assert found != 200 if opened else found == 401, (method, path)
    assert str(home.path) not in outside.get("/", headers={"accept": "text/html"}).text
    assert asked_of(home) == []


@pytest.mark.parametrize("path", ["/", "/state.json", "/events?seen=x", "/ask/pause"])
def test_whoever_may_look_may_look_alone(outside, home, path):
    Access(home, SystemClock(), GUARDED).link("look")
    bearer = {"authorization": f"Bearer {(home.api / LOOK_TOKEN).read_text().strip()}"}
    expected = 403 if path.startswith("/ask") else 200
    assert status(outside, "GET", path, **bearer) == expected
    assert outside.post("/ask/pause", data={}, headers={**bearer, **OURS}).status_code == 403
    assert asked_of(home) == []
    if path == "/":
        assert "/ask/" not in outside.get("/", headers=bearer).text


def test_whoever_bears_the_token_may_act(outside, home):
    Access(home, SystemClock(), GUARDED).link("look")
    bearer = {"authorization": f"Bearer {(home.api / TOKEN).read_text().strip()}"}
    answer = outside.post("/ask/pause", data={}, headers=bearer)
    assert answer.status_code == 303
    assert asked_of(home) == ["pause"]
    told = outside.get(answer.headers["location"], headers=bearer)
    assert "waits for the next start" in told.text


def test_a_link_becomes_a_cookie_that_no_script_and_no_other_site_has(outside, home):
    link = Access(home, SystemClock(), GUARDED).link("act")
    answer = outside.get("/enter", params={"link": link})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert outside.get("/").status_code == 200  # the client keeps the cookie
    assert outside.post("/ask/pause", data={}, headers=OURS).status_code == 303
    assert asked_of(home) == ["pause"]
    with httpx.Client(base_url=outside.base_url) as other:
        assert other.get("/enter", params={"link": link}).status_code == 401


def test_one_who_tries_many_is_told_to_wait_and_the_operator_is_not(outside, home):
    wrong = {"authorization": "Bearer wrong"}
    found = [outside.get("/", headers=wrong).status_code for _ in range(REFUSALS_MAX + 2)]
    assert found == [401] * REFUSALS_MAX + [429] * 2
    right = {"authorization": f"Bearer {(home.api / TOKEN).read_text().strip()}"}
    assert outside.get("/", headers=right).status_code == 200


def test_every_answer_forbids_a_browser_what_the_page_does_not_need(asking, outside, page):
    for client in (asking, outside):
        for path in (*paths(page), "/nothing"):
            with client.stream("GET", path) as answer:
                for name, value in HEADERS.items():
                    assert answer.headers[name] == value, (path, name)
                assert not [one for one in answer.headers if one.startswith("access-control")]
    assert "unsafe" not in POLICY
    assert "*" not in POLICY


@pytest.mark.parametrize(
    "path",
    [
        "/runs/..%2f..%2fetc%2fpasswd",
        "/runs/../../etc/passwd",
        "/runs/%2e%2e/lines?after=0",
        f"/runs/{RUN}%00/lines?after=0",
        "/static/x/../../app.py",
        "/static/000000000000/page.css",
        "/static/x/%2e%2e/%2e%2e/app.py",
        "/answers/..%2fstate",
        "/decisions/999999999999999999999",
        "/decisions/-1",
        "/jobs/x'%20or%201=1",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out_of_what_there_is(asking, path):
    assert asking.get(path).status_code in (400, 404)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/ask/reset", {}),
        ("/ask/stop", {}),
        ("/ask/pin", {}),
        ("/ask/pin", {"mode": "../light"}),
        ("/ask/pin", {"mode": "heaviest"}),
        ("/ask/retry", {"run": "nobody"}),
        ("/ask/train_now", {"hours": "9999"}),
        ("/ask/train_now", {"hours": "nan"}),
        ("/ask/cancel", {"job": "x"}),
    ],
)
def test_no_button_asks_for_what_it_does_not_offer(asking, home, path, form):
    assert asking.post(path, data=form, headers=OURS).status_code == 400
    assert asked_of(home) == []


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"{}", "application/json", 415),
        (b"mode=light", "multipart/form-data", 415),
        (b"mode=light", "text/plain", 415),
        (b"a=" + b"x" * 10_000, "application/x-www-form-urlencoded", 413),
        (b"\xff\xfe=1", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % n for n in range(100)), "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_of_ours_is_refused(asking, home, content, kind, expected):
    headers = {**OURS, "content-type": kind}
    assert asking.post("/ask/unpin", content=content, headers=headers).status_code == expected
    assert asked_of(home) == []


def test_nobody_asks_the_supervisor_more_than_a_person_does(asking, home):
    found = [asking.post("/ask/unpin", data={}, headers=OURS).status_code for _ in range(35)]
    assert found.count(303) == 30
    assert found[-1] == 429
    assert len(asked_of(home)) == 30


def test_a_refusal_repeats_no_more_than_a_little_of_what_was_sent(asking):
    long = "a" * 5000
    for path in (f"/runs/{long}", f"/{long}", f"/ask/{long}"):
        assert len(asking.get(path).text) < 600


def test_what_is_refused_is_a_page_for_people_and_a_line_for_programs(asking):
    assert asking.get("/nothing").headers["content-type"].startswith("text/plain")
    told = asking.get("/nothing", headers={"accept": "text/html"})
    assert told.headers["content-type"].startswith("text/html")
    assert re.search(r"<script|style=|onerror", told.text.replace("<script defer", "")) is None


def test_a_home_without_a_readable_token_tells_a_stranger_no_path(outside, home):
    token = home.api / TOKEN
    token.unlink()
    token.mkdir()
    answer = outside.get("/", headers={"authorization": "Bearer " + "x" * 43})
    assert answer.status_code == 503
    assert str(home.path) not in answer.text


@pytest.mark.parametrize("error", [OSError(), OSError(5, "Input/output error")])
def test_a_home_that_cannot_be_read_is_a_refusal(asking, page, monkeypatch, error):
    async def broken(_):
        raise error

    monkeypatch.setattr(page.app._stream, "now", broken)
    assert asking.get("/").status_code == 503

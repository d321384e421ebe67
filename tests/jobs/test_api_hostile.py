"""Connections that mean no good, or mean nothing: others are answered as before."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import socket
import time

import httpx
import pytest

from supervisor.core.job_settings import JobTenant
from supervisor.web import asking, server, service
from testkit.api import TOKENS
from testkit.job_requests import whole
from testkit.patience import until

JOBS = "/ai/training/jobs"

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""the store makes no difference here"""


@pytest.fixture
def place_of(api):
    """Where it listens."""
    return (api.base_url.host, api.base_url.port)


@pytest.fixture
def connected(place_of):
    """Connections of the bare kind."""
    with contextlib.ExitStack() as stack:

        def connect(*pieces):
            one = stack.enter_context(socket.create_connection(place_of, timeout=20))
            for piece in pieces:
                one.sendall(piece)
            return one

        yield connect


def all_of(connection):
    """What comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return found


def head(path, **headers):
    lines = [f"{path} HTTP/1.1", "host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_head_that_does_not_come_ends_the_connection(api, connected, monkeypatch):
    """Nothing at all, half of one, one that comes in drops, and a second one on a connection."""
    monkeypatch.setattr(server, "HEAD_MAX_S", 0.5)
    second = connected(head("GET /health"))
    answer = b""
    while not answer.endswith(b"}}}"):
        answer += second.recv(65536)
    second.sendall(b"GET /hea")
    silent = [connected(), connected(b"GET / HTT"), second]
    slow = connected(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(20):
            slow.sendall(b"x")
            time.sleep(0.1)
        pytest.fail("one byte after the other is waited for for ever")
    assert [all_of(one) for one in silent] == [b"", b"", b""]
    assert api.get("/health").status_code == 200


def test_no_part_of_an_answer_waits_until_the_one_before_it_is_confirmed(
    api, connected, monkeypatch
):
    """Whoever asks on a connection that stays would wait 40 ms for the body, behind its head."""
    found = []
    made = server.Impatient.connection_made

    def noted(protocol, transport):
        made(protocol, transport)
        one = transport.get_extra_info("socket")
        found.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(server.Impatient, "connection_made", noted)
    all_of(connected(head("GET /health", connection="close")))
    assert found == [1]


def test_a_body_that_does_not_come_is_told_so(api, connected, monkeypatch):
    """By 408, while others are answered."""
    monkeypatch.setattr(asking, "BODY_MAX_S", 0.5)
    late = connected(
        head(f"POST {JOBS}", content_type="application/json", content_length=100), b"{"
    )
    assert api.get("/health").status_code == 200
    assert late.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_body_without_a_length_is_cut_at_what_makes_sense(api, connected):
    """Whatever it says of itself."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    endless = connected(
        head(f"POST {JOBS}", content_type="application/json", transfer_encoding="chunked")
    )
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(20):
            endless.sendall(chunk)
    assert endless.recv(65536).startswith(b"HTTP/1.1 413")
    length = 10**30
    huge = connected(head(f"POST {JOBS}", content_type="application/json", content_length=length))
    assert huge.recv(65536)[9:12] in (b"400", b"413")


def test_a_hundred_who_are_silent_keep_nobody_waiting(api, connected):
    """Nor do those that read nothing of what they have asked for."""
    for _ in range(50):
        connected(b"POST / HTTP/1.1\r\n")
        connected(head("GET /openapi.json"))
    assert api.post(JOBS, json=whole()).status_code == 201


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
        b"GET " + b"/a" * 60_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 30_000 + b"\r\n",
        b"GET /ai/training/jobs HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\n\r\n",
        head(f"POST {JOBS}", content_length=1, transfer_encoding="chunked") + b"0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["TLS", "long path", "many headers", "two hosts", "two lengths", "HTTP/2"],
)
def test_what_is_no_request_is_refused(api, connected, raw):
    """And the server lives on."""
    odd = connected()
    with contextlib.suppress(OSError):  # it may have been closed before all was sent
        odd.sendall(raw)
        odd.shutdown(socket.SHUT_WR)
    said = all_of(odd)
    assert not said or said[9:10] == b"4", said[:100]
    assert api.get("/health").status_code == 200


@pytest.mark.parametrize(
    "target", ["http://localhost:8000/ai/training/jobs?limit=1", "HTTPS://localhost/health"]
)
def test_a_whole_address_is_what_its_path_is(connected, target):
    """As whoever asks through a proxy sends it; a header that names another host is not heeded."""
    asked = head(f"GET {target}", connection="close").replace(b"localhost\r\n", b"evil.example\r\n")
    said = all_of(connected(asked))
    assert said.startswith(b"HTTP/1.1 200 "), said


def test_the_host_of_a_whole_address_is_the_one_that_counts(connected):
    """A page of another site is led here by a name of its own, whatever the header says."""
    for target in ("http://evil.example/health", "http://me@localhost/health", "http:///health"):
        said = all_of(connected(head(f"GET {target}", connection="close")))
        assert said.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 404 ")), said
    said = all_of(connected(head("GET http://localhost", connection="close")))
    assert json.loads(said.partition(b"\r\n\r\n")[2])["details"] == {"path": "/"}


def test_there_is_an_end_to_who_may_wait_or_follow(opened, monkeypatch):
    """Whoever comes then is told when to come again."""
    monkeypatch.setattr(service, "STREAMS_MAX", 1)
    api = opened()
    job = api.post(JOBS, json=whole()).json()["job_id"]
    url = str(api.base_url).rstrip("/") + f"{JOBS}/{job}/events"
    with httpx.Client() as client, client.stream("GET", url) as response:
        lines = response.iter_lines()  # kept, since whoever drops it hangs up
        next(lines)
        refused = api.get(f"{JOBS}/{job}/logs")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    monkeypatch.setattr(service, "WAITING_MAX", 0)
    refused = api.get(f"{JOBS}/{job}")
    assert (refused.status_code, refused.json()["error"]) == (503, "ResourceError")


def following(stack, api, job, bearer):
    """One more who follows a job, for as long as the stack is open."""
    url = str(api.base_url).rstrip("/") + f"{JOBS}/{job}/events"
    response = stack.enter_context(httpx.stream("GET", url, headers=bearer, timeout=30))
    lines = response.iter_lines()
    stack.callback(lines.close)
    next(lines)


def test_no_tenant_takes_all_the_streams(opened, monkeypatch):
    """Half of them at most: others follow, and wait for a change, as if nobody else were there."""
    monkeypatch.setattr(service, "STREAMS_MAX", 4)
    api = opened(tenants={one: JobTenant(token_env=one.upper()) for one in ("acme", "other")})
    acme, other = ({"Authorization": f"Bearer {TOKENS[one]}"} for one in ("ACME", "OTHER"))
    greedy, modest = (
        api.post(JOBS, json=whole() | {"tenant_id": one}, headers=bearer).json()["job_id"]
        for one, bearer in (("acme", acme), ("other", other))
    )
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            following(stack, api, greedy, acme)
        waits = {"Prefer": "wait=1", "If-None-Match": "*"}
        for path, more in (("/events", {}), ("/logs", {}), ("", waits)):
            with api.stream("GET", f"{JOBS}/{greedy}{path}", headers=acme | more) as refused:
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
                details = json.loads(refused.read())["details"]
            assert details == {"quota": "streams", "used": 2, "bound": 2}
        following(stack, api, modest, other)
        assert api.get(f"{JOBS}/{modest}", headers=other | waits).status_code == 429
    until(
        lambda: api.get(f"{JOBS}/{greedy}", headers=acme | waits).status_code == 304,
        "who has gone has left a place",
    )


def test_who_comes_in_one_moment_finds_no_more_room_than_there_is(opened, monkeypatch):
    """A place is had before an answer begins, and given back whatever becomes of it."""
    monkeypatch.setattr(service, "STREAMS_MAX", 3)
    api = opened()
    job = api.post(JOBS, json=whole()).json()["job_id"]
    url = str(api.base_url).rstrip("/") + f"{JOBS}/{job}/events"
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(12))
        asked = [
            pool.submit(lambda: stack.enter_context(httpx.stream("GET", url, timeout=30)))
            for _ in range(12)
        ]
        statuses = sorted(one.result().status_code for one in asked)
    assert statuses == [200] * 3 + [503] * 9
    until(lambda: follows(url), "all that were taken are free again")


def follows(url):
    with httpx.stream("GET", url, timeout=30) as response:
        return response.status_code == 200


def test_there_is_an_end_to_connections(connected, monkeypatch):
    """Whoever comes then is told when to come again, and those that are there go on."""
    first = connected(head("HEAD /openapi.json"))
    assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 0)
    said = all_of(connected(head("GET /health")))
    monkeypatch.undo()
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in said.lower()
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"] == "ResourceError"
    first.sendall(head("GET /health", connection="close"))
    assert all_of(first).startswith(b"HTTP/1.1 200 ")


def test_what_is_no_request_after_an_answer_only_ends_the_connection(api, connected):
    """Nothing more can be said there, and nothing breaks."""
    odd = connected(
        head(f"POST {JOBS}", content_type="text/xml", transfer_encoding="chunked"), b"zz\r\n"
    )
    assert all_of(odd).startswith((b"HTTP/1.1 415", b"HTTP/1.1 400"))
    assert api.get("/health").status_code == 200


def test_a_header_that_is_a_list_may_be_spread_over_several(api, connected):
    """As whoever stands between does it; each of the versions counts."""
    job = api.post(JOBS, json=whole()).json()
    said = api.patch(
        f"{JOBS}/{job['job_id']}",
        json={"priority": "low"},
        headers=[("if-match", '"99"'), ("if-match", '"1"')],
    )
    assert said.status_code == 200


def test_many_at_once_are_one_row_each(api, store):
    """Twenty that create beside each other, and each is there, once."""
    url = str(api.base_url).rstrip("/") + JOBS

    def create(number):
        body = whole() | {"metadata": {"number": number}}
        key = {"idempotency-key": f"key-{number % 10}"}
        return httpx.post(url, json=body if number < 10 else whole(), headers=key, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(create, range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409, 422}
    created = {json.loads(one.content)["job_id"] for one in answers if one.status_code == 201}
    until(lambda: api.get(JOBS).json()["total"] == len(created))
    assert len(created) == 10


def test_a_quota_holds_against_many_at_once(opened):
    """Twelve that come together do not all see that there is room for five."""
    api = opened(tenants={"acme-corp": JobTenant(queued=5)})
    url = str(api.base_url).rstrip("/") + JOBS
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(httpx.post, url, json=whole(), timeout=60) for _ in range(12)]
    statuses = sorted(one.result().status_code for one in asked)
    assert statuses == [201] * 5 + [429] * 7

"""Whoever means no good, at a real server: told so in the words of the API, and nobody else slowed.

In `tests/jobs/test_api_hostile.py` clocks are shortened; here all is as it is installed.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import requests

from testkit.job_requests import whole
from testkit.machine import Machine
from testkit.patience import PATIENCE_S, until

JOBS = "/ai/training/jobs"
JOB = json.dumps(whole()).encode()
MANY = 500


class Server(NamedTuple):
    port: int

    def connect(self, *pieces: bytes) -> socket.socket:
        one = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        with contextlib.suppress(OSError):  # it may have been closed before all was sent
            for piece in pieces:
                one.sendall(piece)
        return one

    def told(self, *pieces: bytes) -> bytes:
        """All that it answers until it closes; for which it is asked wherever that can be."""
        found = b""
        with self.connect(*pieces) as one, contextlib.suppress(ConnectionResetError):
            while piece := one.recv(65536):
                found += piece
        return found

    def total(self) -> int:
        """How many jobs there are, as anybody else asks for it."""
        address = f"http://localhost:{self.port}{JOBS}"
        found = requests.get(address, params={"page_size": 1}, timeout=PATIENCE_S)
        assert found.status_code == 200
        total: int = found.json()["total"]
        return total


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: what one request has done to it the next would find."""
    machine = Machine(tmp_path_factory.mktemp("hostile") / "home")
    log = machine.home.parent / "serve.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            machine.command("serve", "--listen", "127.0.0.1:0"),
            env=machine.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until(lambda: "taken in at" in log.read_text(), "it serves")
    port = re.search(r":(\d+)/", log.read_text())
    assert port
    yield Server(int(port[1]))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()


def head(line: str, *headers: str | bytes, host: str = "localhost") -> bytes:
    lines = [line.encode(), f"host: {host}".encode(), b"connection: close"]
    lines += [it if isinstance(it, bytes) else it.encode() for it in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(body: bytes, *headers: str | bytes, length: int | str | None = None) -> bytes:
    size = f"content-length: {len(body) if length is None else length}"
    return head(f"POST {JOBS} HTTP/1.1", "content-type: application/json", size, *headers) + body


def chunked(*pieces: bytes, **more: bytes) -> bytes:
    coding = more.get("coding", b"transfer-encoding: chunked")
    begun = head(f"POST {JOBS} HTTP/1.1", "content-type: application/json", coding)
    return begun + b"".join(pieces)


def with_text(key: str, text: str) -> bytes:
    """A job with a value that no library would write."""
    return json.dumps(whole(**{key: "@"})).replace('"@"', text).encode()


NO_REQUESTS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": head("GET /health HTTP/1.1", "host: evil.example"),
    "a space in a path": head("GET /he alth HTTP/1.1"),
    "bytes in a path": "GET /ä HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(),
    "a space before a colon": head("GET /health HTTP/1.1", "x : y"),
    "NUL in a header": head("GET /health HTTP/1.1", b"x: a\0b"),
    "many headers": head("GET /health HTTP/1.1", *["x: y"] * 30_000),
    "a negative length": post(JOB, length=-5),
    "a length with a sign": post(JOB, length="+5"),
    "a length in other digits": post(JOB, length="\u0665"),
    "two lengths": post(JOB, "content-length: 5"),
    "another coding": chunked(b"0\r\n\r\n", coding=b"transfer-encoding: gzip, chunked"),
    "a length and chunks": post(
        b"0\r\n\r\n" + head("GET /x HTTP/1.1"), "transfer-encoding: chunked"
    ),
    "a chunk of no number": chunked(b"zz\r\n", JOB),
    "a negative chunk": chunked(b"-1\r\n", JOB),
    "a chunk beyond numbers": chunked(b"f" * 30 + b"\r\n", JOB),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_what_is_no_request_is_refused_as_all_else(server: Server, name: str) -> None:
    """By 400 in the shape of every error; nothing that follows on that connection is believed."""
    said = server.told(NO_REQUESTS[name])
    answer, _, body = said.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), said[:200]
    assert b"content-type: application/json" in answer.lower()
    assert b"connection: close" in answer.lower()
    told = json.loads(body)
    assert (told["error"], set(told)) == ("BadRequest", {"error", "message", "details"})
    assert server.total() == 0


NEVER = {
    "10 MB": (413, post(b" " * 10_000_000)),
    "10 MB that wait to be asked for": (413, post(b"", "expect: 100-continue", length=10**7)),
    "chunks without end": (413, chunked(*[b"10000\r\n" + b" " * 0x10000 + b"\r\n"] * 40)),
    "a bomb": (415, post(gzip.compress(b" " * 10**7), "content-encoding: gzip")),
    "another language": (415, head(f"POST {JOBS} HTTP/1.1", "content-type: text/xml")),
    "nothing": (422, post(b"")),
    "half of one": (422, post(JOB, length=len(JOB) - 9)),
    "UTF-16": (422, post(JOB.decode().encode("utf-16"))),
    "depth": (422, post(b'{"a":' * 100_000)),
    "a key that stands twice": (422, post(with_text("random_seed", '1, "random_seed": 2'))),
    "NaN": (422, post(with_text("validation_split", "NaN"))),
    "beyond numbers": (422, post(with_text("validation_split", "1e400"))),
    "a digit after the other": (422, post(with_text("random_seed", "9" * 5000))),
    "NUL": (422, post(with_text("target", '"a\\u0000b"'))),
    "half a letter": (422, post(with_text("target", '"\\ud800"'))),
    "100,000 features": (422, post(json.dumps(whole(features=[*map(str, range(10**5))])).encode())),
    "names that look alike": (422, post(with_text("features", '["T", "\\u0422"]'))),
    "digits of others": (422, post(with_text("training_start", '"\\u0662024-01-01T00:00:00"'))),
    "a leap second": (422, post(with_text("training_end", '"2024-12-31T23:59:60"'))),
    "the year 1": (422, post(with_text("training_start", '"0001-01-01T00:00:00"'))),
    "the year 9999": (422, post(with_text("training_end", '"9999-12-31T23:59:59-23:59"'))),
    "another's table": (422, post(with_text("data", '"../other/table"'))),
    "a file of the machine": (403, post(with_text("data", '"/etc/passwd"'))),
    "a tenant that is a path": (422, post(json.dumps(whole() | {"tenant_id": "../a"}).encode())),
    "a schedule that never comes": (
        422,
        post(json.dumps(whole() | {"schedule": "0 0 30 2 *"}).encode()),
    ),
    "a pattern that never ends": (
        422,
        post(json.dumps(whole() | {"name": "a" * 40 + "!"}).encode()),
    ),
    "two keys": (400, post(JOB, "idempotency-key: a", "idempotency-key: b")),
    "a key without a text": (400, post(JOB, "idempotency-key:")),
    "a key of other letters": (400, post(JOB, "idempotency-key: \u00fc")),
    "a stranger's page": (403, post(JOB, "origin: https://evil.example")),
    "a stranger's name": (403, head("GET /health HTTP/1.1", host="evil.example")),
    "a way out": (404, head(f"GET {JOBS}/%2e%2e%2f%2e%2e/logs HTTP/1.1")),
    "NUL in a path": (404, head(f"GET {JOBS}/%00 HTTP/1.1")),
    "another's site": (403, head("GET http://evil.example/health HTTP/1.1")),
    "a tunnel": (404, head("CONNECT evil.example:80 HTTP/1.1")),
    "a page of no number": (422, head(f"GET {JOBS}?page=%D9%A1 HTTP/1.1")),
    "many questions": (
        422,
        head(f"GET {JOBS}?{'&'.join(f'a{n}=1' for n in range(5000))} HTTP/1.1"),
    ),
    "another method": (405, head(f"PUT {JOBS} HTTP/1.1")),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_can_never_be_is_refused_in_words(server: Server, name: str) -> None:
    """By the status that it has, in the shape of every error; nothing is there of it."""
    status, asked = NEVER[name]
    said = server.told(asked)
    answer, _, body = said.partition(b"\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), said[:300]
    assert set(json.loads(body)) == {"error", "message", "details"}
    assert server.total() == 0


def test_odd_requests_that_are_right_are_done_once(server: Server) -> None:
    """Chunks with extensions, a version of before, bytes one by one, four at once on a line."""
    size = f"{len(JOB):x}".encode()
    pieces = (size + b";a=b\r\n", JOB, b"\r\n0\r\nx: y\r\n\r\n")
    waits = post(JOB, "expect: 100-continue")
    mark = post(b"\xef\xbb\xbf" + JOB, "idempotency-key: once")
    before = server.total()
    for asked in (chunked(*pieces), waits, mark, mark):
        assert b"HTTP/1.1 201 " in server.told(asked)
    drops = [post(JOB)[n : n + 1] for n in range(len(post(JOB)))]
    assert server.told(*drops).startswith(b"HTTP/1.1 201 ")
    assert server.total() == before + 4
    line = head("GET /openapi.json HTTP/1.1").replace(b"connection: close\r\n", b"")
    answers = server.told(line * 3 + head("GET /openapi.json HTTP/1.1"))
    assert answers.count(b"HTTP/1.1 200 ") == 4
    old = server.told(b"GET /openapi.json HTTP/1.0\r\nhost: localhost\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200 ")
    # Whoever has gone before the end of what they send has asked for nothing.
    with server.connect(post(JOB, length=len(JOB) + 9)) as gone:
        gone.shutdown(socket.SHUT_WR)
        assert gone.recv(65536) == b""
    assert server.total() == before + 4


def test_hundreds_who_hold_on_to_their_connections_keep_nobody_waiting(server: Server) -> None:
    """Some say nothing, some half of it, some never read, and some have only half a line left."""
    before = server.total()
    with contextlib.ExitStack() as held:
        for number in range(MANY):
            half = [b"", b"GET / HTT", post(JOB)[:-9], head("GET /openapi.json HTTP/1.1")][
                number % 4
            ]
            one = held.enter_context(server.connect(half))
            if number % 8 == 0:
                one.shutdown(socket.SHUT_WR)
        assert server.told(post(JOB)).startswith(b"HTTP/1.1 201 ")
        assert server.total() == before + 1
    assert server.total() == before + 1

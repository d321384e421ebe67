"""How quickly a service answers is asked in a process of its own, and a failure is no slowness."""

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from supervisor.core.guard import Guard
from supervisor.helpers.probe import ANSWER_MAX_S, Reply, measure
from supervisor.host import probe
from supervisor.host.probe import Probe
from testkit.patience import until

ASLEEP = """
import os, time
with open({told!r} + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename({told!r} + ".new", {told!r})
time.sleep(9999)
"""


@pytest.fixture
def service():
    """A service whose answers take `service.takes_s`, and have `service.status`."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(server.takes_s)
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answering)
    server.takes_s, server.status = 0.0, 200
    server.url = f"http://127.0.0.1:{server.server_port}/health"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_takes_as_long_as_it_takes(service):
    """Of a connection, of HTTP, of a command until it ends."""
    assert measure(f"tcp://127.0.0.1:{service.server_port}").latency_ms < 1000
    service.takes_s = 0.2
    assert 200 <= measure(service.url).latency_ms < 2000
    slow = (sys.executable, "-c", "import time; time.sleep(0.2); print('Marked-S3cret')")
    assert measure(slow).latency_ms >= 200


@pytest.mark.parametrize(
    ("asked", "trouble"),
    [
        ("tcp://127.0.0.1:1", "Connection refused"),
        (f"tcp://{'a' * 70}:80", "no host can have such a name"),
        (("/nowhere/at-all",), "No such file or directory"),
        ((sys.executable, "-c", "import sys; sys.exit('Marked-S3cret')"), "exit code 1"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "no answer within 0.3 s"),
        ((sys.executable, "-c", "import os; os.abort()"), "signal 6"),
    ],
)
def test_what_fails_is_not_slow(asked, trouble):
    """A game that is down for maintenance presses nobody; what a command prints is told nowhere."""
    answer = measure(asked, max_s=0.3)
    assert answer.latency_ms is None
    assert trouble in answer.trouble
    assert "S3cret" not in answer.trouble


def test_a_limit_that_no_answer_can_pass_is_refused():
    """What takes as long as that is no answer."""
    limit_ms = 1000 * ANSWER_MAX_S
    with pytest.raises(msgspec.ValidationError, match="latency_p95_ms"):
        msgspec.convert({"latency_p95_ms": limit_ms}, Guard)
    assert msgspec.convert({"latency_p95_ms": limit_ms - 1}, Guard).latency_p95_ms == limit_ms - 1


def test_a_service_that_says_it_is_ill_has_not_answered(service):
    service.status = 503
    assert measure(service.url) == Reply(trouble="it answers with HTTP status 503")
    service.takes_s = 1.0
    assert measure(service.url, max_s=0.2) == Reply(trouble="no answer within 0.2 s")


def tended(one, times):
    """Of so many answers more."""
    for _ in range(times):
        known = list(one._latencies_ms)
        until(lambda known=known: (one.tend(), list(one._latencies_ms) != known)[1], look_s=0.005)


def test_the_last_answers_count_and_one_slow_one_in_twenty_does_not(service):
    """Nothing is claimed of too few; nobody waits, and no process is left behind."""
    one = Probe(service.url)
    try:
        tended(one, probe.LEAST - 1)
        assert one.latency_p95_ms is None
        tended(one, probe.KEPT - probe.LEAST + 1)
        assert one.latency_p95_ms < 150
        service.takes_s = 0.2
        tended(one, 3)
        assert one.latency_p95_ms >= 200
    finally:
        one.close()


def test_while_it_does_not_answer_nothing_is_known(service):
    """From its first answer on it is known again."""
    one = Probe(service.url)
    try:
        tended(one, probe.LEAST)
        service.status = 500
        tended(one, 2)
        assert (one.latency_p95_ms, one.trouble) == (None, "it answers with HTTP status 500")
        service.status = 200
        tended(one, 2)
        assert one.trouble is None
        assert one.latency_p95_ms is not None
    finally:
        one.close()


def test_a_command_ends_with_whoever_asks(tmp_path):
    """The settings change, or the supervisor ends, while it waits for its answer."""
    told = tmp_path / "pid"
    one = Probe((sys.executable, "-c", ASLEEP.format(told=str(told))))
    until(lambda: (one.tend(), told.exists())[1], "it is asked")
    pid = int(told.read_text())
    os.kill(pid, 0)
    one.close()
    until(lambda: not Path(f"/proc/{pid}").exists(), "nothing is left of it")


def test_a_probe_that_cannot_even_be_asked_is_trouble():
    """It never raises, and rests between tries."""
    one = Probe("tcp://127.0.0.1:1", command=["/nowhere/at-all"])
    one.tend()
    assert "did not start" in one.trouble
    one.tend()
    assert len(one._latencies_ms) == 1
    one.close()

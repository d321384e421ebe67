"""What lies in the folder of a run was put there by a program that is not the operator's."""

import os

import httpx
import msgspec
import pytest

from supervisor.config import Config
from supervisor.core.settings import Settings
from supervisor.host.home import Home
from supervisor.page import pages
from supervisor.page.shown import Page
from testkit.api import Doors

RUN = "atari-Pong"
SECRET = b"what only the operator may read\n" * 100
GIF = b"GIF89a" + bytes(range(256)) * 1000
SHOWN = {
    "preview.png": f"/runs/{RUN}/preview.png",
    "play.gif": f"/runs/{RUN}/recording.gif",
    "output.log": f"/runs/{RUN}/lines?after=0",
    "metrics.jsonl": f"/runs/{RUN}/curves.json",
    "heartbeat.json": "/state.json",
}
"""a file of a run, and where something of it is shown"""


@pytest.fixture
def home(tmp_path):
    """A home whose first run has a folder."""
    home = Home(tmp_path / "home")
    home.make()
    home.run(RUN).path.mkdir(parents=True)
    return home


@pytest.fixture
def client(home):
    """Somebody at its page."""
    page = Page(home, lambda: Config(home.settings, required=False), Settings(), None)
    doors = Doors()
    with doors.behind(page.app) as address, httpx.Client(base_url=address) as asking:
        yield asking
    doors.close()


def put(home, name):
    return home.run(RUN).path / name


@pytest.mark.parametrize("name", SHOWN)
def test_no_link_in_the_folder_of_a_run_is_followed(home, client, tmp_path, name):
    """A trainer that may not read a file does not have the page read it to others."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    put(home, name).symlink_to(secret)
    for path in (SHOWN[name], f"/runs/{RUN}", "/"):
        assert SECRET[:20] not in client.get(path).content
        assert client.get(path).status_code < 500


@pytest.mark.parametrize("name", SHOWN)
def test_no_pipe_in_the_folder_of_a_run_holds_anybody_up(home, client, name):
    """Whoever opened it to read would wait until somebody writes."""
    os.mkfifo(put(home, name))
    for path in (SHOWN[name], f"/runs/{RUN}", "/"):
        assert client.get(path).status_code < 500


def test_what_becomes_a_link_while_it_is_looked_for_is_not_followed(
    home, client, tmp_path, monkeypatch
):
    """Between the look and the opening of a recording a program has all the time it needs."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    link = put(home, "play.gif")
    link.symlink_to(secret)
    monkeypatch.setattr(pages, "_recording", lambda folder: link)
    assert client.get(SHOWN["play.gif"]).status_code == 404


def test_a_recording_is_sent_as_it_is(home, client):
    """The newest, piece by piece; whoever asks for its size alone gets that."""
    put(home, "old.gif").write_bytes(b"GIF")
    os.utime(put(home, "old.gif"), (1, 1))
    put(home, "play.gif").write_bytes(GIF)
    told = client.get(SHOWN["play.gif"])
    assert (told.content, told.headers["content-type"]) == (GIF, "image/gif")
    head = client.head(SHOWN["play.gif"])
    assert (head.content, head.headers["content-length"]) == (b"", str(len(GIF)))


def test_a_recording_that_would_fill_a_telephone_is_none(home, client):
    """A file of 10 GiB takes no room on the disk, and any program can make one."""
    with put(home, "play.gif").open("wb") as file:
        file.truncate(10 * 2**30)
    assert client.get(SHOWN["play.gif"]).status_code == 404
    assert "recording.gif" not in client.get(f"/runs/{RUN}").text


def test_a_line_that_nobody_reads_to_its_end_is_cut(home, client):
    """Else a page of a run were as large as all it has printed."""
    with put(home, "output.log").open("wb") as file:
        for _ in range(300):
            file.write(b"x" * 60_000 + b"\n")
    assert len(client.get(f"/runs/{RUN}").content) < 600_000
    (line, *_) = client.get(SHOWN["output.log"]).json()["lines"]
    assert line == "x" * pages.LINE_SHOWN_BYTES + " ... and 58000 bytes more"


@pytest.mark.parametrize(
    "said",
    [
        b"\xff" * 100,
        b"[" * 100_000,
        b'{"step": 1e999}',
        msgspec.json.encode({"version": 2, "pid": -1, "step": -1, "at": "\u202e<script>"}),
        msgspec.json.encode({"version": 10**6, "step": 2**62, "score": {"name": "<b>" * 999}}),
    ],
)
def test_nonsense_of_a_run_breaks_no_page(home, client, said):
    """Its heartbeat may say anything."""
    put(home, "heartbeat.json").write_bytes(said)
    for path in ("/", f"/runs/{RUN}", "/state.json", "/metrics"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "<script>" not in answer.text

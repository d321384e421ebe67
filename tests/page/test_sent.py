"""What is sent of the page: little, and packed for whoever takes that."""

import gzip

import httpx
import msgspec
import pytest

from supervisor.config import Config
from supervisor.core.settings import Settings
from supervisor.host.home import Home
from supervisor.page import static
from supervisor.page.shown import Page
from testkit.api import Doors

RUN = "atari-Pong"
BYTES_MAX = 120_000


@pytest.fixture
def client(tmp_path):
    """Somebody at the page of a home in which a run has measured something."""
    home = Home(tmp_path / "home")
    home.make()
    folder = home.run(RUN)
    folder.path.mkdir(parents=True)
    lines = [{"step": step, "at": 1e9 + step, "loss": 1 / step} for step in range(1, 3000)]
    folder.metrics.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    page = Page(home, lambda: Config(home.settings, required=False), Settings(), None)
    doors = Doors()
    with doors.behind(page.app) as address, httpx.Client(base_url=address) as asking:
        yield asking
    doors.close()


@pytest.mark.parametrize("path", ["/", "/parts/decisions", f"/runs/{RUN}/curves.json"])
def test_text_is_packed_for_whoever_takes_that(client, path):
    """The others have it as it is; nothing between may mix the two up."""
    packed = client.get(path, headers={"accept-encoding": "gzip"})
    plain = client.get(path, headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert packed.status_code == plain.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, GZIP ;q=0.5", True), ("gzip;q=0", False), ("gzip;q=0.000, br", False),
     ("x-gzip", False), ("", False)],
)  # fmt: skip
def test_nobody_is_sent_what_they_have_said_they_cannot_read(client, accepted, packed):
    """Pages, and files: a weight of 0 is to say no."""
    page = client.get("/", headers={"accept-encoding": accepted})
    styles = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    for answer in (page, client.get(styles, headers={"accept-encoding": accepted})):
        assert answer.status_code == 200
        assert ("content-encoding" in answer.headers) is packed


def test_all_that_is_ever_sent_of_the_page_is_little(client):
    """Page, styles, scripts and charts, packed: what a telephone has loaded in a second."""
    page = client.get("/", headers={"accept-encoding": "identity"}).content
    files = sum(len(file.packed) for file in static.files().values())
    assert len(gzip.compress(page)) + files < BYTES_MAX


@pytest.mark.parametrize(
    ("query", "by", "points"),
    [("", "step", 1200), ("?by=time&points=50", "time", 100), ("?by=x&points=-1", "step", 1200)],
)
def test_curves_have_no_more_points_than_can_be_seen(client, query, by, points):
    """Two for each pixel, over steps or over time."""
    told = client.get(f"/runs/{RUN}/curves.json{query}").json()
    assert told["by"] == by
    assert told["marks"] == []
    (curve,) = told["curves"]
    assert curve["name"] == "loss"
    assert 2 <= len(curve["points"]["x"]) <= points


def test_a_run_that_is_none_has_no_curves(client):
    """Whoever makes up a name learns nothing."""
    assert client.get("/runs/nobody/curves.json").status_code == 404

"""What looks at pages in a real browser finds what is wrong with one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from playwright.sync_api import expect

from testkit.api import served
from testkit.browser import LOOKS
from testkit.line import line_to
from testkit.patience import until

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"
)
STYLE = """
:root { color-scheme: light dark; color: CanvasText; background: Canvas }
a { color: inherit }
:focus-visible { outline: 3px solid }
#sly:focus-visible { outline: none }
.wide { width: 2000px }
.faint { color: #777; background: #888 }
"""
SCRIPT = """
const told = document.getElementById("told");
let stream = null;
function listen() {
    stream = new EventSource("/events");
    stream.onmessage = event => { told.textContent = event.data };
}
document.addEventListener("visibilitychange", () => {
    if (document.hidden) stream.close();
    else listen();
});
listen();
"""
SCHEME = """
document.querySelector("h1").textContent =
    matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
"""


def a_page(body="", script=""):
    return f"""<!doctype html><html lang="en"><head><title>A page</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css">
<link rel="icon" href="/dot.svg"></head>
<body><main><h1>A page</h1><p id="told">nothing</p>{body}</main>
{f'<script src="{script}"></script>' if script else ""}</body></html>"""


class Site:
    """A little server with one page, and a stream that counts."""

    def __init__(self, page):
        self.page = page
        self.streams = 0
        self.sent = 0
        self.policy = POLICY

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        if path == "/events":
            await self._stream(receive, send)
            return
        kind, body = {
            "/": ("text/html; charset=utf-8", self.page),
            "/style.css": ("text/css", STYLE),
            "/dot.svg": ("image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg"/>'),
            "/live.js": ("text/javascript", SCRIPT),
            "/scheme.js": ("text/javascript", SCHEME),
            "/faulty.js": ("text/javascript", "nobody.knows(this)"),
        }.get(path, ("text/plain", "nothing"))
        known = kind != "text/plain"
        await self._begin(send, 200 if known else 404, kind)
        await send({"type": "http.response.body", "body": body.encode()})

    async def _begin(self, send, status, kind):
        headers = [
            (b"content-type", kind.encode()),
            (b"content-security-policy", self.policy.encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _stream(self, receive, send):
        await self._begin(send, 200, "text/event-stream")
        gone = asyncio.create_task(receive_end(receive))
        self.streams += 1
        try:
            while not gone.done():
                self.sent += 1
                said = f"retry: 50\ndata: {self.sent}\n\n".encode()
                await send({"type": "http.response.body", "body": said, "more_body": True})
                await asyncio.wait({gone}, timeout=0.02)
        finally:
            self.streams -= 1


async def receive_end(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def visiting(chromium):
    """Visits a site of one page."""

    @contextlib.contextmanager
    def visiting(page, *, site=None, **how):
        site = site or Site(page)
        with served(site) as address, chromium.visiting(address, **how) as visit:
            visit.go()
            yield visit

    return visiting


GOOD = """<p><a href="/">Here</a> <button>Press</button></p>
<details><summary>More</summary><p><a href="/more">More</a></p></details>"""


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_a_page_without_a_fault_is_passed(visiting, tmp_path, size, scheme):
    """Of each size, in the colours that were asked for."""
    with visiting(a_page(GOOD, "/scheme.js"), size=size, scheme=scheme) as visit:
        expect(visit.page.locator("h1")).to_have_text(scheme)
        assert visit.barriers() == ""
        assert not visit.overflows()
        stops = visit.stops_of_all()
        assert len(stops) == 3
        assert visit.picture(tmp_path, "page").stat().st_size > 1000


@pytest.mark.parametrize(
    ("body", "script", "trouble"),
    [
        ("<script>1</script>", "", "Content Security Policy"),
        ("<p style='color: red'>red</p>", "", "Content Security Policy"),
        ("<button onclick='go()'>go</button>", "", "Content Security Policy"),
        ("", "/faulty.js", "a script has failed: nobody is not defined"),
        ("", "/none.js", "404"),
        ("<img src='http://127.0.0.2:9/x.png' alt=''>", "", "of another server"),
    ],
    ids=["inline script", "inline style", "handler", "error", "missing", "elsewhere"],
)
def test_a_fault_that_the_browser_tells_of_fails(visiting, body, script, trouble):
    """Though nobody has asked."""
    with pytest.raises(AssertionError, match=trouble), visiting(a_page(body, script)):
        pass


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<img src='/dot.svg'>", "image-alt"),
        ("<p class='faint'>Hard to read</p>", "color-contrast"),
        ("<button></button>", "button-name"),
    ],
)
def test_what_keeps_somebody_from_using_it_is_found(visiting, body, rule):
    """By the name of its rule."""
    with visiting(a_page(body)) as visit:
        assert rule in visit.barriers()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("<button id='sly'>Press</button>", "nobody sees .*sly"),
        ("<button tabindex='-1'>Press</button>", "is to lead to .*-1"),
    ],
    ids=["unseen", "unreached"],
)
def test_what_no_keyboard_reaches_is_found(visiting, body, why):
    """And where nobody sees that it was reached."""
    with visiting(a_page(GOOD + body)) as visit, pytest.raises(AssertionError, match=why):
        visit.stops_of_all()


def test_what_is_wider_than_the_screen_is_found(visiting):
    """A phone would have to be moved about."""
    with visiting(a_page("<p class='wide'>wide</p>")) as visit:
        assert visit.overflows()


def test_without_scripts_none_runs(visiting):
    """The page is as it came."""
    site = Site(a_page(GOOD, "/live.js"))
    with visiting(site.page, site=site, scripts=False) as visit:
        expect(visit.page.locator("#told")).to_have_text("nothing")
        assert site.streams == 0


def test_a_hidden_tab_may_close_its_stream_and_a_shown_one_opens_it(visiting):
    """The browser says so to the page."""
    site = Site(a_page(GOOD, "/live.js"))
    with visiting(site.page, site=site) as visit:
        until(lambda: site.streams == 1, "it listens")
        visit.hide()
        until(lambda: site.streams == 0, "it has closed it")
        visit.show()
        until(lambda: site.streams == 1, "it listens again")


def test_a_line_that_is_cut_ends_a_stream_and_a_mended_one_carries_it_again(chromium):
    """At the same address; meanwhile the browser complains, as it should."""
    site = Site(a_page(GOOD, "/live.js"))
    with (
        served(site) as address,
        line_to(address) as line,
        chromium.visiting(line.address) as visit,
    ):
        visit.go()
        until(lambda: site.streams == 1, "it listens")
        with visit.bearing_troubles():
            line.cut()
            until(lambda: site.streams == 0, "it is cut")
            line.mend()
            until(lambda: site.streams == 1, "it is back")
            seen = site.sent
            expect(visit.page.locator("#told")).not_to_have_text(str(seen))


def test_others_may_have_event_loops_of_their_own_after_a_visit(visiting):
    """And two visits may be under way at once."""
    with visiting(a_page(GOOD)) as visit, visiting(a_page(GOOD)) as other:
        assert visit.page.title() == other.page.title() == "A page"

    async def nothing():
        return 1

    assert asyncio.run(nothing()) == 1

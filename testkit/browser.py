"""A real browser for a test, in which nothing goes wrong unseen."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Playwright, expect, sync_playwright

from testkit.patience import PATIENCE_S

Size = Literal["phone", "desk"]
Scheme = Literal["dark", "light"]
SIZES: dict[Size, dict[str, Any]] = {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "desk": {"viewport": {"width": 1280, "height": 900}},
}
LOOKS: tuple[tuple[Size, Scheme], ...] = (
    ("phone", "dark"), ("phone", "light"), ("desk", "dark"), ("desk", "light"),
)  # fmt: skip
"""every way in which a page is looked at"""
expect.set_options(timeout=PATIENCE_S * 1000)
STOPS_MAX = 500
"""of the tab key on one page"""

_WANTED = """() => {
    const all = "a[href], button, summary, input, select, textarea, [tabindex]";
    return [...document.querySelectorAll(all)]
        .filter(one => one.tabIndex >= 0 || !one.matches("[tabindex]:not(a, button, input)"))
        .filter(one => !one.disabled && one.type !== "hidden")
        .filter(one => one.checkVisibility({visibilityProperty: true}))
        .map(one => one.outerHTML.slice(0, 120));
}"""
"""what is to be reached by keyboard"""
_FOCUSED = """() => {
    const one = document.activeElement;
    if (!one || one === document.body || one === document.documentElement) return null;
    const style = getComputedStyle(one), place = one.getBoundingClientRect();
    const on_top = document.elementFromPoint(
        place.left + Math.min(place.width, innerWidth) / 2, place.top + place.height / 2);
    const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
    return {
        name: one.outerHTML.slice(0, 120),
        seen: (ring || style.boxShadow !== "none")
            && on_top !== null && (one.contains(on_top) || on_top.contains(one)),
    };
}"""
_VISIBILITY = """state => {
    Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
    Object.defineProperty(document, "hidden", {value: state === "hidden", configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Without a screen no tab of Chromium is ever hidden: it is told so."""


class Stop(NamedTuple):
    """Where the tab key has led."""

    name: str
    """the beginning of the element"""
    seen: bool
    """it lies in view, and whoever looks sees that it has the focus"""


class Asked(NamedTuple):
    """What a tab has asked of its server."""

    method: str
    path: str


class Visit:
    """One tab on one server.

    Args:
        page: the tab.
        address: the server; whatever else is asked is a trouble.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.troubles: list[str] = []
        """what the browser has complained of: errors of scripts, of the policy, of requests"""
        self.asked: list[Asked] = []
        """all that it has asked of the server, in order"""
        self._streams: set[Any] = set()
        self._bears = False
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.troubles.append(f"a script has failed: {error}"))
        page.on("request", self._asks)
        page.on("requestfinished", self._ends)
        page.on("requestfailed", self._ends)

    def go(self, path: str = "/") -> None:
        """Open a page of the server, all of it."""
        self.page.goto(f"{self.address}{path}", wait_until="load")

    @contextlib.contextmanager
    def bearing_troubles(self) -> Iterator[None]:
        """What does not load meanwhile is not to: nobody is told. All else is as bad as ever."""
        self._bears = True
        try:
            yield
        finally:
            self._bears = False

    def streams(self) -> int:
        """How many streams of events it has open now."""
        self.page.evaluate("0")  # the browser tells what has happened only while it is asked
        return len(self._streams)

    def hide(self) -> None:
        """The tab is no longer looked at."""
        self.page.evaluate(_VISIBILITY, "hidden")

    def show(self) -> None:
        """It is looked at again."""
        self.page.evaluate(_VISIBILITY, "visible")

    def barriers(self) -> str:
        """What keeps somebody from using the page as it is now, as axe finds it; nothing: nothing.

        Only where scripts run.
        """
        found = Axe().run(self.page)
        return found.generate_report() if found.violations_count else ""

    def overflows(self) -> bool:
        """Whether the page is wider than the screen."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def reachable(self) -> list[str]:
        """All that somebody without a mouse must be able to reach, as `stops` names it."""
        found: list[str] = self.page.evaluate(_WANTED)
        return found

    def stops(self) -> list[Stop]:
        """Where the tab key leads, one after the other, on a page that has just been opened."""
        found: list[Stop] = []
        while len(found) < STOPS_MAX:
            self.page.keyboard.press("Tab")
            told = self.page.evaluate(_FOCUSED)
            if told is None or (found and told["name"] == found[0].name):
                break
            found.append(Stop(told["name"], told["seen"]))
        return found

    def stops_of_all(self) -> list[str]:
        """All that can be used, in the order of the tab key.

        Raises:
            AssertionError: it does not lead to something, or nobody sees where it has led.
        """
        wanted = self.reachable()
        found = self.stops()
        led = [one.name for one in found]
        assert led == wanted, f"the tab key leads to {led}, and is to lead to {wanted}"
        unseen = [one.name for one in found if not one.seen]
        assert not unseen, f"nobody sees that these have the focus: {unseen}"
        return wanted

    def picture(self, folder: Path, name: str) -> Path:
        """A picture of the whole page."""
        path = folder / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def _heard(self, message: Any) -> None:
        # What the policy of a page has forbidden is told here, too, and what did not load.
        if self._bears and message.text.startswith("Failed to load resource: "):
            return
        if message.type in ("error", "warning", "assert"):
            self.troubles.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _asks(self, request: Any) -> None:
        self.asked.append(Asked(request.method, request.url.removeprefix(self.address)))
        if request.resource_type == "eventsource":
            self._streams.add(request)
        if not request.url.startswith((f"{self.address}/", "data:", "blob:")):
            self.troubles.append(f"something of another server is asked for: {request.url}")

    def _ends(self, request: Any) -> None:
        self._streams.discard(request)


class Chromium:
    """Chromium without a screen: two seconds to start, half a gigabyte, and a second for a visit.

    Raises:
        FileNotFoundError: there is none.
    """

    def __init__(self) -> None:
        path = shutil.which("chromium")
        if path is None:
            raise FileNotFoundError("there is no Chromium here: apt-get install chromium")
        self._path = path

    def __enter__(self) -> Chromium:
        self._playwright: Playwright = sync_playwright().start()
        # As root it cannot have a sandbox; it is shown our own pages alone.
        self._browser = self._playwright.chromium.launch(
            executable_path=self._path, args=["--no-sandbox"]
        )
        self._loop = _leave_loop(None)
        return self

    def __exit__(self, *_: object) -> None:
        _leave_loop(self._loop)
        self._browser.close()
        self._playwright.stop()

    @contextlib.contextmanager
    def visiting(
        self,
        address: str,
        *,
        size: Size = "phone",
        scheme: Scheme = "dark",
        scripts: bool = True,
    ) -> Iterator[Visit]:
        """A tab of its own, without a memory of others; no trouble is left untold.

        Leave it only where the tab has come to rest: while a form leads it elsewhere, the browser
        may never answer again.

        Args:
            address: of the server, without a path.
            size: of the screen.
            scheme: the colours that whoever looks prefers.
            scripts: whether they run.
        """
        before = _leave_loop(self._loop)
        context = self._browser.new_context(
            **SIZES[size], color_scheme=scheme, java_script_enabled=scripts
        )
        try:
            visit = Visit(context.new_page(), address)
            yield visit
            assert not visit.troubles, "\n".join(visit.troubles)
        finally:
            context.close()
            _leave_loop(before)


def _leave_loop(
    other: asyncio.AbstractEventLoop | None,
) -> asyncio.AbstractEventLoop | None:
    """Say that another event loop runs in this thread, and which one has.

    That of Playwright stays marked as running between its calls, and no other test could begin one.
    """
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(other)
    return before

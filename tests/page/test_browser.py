"""The page as people have it: in a real browser, of a real supervisor that trains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import APIResponse, Route, expect
from starlette.types import ASGIApp

from supervisor.access import Access
from supervisor.config import Config
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.page import static
from supervisor.page.app import Application
from supervisor.page.asking import Asking
from supervisor.page.lately import Series
from supervisor.page.look import Look
from supervisor.page.pages import Pages
from supervisor.page.rendering import PARTS, Rendering
from supervisor.page.shown import Page
from supervisor.page.stream import Stream
from testkit.api import served
from testkit.browser import LOOKS, STOPS_MAX, Chromium, Scheme, Size, Visit
from testkit.line import line_to
from testkit.looks import a_line, a_look, a_report, a_run, lately
from testkit.machine import SETTINGS, Machine
from testkit.patience import until
from testkit.written_life import WrittenLife

WEB = "\n[web]\nlisten = '127.0.0.1:0'\n"
RUN = "drill-A"
MAIN = ("/", f"/runs/{RUN}")
OTHERS = ("/decisions", "/decisions/1", "/ledger", "/goodput", "/ask/pause")


@pytest.fixture(scope="module")
def machine(tmp_path_factory, commands) -> Iterator[Machine]:
    """A supervisor that trains, with the page beside it."""
    machine = Machine(tmp_path_factory.mktemp("box") / "home", commands=commands)
    machine.configure(SETTINGS + WEB)
    machine.launch(machine.command("run", "--plain", "--serve"))
    machine.until(lambda: machine.state()["page"], "the page is served")
    machine.until_steps("A")
    address = machine.state()["page"]
    yield machine
    machine.crash()
    until(lambda: not answers(address), "nobody serves")


def answers(address: str) -> bool:
    try:
        httpx.get(address)
    except httpx.HTTPError:
        return False
    return True


@pytest.fixture
def address(machine: Machine) -> str:
    """Where the page is."""
    parts = urlsplit(machine.state()["page"])
    return f"{parts.scheme}://{parts.netloc}"


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_page_is_for_everybody(
    chromium: Chromium, address: str, tmp_path: Path, size: Size, scheme: Scheme
) -> None:
    """Axe finds nothing, nothing is wider than the screen, and the browser has no complaint.

    Of each size and in each of the colours; those that one looks at most in all of both.
    """
    others = OTHERS if (size, scheme) in (("phone", "dark"), ("desk", "light")) else ()
    with chromium.visiting(address, size=size, scheme=scheme) as visit:
        for page in (*MAIN, *others):
            visit.go(page)
            assert visit.barriers() == "", page
            assert not visit.overflows(), page
            visit.picture(tmp_path, page.strip("/").replace("/", "-") or "main")


class Watched:
    """An application of which it is known what is asked, and how many streams are open."""

    def __init__(self, app):
        self._app = app
        self.streams = 0
        self.asked = 0

    async def __call__(self, scope, receive, send):
        self.asked += 1
        stream = scope["path"] == "/events"
        self.streams += stream
        try:
            await self._app(scope, receive, send)
        finally:
            self.streams -= stream


@pytest.fixture
def watched(machine: Machine) -> Watched:
    """The page of that supervisor in this process."""
    return Watched(page_of(machine.home))


def page_of(folder: Path) -> ASGIApp:
    home = Home(folder)
    config = Config(home.settings)
    return Page(home, lambda: config, config.settings, None).app


def test_what_changes_is_told_without_another_page(chromium: Chromium, address: str) -> None:
    """The steps of a run go on, and the page is the one that was opened."""
    with chromium.visiting(address) as visit:
        visit.go()
        visit.page.evaluate("document.body.dataset.opened = 'once'")
        reached = visit.page.locator(f"[data-live='runs.{RUN}.reached']")
        for _ in range(2):
            expect(reached).not_to_have_text(reached.inner_text())
        assert visit.page.evaluate("document.body.dataset.opened") == "once"


def test_a_line_that_is_cut_is_told_and_what_comes_after_it_is_shown(
    chromium: Chromium, address: str
) -> None:
    """Nobody takes what stood there for the present."""
    with line_to(address) as line, chromium.visiting(line.address) as visit:
        visit.go()
        told, reached = (
            visit.page.locator(one) for one in ("#connection", f"[data-live='runs.{RUN}.reached']")
        )
        expect(told).to_be_hidden()
        for _ in range(2):
            with visit.bearing_troubles():
                line.cut()
                expect(told).to_contain_text("Not connected since")
                stood = reached.inner_text()
                line.mend()
                expect(told).to_be_hidden()
            expect(reached).not_to_have_text(stood)


def test_a_hidden_tab_asks_for_nothing_and_a_shown_one_goes_on(
    chromium: Chromium, machine: Machine, watched: Watched
) -> None:
    """One stream a tab, and none for a tab that nobody sees."""
    with served(watched) as address, chromium.visiting(address) as visit:
        visit.go()
        until(lambda: watched.streams == 1, "it listens")
        visit.hide()
        until(lambda: watched.streams == 0, "it has closed its stream")
        asked = watched.asked
        stood = visit.page.locator(f"[data-live='runs.{RUN}.reached']").inner_text()
        machine.until_steps("A", machine.heartbeat("A")["step"] + 400)
        assert watched.asked == asked
        visit.show()
        expect(visit.page.locator(f"[data-live='runs.{RUN}.reached']")).not_to_have_text(stood)
        assert watched.streams == 1


BLIND = lately(shots=frozenset())
"""no run shows what it sees"""


class Told:
    """Looks at a home that is as a test says."""

    def __init__(self, look: Look) -> None:
        self.now = look

    def look(self) -> Look:
        return self.now


def page_telling(looks: Told, place: Path) -> Application:
    """The page of what is told, in a home that holds nothing."""
    home, clock, settings = Home(place), SystemClock(), Settings()
    rendering = Rendering(static.addresses().__getitem__)
    return Application(
        Pages(home, rendering, clock, Series(home), None),
        Stream(looks, rendering),
        Asking(home, clock, None),
        Access(home, clock, settings),
        "pass",
    )


@pytest.mark.parametrize("how", ["it is cut off", "the server cannot"])
def test_a_part_that_did_not_come_comes_once_the_line_is_back(
    chromium: Chromium, tmp_path: Path, how: str
) -> None:
    """That it was to be fetched was told before, and is not told again."""
    looks = Told(a_look(lately=BLIND))
    refused: list[str] = []

    def answer(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        if how == "it is cut off":
            route.abort()
        else:
            route.fulfill(status=503)

    with served(page_telling(looks, tmp_path)) as address, chromium.visiting(address) as visit:
        visit.go()
        visit.page.route("**/parts/decisions", answer)
        with visit.bearing_troubles():
            looks.now = a_look(lately=BLIND, lines=(*looks.now.lines, a_line(3, "run.died", 1.0)))
            expect(visit.page.locator("#d3")).to_be_visible()
        assert refused
        expect(visit.page.locator("#connection")).to_be_hidden()


def test_a_part_that_was_long_on_its_way_brings_nothing_old(
    chromium: Chromium, tmp_path: Path
) -> None:
    """What was told meanwhile stays, and is not told again."""

    def at(step: int, status: str) -> Look:
        return a_look(a_report(runs=(a_run(step=step, status=status),)), lately=BLIND)

    looks = Told(at(1000, "running"))
    held: list[tuple[Route, APIResponse]] = []
    with served(page_telling(looks, tmp_path)) as address, chromium.visiting(address) as visit:
        visit.go()
        visit.page.route("**/parts/runs", lambda route: held.append((route, route.fetch())))
        looks.now = at(1000, "stopping")
        until(lambda: visit.streams() and held, "the part is fetched")
        looks.now = at(2000, "stopping")
        reached = visit.page.locator("[data-live='runs.drill-Pong.reached']")
        expect(reached).to_have_text("2000 (30.6 %)")
        ((route, response),) = held
        route.fulfill(response=response)
        expect(visit.page.locator("#runs .status")).to_contain_text("stopping")
        expect(reached).to_have_text("2000 (30.6 %)")


@pytest.mark.parametrize("size", ["phone", "desk"])
def test_everything_is_reached_by_keyboard_and_seen_to_be(
    chromium: Chromium, address: str, size: Size
) -> None:
    """In the order in which it stands there."""
    with chromium.visiting(address, size=size) as visit:
        for page in ("/", f"/runs/{RUN}", "/decisions", "/ask/pause"):
            visit.go(page)
            visit.hide()  # nothing comes or goes meanwhile
            visit.stops_of_all()


@pytest.mark.parametrize(("size", "scripts"), [("phone", False), ("desk", True)])
def test_a_pause_is_asked_for_by_keyboard_alone(
    chromium: Chromium, machine: Machine, address: str, size: Size, scripts: bool
) -> None:
    """Once, with what will happen, and the answer is shown; with scripts and without."""
    try:
        with chromium.visiting(address, size=size, scripts=scripts) as visit:
            visit.go()
            press(visit, "Pause")
            expect(visit.page.locator("main")).to_contain_text("saved and stopped")
            assert not machine.state()["goal"]["paused"]
            press(visit, "Pause")
            expect(visit.page).to_have_url(re.compile(f"{address}/answers/"))
            machine.until(lambda: machine.state()["goal"]["paused"], "it is paused")
    finally:
        machine("resume")
    machine.until(lambda: not machine.state()["goal"]["paused"], "it goes on")


def press(visit: Visit, words: str) -> None:
    """Go to what bears these words by the tab key, and press Enter there."""
    wanted = visit.page.locator(".buttons").get_by_text(words, exact=True)
    expect(wanted).to_be_visible()
    for _ in range(STOPS_MAX):
        visit.page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            break
    visit.page.keyboard.press("Enter")


@pytest.mark.parametrize("size", ["phone", "desk"])
def test_without_scripts_the_page_says_the_same(
    chromium: Chromium, tmp_path: Path, size: Size
) -> None:
    """Every part of it, here of a home in which nothing happens any more."""
    WrittenLife().train(3).crash().train(0.5).save(tmp_path)
    told = []
    with served(page_of(tmp_path)) as address:
        for scripts in (True, False):
            with chromium.visiting(address, size=size, scripts=scripts) as visit:
                visit.go()
                parts = visit.page.locator("[data-part]").all_inner_texts()
                told.append([re.sub(r"[\d.,:]+", "", text) for text in parts])
    assert told[0] == told[1]
    assert len(told[0]) == len(PARTS)

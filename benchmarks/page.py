#!/usr/bin/env python3
"""How soon the page is there, how much is sent for it, and what it costs, beside TensorBoard.

    python benchmarks/page.py              five visits of each in turn, some four minutes
    python benchmarks/page.py --visits 9 --json

A real supervisor trains three runs. For each visit a fresh profile of a real Chromium opens the
page, then TensorBoard on the very same runs: time until something is painted, bytes that came over
the wire, requests. Beside that the memory of both servers, and what five watchers cost ours.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from playwright.sync_api import Browser, sync_playwright  # noqa: E402 - after the path is set

from testkit.machine import Machine  # noqa: E402
from testkit.patience import until  # noqa: E402

SETTINGS = """\
[campaign]
trainer = "drill"
runs = ["A", "B", "C"]
target = { steps = 10000000 }

[jobs]
enabled = {jobs}
"""
TRAINED_S = 30.0
"""before anybody looks, so that there is something to see"""
WATCHERS, WATCHED_S = 5, 60.0
PAINTED = """() => performance.getEntriesByType("paint")
    .find(one => one.name === "first-contentful-paint")?.startTime"""
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure, and tell it; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--visits", type=int, default=5, help="of each")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("there is no chromium: as root, apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="page-") as place, ExitStack() as on:
        machine = Machine(Path(place) / "home")
        machine.configure(SETTINGS.replace("{jobs}", "false"))
        machine.start()
        on.callback(machine.sweep)
        time.sleep(TRAINED_S)
        alone, address = on.enter_context(_ours(machine))
        before_mib = _memory_mib(alone)
        theirs, peer = on.enter_context(_tensorboard(machine))
        browser = on.enter_context(_browser(chromium))
        ours_seen, peer_seen = [], []
        for _ in range(options.visits):
            ours_seen.append(_visit(browser, address))
            peer_seen.append(_visit(browser, peer))
        cost = _watched(alone, address)
        rows = {
            "ours": _told(ours_seen) | {"memory_mib": _memory_mib(alone)},
            "tensorboard": _told(peer_seen) | {"memory_mib": _memory_mib(theirs)},
        }
        found = {
            **rows,
            "memory_before_anybody_looks_mib": before_mib,
            f"percent_of_a_core_by_{WATCHERS}_watchers": cost,
        }
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{'':12} {'first paint':>22} {'sent':>10} {'requests':>9} {'memory':>9}")
    for name, row in rows.items():
        paint = (
            f"{row['paint_ms']:.0f} ms ({row['paint_least_ms']:.0f} to {row['paint_most_ms']:.0f})"
        )
        print(
            f"{name:12} {paint:>22} {row['sent_kib']:>6.0f} KiB {row['requests']:>9.0f} "
            f"{row['memory_mib']:>5.0f} MiB"
        )
    ratios = sorted(
        b["paint_ms"] / a["paint_ms"] for a, b in zip(ours_seen, peer_seen, strict=True)
    )
    middle = statistics.median(ratios)
    print(f"painted {middle:.1f} times as soon ({ratios[0]:.1f} to {ratios[-1]:.1f})")
    print(f"memory of ours before anybody looks: {before_mib:.1f} MiB")
    print(f"{WATCHERS} watchers take {cost:.2f} % of a core")
    return 0


@contextmanager
def _ours(machine: Machine) -> Iterator[tuple[int, str]]:
    with _started(machine.command("serve", "--listen", "127.0.0.1:0"), machine) as (pid, log):
        told = log(lambda text: "the page is at" in text)
        yield pid, _found(r"the page is at (\S+)/", told)


@contextmanager
def _tensorboard(machine: Machine) -> Iterator[tuple[int, str]]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [
        sys.executable, "-m", "tensorboard.main", "--logdir", str(machine.home / "runs"),
        "--port", str(port), "--load_fast", "false",
    ]  # fmt: skip
    with _started(command, machine) as (pid, log):
        log(lambda text: "TensorBoard" in text and "http" in text)
        yield pid, f"http://127.0.0.1:{port}"


@contextmanager
def _started(command: list[str], machine: Machine) -> Iterator[tuple[int, Any]]:
    """A server, and what waits until its log says something."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as file:
        with open(file.name, "w") as out:  # noqa: PTH123 - a handle for a process
            child = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                env=machine.environment(),
            )  # fmt: skip

        def log(says: Any) -> str:
            until(lambda: says(Path(file.name).read_text()), "the server says where it is")
            return Path(file.name).read_text()

        try:
            yield child.pid, log
        finally:
            child.terminate()
            child.wait()


@contextmanager
def _browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as play:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = play.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def _visit(browser: Browser, address: str) -> dict[str, float]:
    """One visit of somebody who has never been there."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    seen = {"sent": 0.0, "requests": 0.0}

    def finished(event: dict[str, Any]) -> None:
        seen["sent"] += event["encodedDataLength"]
        seen["requests"] += 1

    devtools.on("Network.loadingFinished", finished)
    page.goto(address, wait_until="load")
    until(
        lambda: page.evaluate(PAINTED), "something is painted"
    )  # a page may forbid to wait inside
    painted_ms = page.evaluate(PAINTED)
    page.wait_for_timeout(3000)  # whatever it loads by itself
    context.close()
    return {"paint_ms": painted_ms, **seen}


def _told(seen: list[dict[str, float]]) -> dict[str, float]:
    paints = [one["paint_ms"] for one in seen]
    return {
        "paint_ms": statistics.median(paints),
        "paint_least_ms": min(paints),
        "paint_most_ms": max(paints),
        "sent_kib": statistics.median(one["sent"] for one in seen) / 1024,
        "requests": statistics.median(one["requests"] for one in seen),
    }


def _watched(pid: int, address: str) -> float:
    """Per cent of a core that the server takes while some watch."""
    streams = [
        subprocess.Popen(["curl", "-sN", f"{address}/events?seen=x"], stdout=subprocess.DEVNULL)
        for _ in range(WATCHERS)
    ]
    time.sleep(5)
    before = _ticks(pid)
    time.sleep(WATCHED_S)
    took = (_ticks(pid) - before) / TICKS
    for one in streams:
        one.terminate()
        one.wait()
    return 100 * took / WATCHED_S


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(_found(r"VmRSS:\s+(\d+) kB", status)) / 1024


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"nothing like {pattern!r} stands in {text!r}")
    return match[1]


if __name__ == "__main__":
    sys.exit(main())

"""How quickly a service of this machine answers, asked by a process that may wait for it.

The daemon opens no connection. Nothing wakes it for an answer either: at each sample of the guard
it takes what has come, and asks once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from supervisor.helper import Helper, HelperFailed
from supervisor.helpers.probe import ANSWER_MAX_S, Reply, Request
from supervisor.programs import program

KEPT = 20
"""of so many answers, 40 s of them, one in twenty may be slow"""
LEAST = 10
"""of fewer nothing is claimed"""
SHARE = 0.95


class Probe:
    """Asks one service again and again; never raises.

    Args:
        asked: what is asked, as the settings have it.
        command: the process that asks.
    """

    def __init__(self, asked: str | tuple[str, ...], command: Sequence[str] | None = None) -> None:
        self.asked = asked
        self._helper: Helper[Request, Reply] = Helper(
            command or program("supervisor.helpers.probe"),
            reply=Reply,
            name="probe",
            stuck_in="a connection",
            timeout_s=2 * ANSWER_MAX_S,
        )
        self._greeted = False
        self._latencies_ms: deque[float | None] = deque(maxlen=KEPT)
        """of the last answers; None: there was none"""
        self.trouble: str | None = None
        """why the last probe has failed"""

    @property
    def latency_p95_ms(self) -> float | None:
        """What 95 % of the last answers have kept below; None: unknown, as the last one failed."""
        known = sorted(one for one in self._latencies_ms if one is not None)
        if len(known) < LEAST or self._latencies_ms[-1] is None:
            return None
        return known[int(SHARE * (len(known) - 1))]

    def tend(self) -> None:
        """Take the answer that has come, and ask once more. Waits for nothing."""
        try:
            self._go_on()
        except HelperFailed as failed:
            self._hear(Reply(trouble=str(failed)))

    def close(self) -> None:
        """End the process that asks."""
        self._helper.close()

    def _go_on(self) -> None:
        if not self._helper.is_up:
            self._greeted = False
            if not self._helper.start():
                return
        reply = self._helper.receive()
        if reply is not None and self._greeted:
            self._hear(reply)
        self._greeted = self._greeted or reply is not None
        if not self._helper.is_busy:
            self._helper.ask(Request(probe=self.asked))
        elif self._helper.due_s == 0:
            self._helper.give_up()

    def _hear(self, reply: Reply) -> None:
        self._latencies_ms.append(reply.latency_ms)
        self.trouble = reply.trouble

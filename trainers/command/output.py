"""What a program prints, cut into lines that cost neither disk nor memory."""

from __future__ import annotations

from collections.abc import Callable

LINE_MAX_BYTES = 4096
"""of one line that patterns see; what follows is kept in the output alone"""
BAR_S = 5.0
"""of a progress bar, which is written again and again over itself, a line is kept as seldom"""
LAST_MAX_CHARS = 300


class Lines:
    """Takes what a program prints piece by piece, and passes on what is worth keeping.

    A carriage return begins a line anew: what stood there before is no longer seen on a screen, and
    is not kept, but for a line each few seconds.

    Args:
        keep: takes what is kept, as bytes.
        look: takes each line that is kept, and of a bar what is not, as text of at most 4 kB.
        monotonic_s: CLOCK_MONOTONIC, in seconds.
    """

    def __init__(
        self,
        keep: Callable[[bytes], object],
        look: Callable[[str], object],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._keep = keep
        self._look = look
        self._monotonic_s = monotonic_s
        self._line = b""
        """the line that is not at its end yet, or its beginning"""
        self._over = False
        """whether the beginning of that line was passed on already, for it is long"""
        self._returned = False
        """whether a carriage return was its last byte: with a newline behind it is none"""
        self._bar_at_s = float("-inf")
        self.last = ""
        """the last line that was not empty"""

    def feed(self, piece: bytes) -> None:
        """Take what was printed next."""
        *whole, rest = piece.split(b"\n")
        for part in whole:
            self._add(part)
            self._end()
        self._add(rest)

    def close(self) -> None:
        """Take it that nothing comes any more."""
        if self._line or self._over:
            self._end()

    def _add(self, part: bytes) -> None:
        if not part:
            return
        if self._returned:
            self._bar()
        if part.endswith(b"\r"):
            self._returned, part = True, part[:-1]
        before, found, after = part.rpartition(b"\r")
        if found:
            # All but what stood there last was overwritten while nobody looked.
            _, overwritten, seen = before.rpartition(b"\r")
            self._line = seen if overwritten and not self._over else self._line + seen
            self._line = self._line[:LINE_MAX_BYTES]
            self._bar()
        self._line += after
        if len(self._line) > LINE_MAX_BYTES or self._over:
            self._pass_on()

    def _bar(self) -> None:
        """End a line that is to be overwritten: perhaps it is kept, and the next is begun."""
        self._returned = False
        now_s = self._monotonic_s()
        if self._over or (self._line.strip() and now_s - self._bar_at_s >= BAR_S):
            self._bar_at_s = now_s
            self._end()
        else:
            self._seen(self._line)
        self._line = b""

    def _end(self) -> None:
        """End a line that is kept."""
        self._returned = False
        if not self._over:
            self._seen(self._line)
        self._keep(self._line + b"\n")
        self._line, self._over = b"", False

    def _pass_on(self) -> None:
        """Let go of the beginning of a long line."""
        if not self._over:
            self._seen(self._line)
            self._over = True
        self._keep(self._line)
        self._line = b""

    def _seen(self, line: bytes) -> None:
        text = line[:LINE_MAX_BYTES].decode(errors="replace")
        if text.strip():
            self.last = text.strip()[:LAST_MAX_CHARS]
            self._look(text)

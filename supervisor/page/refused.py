"""What is refused, in words."""

from __future__ import annotations

SHOWN_MAX_CHARS = 80
"""of what somebody has sent"""


class Refused(Exception):
    """A request that is not answered as it was meant.

    Args:
        status: of HTTP.
        sentence: what is wrong, without a full stop.
        hint: what to do about it, in sentences.
        retry_after_s: after which it may be granted; None: nobody knows.
        allowed: methods that are, where this one is not.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        hint: str,
        *,
        retry_after_s: int | None = None,
        allowed: tuple[str, ...] = (),
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.hint = status, sentence, hint
        self.retry_after_s, self.allowed = retry_after_s, allowed


class Missing(Refused):
    """Nothing of that name is there."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(404, f"There is no {what} {name[:SHOWN_MAX_CHARS]!r}", "")

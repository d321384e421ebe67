"""Words that were others in the version before: one table, by which older state and logs are read.

A word that is renamed gets its row here, and nothing else has to know what it was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMES: dict[str, dict[str, str]] = {
    "event": {
        "hold.changed": "goal.changed",
        "run.held": "run.quarantined",
        "wish.granted": "request.granted",
        "wish.refused": "request.refused",
        "wish.unreadable": "request.unreadable",
    },
    "rule": {"held": "quarantine", "wish": "request"},
    "status": {"held": "quarantined"},
    "field": {
        "memory_held_s": "memory_awaited_s",
        "wanted": "demanded",
        "wish": "request",
        "wishes_done": "requests_done",
    },
}
"""what is renamed -> old word -> the word of today"""


def today(kind: str, word: Any) -> Any:
    """The word of today for a word of that kind; what is no word stays as it is."""
    return RENAMES[kind].get(word, word) if isinstance(word, str) else word


def in_words_of_today(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the state, or a line of the log, with its own fields renamed.

    Of a line that is what it tells, of a run its status; what lies in it is renamed likewise.
    """
    return {today("field", field): _value(field, value) for field, value in row.items()}


def _value(field: str, value: Any) -> Any:
    if field in ("event", "rule", "status"):
        return today(field, value)
    if field in ("attempt", "decision", "evidence", "facts", "run") and isinstance(value, dict):
        return in_words_of_today(value)
    if field in ("runs", "left", "answers", "outbox") and isinstance(value, list | tuple):
        return [in_words_of_today(one) if isinstance(one, dict) else one for one in value]
    return value

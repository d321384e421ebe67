"""Deciding a whole log again: the same facts must give the same decisions.

The ledger is rebuilt beside it, entry by entry, and must be the one that each decision was
made with, to the last bit. Where the log itself says that something was lost (a damaged or
unsaved state, lines that are missing), the ledger is taken over from the next decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from state.migrations import pauses_with_owners
from state.records import LEDGER_VERSION, LOG_VERSION, Booking, Goal, Ledger
from supervisor.core import ledger as learnt
from supervisor.core import policy
from supervisor.core.events import Event
from supervisor.core.facts import Decision, Facts, StabilityLimits

Line = Mapping[str, Any]

LOSES = (Event.STATE_DAMAGED, Event.STATE_LAGGED, Event.STATE_UNSAVED)
"""events from which on the state may be older than the log"""
BEGINS = Event.LEDGER_BEGUN
"""the event with which a ledger of another version was given up for a fresh one"""


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision as it stands in a log."""

    seq: int
    time: str
    boot: str
    event: str
    rule: str
    reason: str
    facts: Facts
    goal: Goal
    """what was decided"""
    whole: bool
    """the line holds all that this version writes; one of an older version holds less"""

    @property
    def other_rules(self) -> bool:
        """It was made by `ledger` with a ledger that this program can neither keep nor judge."""
        facts = self.facts
        return facts.limits.name == "ledger" and facts.ledger.version != LEDGER_VERSION


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A place at which the log and this program disagree."""

    seq: int
    """the number of the line"""
    field: str
    logged: Any
    now: Any


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of deciding a log again."""

    lines: int = 0
    decisions: int = 0
    older: int = 0
    """decisions of an older version, compared on goal and rule alone"""
    others: int = 0
    """decisions by the rules of another version of the ledger, older or newer: left alone"""
    entries: int = 0
    """of the ledger, booked again"""
    ledgers: int = 0
    """decisions whose ledger was compared with the one that was rebuilt"""
    gaps: int = 0
    """places at which the log has lost something, and the ledger was taken over"""
    unreadable: int = 0
    """lines with facts that are none"""
    differences: int = 0
    first: Difference | None = None
    ledger: Ledger = Ledger()
    """as it stands after the last line"""


def replay(lines: Iterable[Line]) -> Replayed:
    """Decide every decision of a log again, and rebuild the ledger from its entries."""
    return _Replay().over(lines)


def decisions(lines: Iterable[Line]) -> Iterable[LoggedDecision]:
    """The decisions of a log, oldest first; what cannot be read is left out."""
    for line in lines:
        found = logged_decision(line)
        if found is not None:
            yield found


def logged_decision(line: Line) -> LoggedDecision | None:
    """The decision in a line; None where there is none, or none that can be read."""
    line = upgraded(line)
    facts, decision = line.get("facts"), line.get("decision")
    if not isinstance(facts, dict):
        return None
    if not isinstance(decision, dict):
        decision = {}
    limits = facts.get("limits")
    if isinstance(limits, dict) and "name" not in limits:  # there was but one policy
        facts = {**facts, "limits": {**limits, "name": "fixed"}}
    try:
        known = msgspec.convert(facts, Facts)
        return LoggedDecision(
            seq=msgspec.convert(line.get("seq", 0), int),
            time=str(line.get("time", "")),
            boot=str(line.get("boot", "")),
            event=str(line.get("event", "?")),
            rule=str(line.get("rule", "?")),
            reason=str(line.get("reason", "")),
            facts=known,
            goal=msgspec.convert(decision.get("goal", facts.get("goal")), Goal),
            whole=decision.keys() >= set(Decision.__struct_fields__)
            and facts.keys() >= set(Facts.__struct_fields__),
        )
    except msgspec.ValidationError:
        return None


def decided_otherwise(
    lines: Iterable[Line], amended: Callable[[StabilityLimits], StabilityLimits]
) -> tuple[int, LoggedDecision | None, Decision | None]:
    """How many logged decisions would have been others under other limits, and the first.

    Each is asked with the facts as they were logged: what would have come of another
    decision is not followed.
    """
    others, first, instead = 0, None, None
    for logged in decisions(lines):
        if logged.other_rules:
            continue
        facts = msgspec.structs.replace(logged.facts, limits=amended(logged.facts.limits))
        decision = _decide(facts)
        if isinstance(decision, str) or decision.goal == logged.goal:
            continue
        others += 1
        if first is None:
            first, instead = logged, decision
    return others, first, instead


def upgraded(line: Line) -> Line:
    """A line as this version would have written it."""
    version = line.get("version", 1)
    if not isinstance(version, int) or version >= LOG_VERSION:
        return line
    changes = {}
    for part in ("facts", "decision"):
        value = line.get(part)
        goal = value.get("goal") if isinstance(value, dict) else None
        if isinstance(value, dict) and isinstance(goal, dict):
            changes[part] = {**value, "goal": pauses_with_owners(goal)}
    return {**line, **changes}


class _Replay:
    """A log, as far as it has been decided again."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(
            ("lines", "decisions", "older", "others", "entries", "ledgers", "gaps", "unreadable"), 0
        )
        self._ledger: Ledger | None = None
        """None: unknown until the next decision tells it"""
        self._last = 0
        self._differences = 0
        self._first: Difference | None = None

    def over(self, lines: Iterable[Line]) -> Replayed:
        """Go through all lines."""
        for line in lines:
            line = upgraded(line)  # noqa: PLW2901 - the rest knows no other
            seq = line.get("seq")
            if not isinstance(seq, int) or 0 < seq <= self._last:
                continue  # no line of ours, or one that a rotation shows twice
            self._counts["lines"] += 1
            if seq == 1:
                self._ledger = Ledger()
            elif self._ledger is not None and seq > self._last + 1:
                self._lose()
            self._last = seq
            if line.get("event") in LOSES:
                self._lose()
            elif line.get("event") == BEGINS:
                self._ledger = Ledger()
            self._book(line)
            self._decide_again(seq, line)
            if _is_reset(line):
                self._ledger = Ledger()
        return Replayed(
            **self._counts,
            differences=self._differences,
            first=self._first,
            ledger=self._ledger or Ledger(),
        )

    def _lose(self) -> None:
        if self._ledger is not None:
            self._counts["gaps"] += 1
        self._ledger = None

    def _book(self, line: Line) -> None:
        if not (entries := line.get("bookings")):
            return
        try:
            bookings = msgspec.convert(entries, tuple[Booking, ...])
        except msgspec.ValidationError:
            self._counts["unreadable"] += 1
            self._lose()
            return
        for booking in bookings:
            self._counts["entries"] += 1
            if self._ledger is not None:
                self._ledger = _booked(self._ledger, booking)

    def _decide_again(self, seq: int, line: Line) -> None:
        if "facts" not in line:
            return
        logged = logged_decision(line)
        if logged is None:
            self._counts["unreadable"] += 1
            self._lose()
            return
        if logged.other_rules:
            self._counts["others"] += 1
            self._ledger = None
            return
        self._counts["decisions"] += 1
        facts = logged.facts
        whole = logged.whole and facts.ledger.version == LEDGER_VERSION
        decision = _decide(facts)
        if isinstance(decision, str):
            self._differ(seq, "decision", logged.rule, decision)
        elif whole:
            then, now = _plain(line["decision"]), _plain(decision)
            if line.get("version", 1) < LOG_VERSION:  # its evidence may be in other values
                then, now = ({**one, "evidence": None} for one in (then, now))
            self._compare(seq, "decision", then, now)
        else:
            self._counts["older"] += 1
            self._compare(seq, "rule", logged.rule, decision.rule)
            self._compare(seq, "goal", _plain(logged.goal), _plain(decision.goal))
        if whole:
            self._compare_ledger(seq, facts)
            self._take_over(line["decision"]["ledger"])
        else:  # an older version kept another ledger, or none
            self._ledger = None

    def _compare_ledger(self, seq: int, facts: Facts) -> None:
        """What the decision was made with must be what the entries come to."""
        if self._ledger is None or facts.booking is None:
            return
        self._counts["ledgers"] += 1
        rebuilt = _booked(self._ledger, facts.booking)
        self._compare(seq, "ledger", _plain(facts.ledger), _plain(rebuilt))

    def _take_over(self, taught: Any) -> None:
        """Go on with what was decided, so that one difference is not told of every later line."""
        if taught is None:
            return
        try:
            self._ledger = msgspec.convert(taught, Ledger)
        except msgspec.ValidationError:  # the comparison has told it
            self._ledger = None

    def _compare(self, seq: int, field: str, logged: Any, now: Any) -> None:
        found = _first_difference(field, logged, now)
        if found is not None:
            self._differ(seq, *found)

    def _differ(self, seq: int, field: str, logged: Any, now: Any) -> None:
        self._differences += 1
        if self._first is None:
            self._first = Difference(seq=seq, field=field, logged=logged, now=now)


def _decide(facts: Facts) -> Decision | str:
    """What these facts give now; or why nothing can be decided with them."""
    try:
        return policy.decide(facts)
    except (ArithmeticError, LookupError, ValueError) as error:  # facts that no daemon has written
        return f"cannot be decided: {error}"


def _booked(ledger: Ledger, booking: Booking) -> Ledger | None:
    """The ledger with one more entry; None if the entry is none that a daemon has written."""
    try:
        return learnt.booked(ledger, booking)
    except (ArithmeticError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """A value as it comes back from a log."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _is_reset(line: Line) -> bool:
    evidence = line.get("evidence")
    asked = evidence.get("kind") if isinstance(evidence, dict) else None
    return asked == "reset" and line.get("event") != Event.REQUEST_REFUSED


def _first_difference(field: str, logged: Any, now: Any) -> tuple[str, Any, Any] | None:
    """The first part of two values that differs, by its path; None where they are equal."""
    if isinstance(logged, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*logged, *now)):
            found = _first_difference(f"{field}.{key}", logged.get(key), now.get(key))
            if found is not None:
                return found
        return None
    return None if logged == now else (field, logged, now)

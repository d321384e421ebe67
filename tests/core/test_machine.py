"""The two tables: what they allow, what they refuse, and the picture of them."""

import itertools

import pytest

from state.records import RunStatus
from supervisor.core.machine import LIFE, RUN_LIFE, IllegalMove, StateMachine, ladder_moves
from testkit.builders import RUNGS

STATUSES = RunStatus.__args__
EVENTS = sorted({move.event for move in LIFE})


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATUSES, EVENTS)))
def test_the_life_of_a_run_is_its_table(state, event):
    """Every row of the table is a move, and everything else is refused by name."""
    rows = {(move.source, move.event): move.target for move in LIFE}
    if (state, event) in rows:
        assert RUN_LIFE.after(state, event) == rows[state, event]
    else:
        with pytest.raises(IllegalMove, match=f"'{event}' is not possible in state '{state}'"):
            RUN_LIFE.after(state, event)


def test_no_event_leads_to_two_states():
    """A table in which a state and an event had two targets would decide by luck."""
    pairs = [(move.source, move.event) for move in LIFE]
    assert len(pairs) == len(set(pairs))


def test_the_states_of_the_table_are_those_that_are_saved():
    """A run in a saved status is a run that the table knows, and the other way round."""
    assert set(RUN_LIFE.states) == set(STATUSES)


def reachable(start):
    """The states that a run in `start` can come to."""
    found = {start}
    while fresh := {move.target for move in LIFE if move.source in found} - found:
        found |= fresh
    return found


@pytest.mark.parametrize("state", STATUSES)
def test_every_status_is_reached_and_none_is_a_dead_end(state):
    """A run can come to each status, and from each it can be queued again."""
    assert state in reachable("queued")
    assert "queued" in reachable(state)


@pytest.mark.parametrize("state", ["", "Queued", "paused", "unheard-of"])
def test_an_unknown_state_is_refused(state):
    """The library would take an unknown state for a dead end in silence; here it is an error."""
    with pytest.raises(IllegalMove):
        RUN_LIFE.after(state, "start")


@pytest.mark.parametrize("event", ["", "to_done", "trigger", "state", "is_done"])
def test_no_event_comes_from_the_library(event):
    """Neither an automatic transition nor an attribute of the model is an event."""
    with pytest.raises(IllegalMove):
        RUN_LIFE.after("queued", event)


def test_a_machine_keeps_no_state():
    """Asking the same question twice gives the same answer, whatever was asked between."""
    first = RUN_LIFE.after("queued", "start")
    RUN_LIFE.after("running", "finish")
    assert RUN_LIFE.after("queued", "start") == first == "running"


@pytest.mark.parametrize("rungs", [1, 2, 3, 5])
def test_a_ladder_moves_by_one_rung_and_pins_to_any(rungs):
    """Each rung but the last can climb, each but the first can fall back, and all can be pinned."""
    names = RUNGS[:rungs]
    ladder = StateMachine(ladder_moves(names), names)
    for rung, name in enumerate(names):
        for event, target in (("climb", rung + 1), ("fall_back", rung - 1)):
            if 0 <= target < rungs:
                assert ladder.after(name, event) == names[target]
            else:
                with pytest.raises(IllegalMove):
                    ladder.after(name, event)
        for other in names:
            assert ladder.after(name, f"pin_{other}") == other


def test_the_diagram_shows_every_row_once():
    """The picture in the documentation is the table: the same arrows with the same words."""
    picture = RUN_LIFE.mermaid().splitlines()
    assert picture[:2] == ["stateDiagram-v2", "    [*] --> queued"]
    shown = set()
    for line in picture[2:]:
        arrow, _, events = line.strip().partition(": ")
        source, target = arrow.split(" --> ")
        shown |= {(event, source, target) for event in events.split(", ")}
    assert shown == set(LIFE)
    assert len(picture) == 2 + len({move[1:] for move in LIFE})


def test_the_diagram_of_a_ladder_leaves_out_pins_that_move_nothing():
    """An arrow from a mode to itself says nothing."""
    names = RUNGS[:2]
    assert StateMachine(ladder_moves(names), names).mermaid().splitlines()[2:] == [
        "    light --> medium: climb, pin_medium",
        "    medium --> light: fall_back, pin_light",
    ]

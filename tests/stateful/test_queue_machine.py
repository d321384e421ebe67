"""The queue through any edits of the campaign and any lives of its runs."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from supervisor.core import queue
from supervisor.core.machine import LIFE, RUN_LIFE
from supervisor.core.slots import assign
from testkit.builders import a_mode, a_run, a_time, steps

IDS = tuple(f"drill-{letter}" for letter in "abcde")
LIVELY = ("running", "stopping", "blocked")
HOPELESS = ("done", "failed", "cancelled", "quarantined", "blocked")

campaigns = st.lists(st.sampled_from(IDS), unique=True, min_size=1)


class QueueMachine(RuleBasedStateMachine):
    """A queue, and the campaign that it was last enrolled for."""

    def __init__(self):
        super().__init__()
        self.campaign = ()
        self.runs = ()

    @rule(ids=campaigns, target_steps=st.sampled_from([1000, 2000]))
    def edit_campaign(self, ids, target_steps):
        """A person changes the campaign; whatever lives is still known afterwards."""
        before = {run.id: run for run in self.runs}
        self.campaign = tuple(a_run(run_id, target=steps(target_steps)) for run_id in ids)
        self._enrol()
        after = {run.id: run for run in self.runs}
        for run_id, run in before.items():
            if run.status in LIVELY:
                assert after[run_id].status == run.status
            if run_id in ids:
                assert after[run_id].progress.step == run.progress.step

    @rule(place=st.integers(0, 4), move=st.sampled_from(LIFE), step=st.integers(0, 50))
    def live(self, place, move, step):
        """Something happens to a run that its life allows."""
        if place < len(self.runs) and self.runs[place].status == move.source:
            run = self.runs[place]
            status = RUN_LIFE.after(run.status, move.event)
            lived = run.but(status=status, step=run.progress.step + step)
            self.runs = (*self.runs[:place], lived, *self.runs[place + 1 :])

    @rule()
    def look(self):
        """Every look enrols the same campaign again; the second time nothing changes."""
        self._enrol()
        assert queue.enrol(self.runs, self.campaign, {}) == self.runs

    def _enrol(self):
        self.runs = queue.enrol(self.runs, self.campaign, {})
        ids = [run.id for run in self.runs]
        assert ids[: len(self.campaign)] == [run.id for run in self.campaign]
        for run in self.runs[len(self.campaign) :]:
            assert run.withdrawn
            assert run.status in LIVELY
        for run, wanted in zip(self.runs, self.campaign, strict=False):
            assert not run.withdrawn
            assert run.asked == wanted.asked

    @invariant()
    def no_run_stands_there_twice(self):
        """Each run has one place."""
        ids = [run.id for run in self.runs]
        assert len(ids) == len(set(ids))

    @invariant()
    def slots_go_to_those_who_can_use_them(self):
        """As many as there are slots, none without a claim, and nobody is passed over."""
        able = [run for run in self.runs if run.status not in HOPELESS and not run.withdrawn]
        for slots in (1, 3, 9):
            mode = a_mode(slots=slots, prefer=("d", "b"))
            chosen = assign(self.runs, mode, a_time())
            assert len(chosen) == len(set(chosen)) == min(slots, len(able))
            ranks = {"drill-d": 0, "drill-b": 1}
            places = {run.id: (ranks.get(run.id, 2), place) for place, run in enumerate(able)}
            assert list(chosen) == sorted(places, key=places.get)[:slots]


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=100, stateful_step_count=40)

"""Who trains on which GPU: alone, beside others, or on none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import cards, slots
from supervisor.core.readings import GpuReadings
from supervisor.core.slots import Sharing
from testkit.builders import a_mode, a_run, a_time
from testkit.fakes import AT_REST, FakeRunner, FakeSensors
from testkit.place import Place, a_daemon, a_job

ONE, TWO, THREE = "GPU-1111aaaa", "GPU-2222bbbb", "GPU-3333cccc"


def a_machine(*uuids):
    """What is read of a machine with these GPUs."""
    gpus = tuple(GpuReadings(index=at, uuid=uuid, pids=()) for at, uuid in enumerate(uuids))
    return msgspec.structs.replace(AT_REST, gpus=gpus)


class Box(Place):
    """A home on a machine with GPUs, in a ladder of two modes."""

    def __init__(self, folder, uuids=(ONE, TWO), settings="", mode="", **modes):
        self.sensors = FakeSensors(a_machine(*uuids))
        there = folder / "modes"
        there.mkdir(parents=True)
        for rung, name in enumerate(("light", "medium")):
            text = f"rung = {rung}\nslots = {rung + 2}\n{modes.get(name, mode)}\n"
            (there / f"{name}.toml").write_text(text)
        campaign = '[campaign]\ntrainer = "drill"\nruns = ["A", "B", "C"]\n'
        super().__init__(folder, f'modes_dir = "modes"\n{settings}\n{campaign}')

    def begin(self):
        runner = FakeRunner(self.host)
        self.daemon = a_daemon(self.home, self.clock, runner, sensors=self.sensors)
        self.daemon.start()
        self.look(0.0)

    def hands(self):
        """Name -> the GPUs of each living trainer, as its spec has them."""
        return {process.spec.name: process.spec.gpus for process in self.host.mains()}

    def waits(self, name):
        memory, config = self.daemon.memory, self.daemon._config
        sharing = slots.on_machine(config.settings.sharing, memory)
        mode = config.ladder[memory.goal.mode]
        told = slots.waiting(memory.runs, memory.goal, mode, memory.timeline, sharing)
        return told[self.run(name).id]


def test_runs_share_all_gpus_unless_a_mode_says_otherwise(tmp_path):
    """Each is told all of them, by the names that no boot changes."""
    box = Box(tmp_path)
    box.settle()
    assert box.hands() == {"A": (ONE, TWO), "B": (ONE, TWO)}


def test_a_mode_can_give_each_run_a_gpu_of_its_own(tmp_path):
    """No two see the same one, and who finds none left says so."""
    box = Box(tmp_path, mode="gpus = 1")
    box.put("pin", mode="medium")
    box.settle()
    assert box.hands() == {"A": (ONE,), "B": (TWO,)}
    assert "needs 1 GPU for itself; this home has 2" in box.waits("C")
    assert box.daemon.memory.full  # more cannot train, whatever the slots


def test_a_mode_can_keep_its_runs_from_every_gpu(tmp_path):
    """A rung for a machine that falls over under its cards alone."""
    box = Box(tmp_path, light="gpus = 0")
    box.settle()
    assert box.hands() == {"A": (), "B": ()}
    box.put("pin", mode="medium")
    box.settle(20)
    assert box.hands() == dict.fromkeys("ABC", (ONE, TWO))


def test_nothing_is_assumed_of_gpus_that_nobody_has_seen(tmp_path):
    """Who shares starts with what its environment names; who needs one of its own waits for it."""
    box = Box(tmp_path, uuids=(), mode="gpus = 1")
    box.settle()
    assert box.hands() == {}
    assert "which there are is not known" in box.waits("A")
    box.sensors.readings = a_machine(ONE)
    box.settle()
    assert box.hands() == {"A": (ONE,)}
    assert Box(tmp_path / "other", uuids=()).hands() == {"A": None, "B": None}


def test_a_gpu_that_cannot_be_named_for_a_while_stops_no_training(tmp_path):
    """Its trainer keeps it, and is not started again when it is back."""
    box = Box(tmp_path, mode="gpus = 1")
    box.settle()
    before = box.host.mains()
    for seen in ((ONE,), (), (TWO,), (ONE, TWO)):
        box.sensors.readings = a_machine(*seen)
        box.settle(3)
        assert box.host.mains() == before
        assert box.daemon.memory.gpus is not None


def test_a_supervisor_that_is_started_again_leaves_each_trainer_its_gpu(tmp_path):
    """Though nobody has told it yet which GPUs there are; whoever comes to life later waits."""
    box = Box(tmp_path, mode="gpus = 1")
    box.settle()
    before = box.host.mains()
    box.sensors.readings = a_machine()
    box.begin()
    box.settle()
    assert box.host.mains() == before
    assert box.daemon.memory.gpus == (ONE, TWO)


def test_after_a_boot_nothing_is_taken_for_granted(tmp_path):
    """On a rented box another card may be in the place of the old one."""
    box = Box(tmp_path, mode="gpus = 1")
    box.settle()
    box.sensors.readings = a_machine()
    box.host.power_off()
    box.clock.reboot()
    box.begin()
    box.settle()
    assert box.hands() == {}
    box.sensors.readings = a_machine(THREE)
    box.settle()
    assert box.hands() == {"A": (THREE,)}


def test_a_job_that_asks_for_gpus_takes_them_from_a_lower_class(tmp_path):
    """Who shared them is saved and moves to what is left; where nothing is, it waits."""
    box = Box(tmp_path)
    box.settle()
    box.put("submit", asked=a_job("J", gpus=1, rank="high"))
    box.settle(20)
    hands = box.hands()
    assert hands == {"J": hands["J"], "A": tuple({ONE, TWO} - {*hands["J"]})}
    box.put("submit", asked=a_job("K", gpus=1, rank="high"))
    box.settle(20)
    assert sorted(box.hands().values()) == [(ONE,), (TWO,)]
    assert sorted(box.hands()) == ["J", "K"]
    assert box.waits("A") == "the slots are with J, K, of which 2 rank above low"


def test_nobody_starts_on_a_gpu_that_another_is_about_to_leave(tmp_path):
    """Until the last of it is gone, the two might want more memory than there is."""
    box = Box(tmp_path, uuids=(ONE, TWO, THREE), mode="gpus = 1")
    box.put("pin", mode="medium")
    box.settle(20)
    assert box.hands() == {"A": (ONE,), "B": (TWO,), "C": (THREE,)}
    for name, rank in (("J", "high"), ("K", "high")):
        box.put("submit", asked=a_job(name, rank=rank))
    for _ in range(60):
        box.look(0.5)
        used = [card for hand in box.hands().values() for card in hand]
        assert len(used) == len(set(used))
    assert {"J", "K"} <= box.hands().keys()


def test_what_asks_for_more_gpus_than_there_are_is_in_nobodys_way(tmp_path):
    """It waits at the head of the queue, and those behind it train."""
    box = Box(tmp_path)
    for at in range(5):
        box.put("submit", asked=a_job(f"huge{at}", gpus=8, rank="critical"))
    box.put("submit", asked=a_job("J", rank="high"))
    box.settle(20)
    assert sorted(box.hands()) == ["A", "J"]
    assert "needs 8 GPUs for itself; this home has 2" in box.waits("huge0")


def test_the_settings_give_a_home_its_own_gpus(tmp_path):
    """Two homes on one machine need not meet; other settings move what lives."""
    box = Box(tmp_path, settings=f'gpus = ["{TWO}"]')
    box.settle()
    assert box.hands() == {"A": (TWO,), "B": (TWO,)}
    text = box.home.settings.read_text()
    box.home.settings.write_text(text.replace(TWO, ONE))
    box.settle(20)
    assert box.hands() == {"A": (ONE,), "B": (ONE,)}
    assert box.lines("run.died") == []


def test_gpus_of_the_settings_may_be_none(tmp_path):
    """Then nothing here sees any."""
    box = Box(tmp_path, settings="gpus = []")
    box.settle()
    assert box.hands() == {"A": (), "B": ()}


RUNS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["queued", "running", "stopping"]),
        st.none() | st.lists(st.sampled_from("abcd"), unique=True, max_size=3).map(tuple),
    ),
    max_size=6,
)


@given(
    RUNS,
    st.integers(1, 5),
    st.none() | st.integers(0, 3),
    st.none() | st.lists(st.sampled_from("abcd"), unique=True).map(tuple),
    st.booleans(),
)
def test_a_gpu_of_ones_own_is_nobody_elses(drawn, n_slots, per_run, known, named):
    """Whatever lives on whatever: what is dealt never meets, and is as much as was needed."""
    mode = a_mode(slots=n_slots, gpus=per_run)
    runs = tuple(
        a_run(f"drill-{at}", status=status, mode=mode.name, gpus=has).but(
            asked=a_job(f"drill-{at}", gpus=asked, rank="low")
        )
        for at, (asked, status, has) in enumerate(drawn)
    )
    there = cards.known(known if named else None, None, AT_REST, runs, known, "boot-1")
    chosen = slots.assign(runs, mode, a_time(), Sharing(gpus=there, gpus_named=named))
    assert len(chosen) <= n_slots
    by_id = {run.id: run for run in runs}
    hands = cards.dealt([by_id[one] for one in chosen], mode, there, named=named)
    assert set(hands) == set(chosen)
    for run_id, hand in hands.items():
        need = cards.needed(by_id[run_id], mode)
        assert hand.own == bool(need)
        if need is not None:
            assert len(hand.cards) == need
        if hand.own:
            others = [hands[other].cards for other in hands if other != run_id]
            assert all(other is not None and set(hand.cards).isdisjoint(other) for other in others)


@pytest.mark.parametrize(
    ("variable", "cards_seen"),
    [
        (None, None),
        ("", ()),
        ("0,1", ("0", "1")),
        (" 1 , 0 ", ("1", "0")),
        ("0,0", ("0",)),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("0,,1", ("0",)),
        ("GPU-8f2c,MIG-1/2/3", ("GPU-8f2c", "MIG-1/2/3")),
        ("NoDevFiles", ()),
    ],
)
def test_a_variable_of_the_environment_is_read_as_cuda_reads_it(variable, cards_seen):
    """Up to the first word that names no GPU, each once."""
    assert cards.inherited(variable) == cards_seen


def test_a_mode_in_which_nothing_could_train_is_not_tried(tmp_path):
    """The climb is vetoed with its reason, once; and the runs train on where they are."""
    box = Box(tmp_path, uuids=(ONE,), settings="[policy]\nstable_min = 1", medium="gpus = 2")
    box.settle(60)
    assert box.daemon.memory.goal.mode == "light"
    assert len(box.hands()) == 2
    (line,) = box.lines("climb.vetoed")
    assert line["evidence"] == {"pressure": "no_gpus", "gpu": None}


def test_a_mode_in_which_nothing_can_train_any_more_is_left(tmp_path):
    """Its cards are gone after a reboot: training goes on in the mode below, not never."""
    box = Box(tmp_path, medium="gpus = 2")
    box.put("scale_up")
    box.settle()
    assert box.hands() == {"A": (ONE, TWO)}
    box.sensors.readings = a_machine(ONE)
    box.host.power_off()
    box.clock.reboot()
    box.begin()
    box.settle()
    assert box.daemon.memory.goal.mode == "light"
    assert box.hands() == {"A": (ONE,), "B": (ONE,)}
    (line,) = [one for one in box.lines("mode.changed") if one["rule"] == "no_gpus"]
    assert "medium gives each run 2 GPUs for itself, and this home has 1" in line["reason"]


def test_a_card_that_fell_off_is_nobodys_once_its_trainer_is_dead(tmp_path):
    """Those that wait must not die on it one after the other."""
    box = Box(tmp_path, mode="gpus = 1")
    box.settle()
    assert box.hands() == {"A": (ONE,), "B": (TWO,)}
    box.sensors.readings = a_machine(TWO)
    (victim,) = [one for one in box.host.mains() if one.spec.name == "A"]
    victim.killed_s = box.host.now_s
    box.settle(20)
    assert box.hands() == {"B": (TWO,)}


def test_a_card_is_one_card_by_whatever_name(tmp_path):
    """The settings tell how its UUID begins, and then no more: nobody else gets it meanwhile."""
    box = Box(tmp_path, settings='gpus = ["GPU-1111"]', mode="gpus = 1")
    box.settle()
    assert box.hands() == {"A": (ONE,)}
    text = box.home.settings.read_text()
    box.home.settings.write_text(text.replace('gpus = ["GPU-1111"]', ""))
    box.settle(20)
    assert box.hands() == {"A": (ONE,), "B": (TWO,)}
    assert box.lines("run.stopped") == []


def test_a_trainer_that_the_memory_does_not_know_tells_which_gpu_it_has(tmp_path):
    """After `reset`, and after a lost state: nobody is stopped, and nobody else gets its card."""
    box = Box(tmp_path, mode="gpus = 1")
    box.settle()
    before = box.host.mains()
    box.put("reset")
    box.settle(10)
    assert box.host.mains() == before
    (box.home.path / "state.json").unlink()
    (box.home.path / "state.last.json").unlink(missing_ok=True)
    box.begin()
    box.settle(10)
    assert box.host.mains() == before
    assert box.hands() == {"A": (ONE,), "B": (TWO,)}


@pytest.mark.parametrize(
    ("named", "inherited", "seen", "before", "known"),
    [
        ((ONE,), (TWO,), (THREE,), None, (ONE,)),
        (None, ("0", "1"), (ONE, TWO), None, ("0", "1")),
        (None, None, (ONE, TWO), (THREE,), (ONE, TWO)),
        (None, None, (), (ONE,), (ONE,)),
        (None, None, (), None, None),
        ((), None, (ONE,), None, ()),
    ],
)
def test_settings_go_before_the_environment_and_that_before_what_is_seen(
    named, inherited, seen, before, known
):
    """What is known for a moment by nobody stays as it was."""
    assert cards.known(named, inherited, a_machine(*seen), (), before, "boot-1") == known

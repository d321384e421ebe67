"""Failures of real machines become worlds, and what is no trace is refused with a sentence."""

import json

import pytest

from supervisor.simulation import traces
from supervisor.simulation.life import live
from supervisor.simulation.rivals import Only
from supervisor.simulation.traces import TooCalm, Trace, UnknownTrace
from supervisor.simulation.worlds import Strike

SPOT = """0,add,node1
0,add,node2
3600000,remove,node1
5400000,remove,node2
5400000,add,node3
12600000,remove,node3
"""
FAULTS = [
    {"node_id": "a", "event_time": 1.0, "event_type": "fault_start", "fault_type": {}},
    {"node_id": "b", "event_time": 2.0, "event_type": "fault_start", "fault_type": {}},
    {"node_id": "a", "event_time": 1.5, "event_type": "fault_end", "fault_type": {}},
    {"node_id": "a", "event_time": 4.0, "event_type": "fault_start", "fault_type": {}},
]


def written(tmp_path, text, name="trace"):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def test_spot_instances_live_from_add_to_remove(tmp_path):
    """Each instance is a machine that begins when it is added and goes for good."""
    one, two, three = traces.read(written(tmp_path, SPOT))
    assert one == Trace("node1", 1.0, (Strike(1.0, 0.0),))
    assert two.hours == 1.5
    assert three == Trace("node3", 2.0, (Strike(2.0, 0.0),))


def test_a_cluster_has_its_nodes_faults_in_hours(tmp_path):
    """Days become hours; a fault lasts until its end, or for an unknown time."""
    a, b = traces.read(written(tmp_path, FAULTS))
    assert a.strikes == (Strike(24.0, 12.0), Strike(96.0, 0.0))
    assert b.strikes == (Strike(48.0, 0.0),)
    assert a.hours == b.hours == 96.0


@pytest.mark.parametrize(
    "text",
    [
        "down_h,up_h\n1,1.5\n3,\n",
        "node,down_min,up_min\nbox,60,90\nbox,180,\n",
        '[{"down_s": 3600, "up_s": 5400}, {"down_s": 10800}]',
        "down_ms,up_ms\n3600000,5400000\n10800000,\n",
    ],
)
def test_availability_is_read_in_any_unit(tmp_path, text):
    """A machine that was away for half an hour after one, and went down after three."""
    (trace,) = traces.read(written(tmp_path, text))
    assert [tuple(strike) for strike in trace.strikes] == [
        (pytest.approx(1.0), pytest.approx(0.5)),
        (pytest.approx(3.0), 0.0),
    ]


@pytest.mark.parametrize("text", ["[1.0, 2.5, 4]", "1.0\n2.5\n4\n", "down_h\n4\n1.0\n2.5\n"])
def test_bare_crashes_are_hours(tmp_path, text):
    """A list of moments is a machine that went down at each of them."""
    (trace,) = traces.read(written(tmp_path, text))
    assert [strike.at_h for strike in trace.strikes] == [1.0, 2.5, 4.0]


def test_dates_count_from_the_first_of_them(tmp_path):
    """Seconds since 1970 are dates; the trace begins with the first."""
    text = "down_s,up_s\n1700000000,1700003600\n1700007200,1700009000\n"
    (trace,) = traces.read(written(tmp_path, text))
    assert trace.strikes == (Strike(0.0, 1.0), Strike(pytest.approx(2.0), pytest.approx(0.5)))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("hello there", "record 1"),
        ("{}", "not a list"),
        ("[1, 2", "JSON"),
        ("[]", "ever goes down"),
        ("[true]", "record 1"),
        ("[1, -3]", "negative"),
        ('[{"when": 3}]', "record 1"),
        ("down_h\n1\nsoon\n", "record 2"),
        ("1\nnan\n", "finite"),
        ("0,add,node1\n5,explode,node1\n", "record 2"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, text, word):
    """The sentence names the file and what is wrong with it."""
    path = written(tmp_path, text)
    with pytest.raises(UnknownTrace, match=word) as caught:
        traces.read(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_or_binary_file_is_refused(tmp_path):
    """So is a file that is not there, or no text."""
    with pytest.raises(UnknownTrace, match="no such file"):
        traces.read(tmp_path / "absent.csv")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UnknownTrace, match="is no text"):
        traces.read(binary)


def test_a_fleet_goes_down_whenever_any_node_does(tmp_path):
    """Crashes of all nodes, in their order, those at one moment as one."""
    whole = traces.fleet(traces.read(written(tmp_path, FAULTS)))
    assert [strike.at_h for strike in whole.strikes] == [24.0, 48.0, 96.0]


def test_a_chain_lives_one_life_after_the_other(tmp_path):
    """The next instance begins its life a little after the last one's end."""
    whole = traces.chain(traces.read(written(tmp_path, SPOT)))
    new = traces.NEW_H
    assert whole.strikes == (
        Strike(1.0, new),
        Strike(pytest.approx(2.5 + new), new),
        Strike(pytest.approx(4.5 + 2 * new), new),
    )


def test_time_is_quickened_and_never_slowed_down():
    """Two crashes in ten days become one an hour; what is quick enough stays as it is."""
    slow = Trace("slow", 240.0, (Strike(60.0, 5.0), Strike(180.0, 0.0)))
    assert traces.quickened(slow, 24.0) == Trace("slow", 2.0, (Strike(0.5, 0.0), Strike(1.5, 0.0)))
    assert traces.quickened(slow, 0.1) is slow


def test_both_readings_of_a_trace_are_lived_through():
    """Whatever the mode, light meets every crash; in heavier modes alone, it meets none."""
    node = Trace("n", 100.0, tuple(Strike(10.0 * n, 0.0) for n in range(1, 9)))
    worlds = traces.worlds((node,))
    assert [world.family for world in worlds] == ["node, any mode", "node, heavier modes"]
    either, heavier = ([live(world, Only(mode)).crashes for mode in (0, 1)] for world in worlds)
    assert either == [8, 8]
    assert heavier == [0, 8]


def test_a_cluster_gives_a_fleet_and_a_chain_besides(tmp_path):
    """Nodes that hardly ever failed have no life of their own, but count in fleet and chain."""
    rare = [
        {"node_id": f"n{n}", "event_time": day + n / 10, "event_type": "fault_start"}
        for n in range(6)
        for day in (3, 20)
    ]
    families = {world.family for world in traces.worlds(traces.read(written(tmp_path, rare)))}
    assert "fleet 24/d, any mode" in families
    assert "chain 96/d, heavier modes" in families
    assert not any(family.startswith("node") for family in families)


def test_a_machine_that_hardly_ever_failed_is_refused():
    """Three crashes in a year leave no policy anything to decide."""
    calm = Trace("n", 8760.0, tuple(Strike(1000.0 * n, 0.0) for n in range(1, 4)))
    with pytest.raises(TooCalm, match="4 times"):
        traces.worlds((calm,))

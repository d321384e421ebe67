"""Sensors against this very machine, and against kernels that do not answer."""

import time

import psutil
import pytest

from supervisor.core.readings import GpuAnswer, GpuReadings, Readings
from supervisor.host.sensors import CPU_WINDOW_MIN_S, Sensors


class FakeGpus:
    """GPUs that say what they are told to say."""

    def __init__(self, **known):
        self.answer = GpuAnswer(**known)

    def read(self):
        return self.answer


def test_a_machine_tells_its_load(tmp_path):
    """Any Linux machine tells its load, memory and disk."""
    readings = Sensors(tmp_path, FakeGpus()).read()

    assert readings.load_1m >= 0
    assert 0 < readings.memory_percent < 100
    assert readings.memory_available_mib > 0
    assert readings.disk_free_mib > 0
    assert readings.gpus == ()
    assert readings.gpu_trouble is None


def test_the_first_reading_knows_no_cpu_share(tmp_path):
    """A CPU share needs two looks: the first is unknown, not 0."""
    sensors = Sensors(tmp_path, FakeGpus())
    assert sensors.read().cpu_percent is None
    busy_until_s = time.process_time() + 2 * CPU_WINDOW_MIN_S
    while time.process_time() < busy_until_s:
        pass
    share = sensors.read().cpu_percent
    assert 0 < share <= 100
    assert sensors.read().cpu_percent == share  # too soon for a new one


def test_the_gpus_are_passed_on(tmp_path):
    """What is known about GPUs, how old that is and what is missing stand in the same readings."""
    card = GpuReadings(index=0, power_w=300.0)
    trouble = "GPU 1: GPU is lost"
    gpus = FakeGpus(gpus=(card,), trouble=trouble, age_s=0.01234, awaited_s=1.5)
    readings = Sensors(tmp_path, gpus).read()
    assert (readings.gpus, readings.gpu_trouble) == ((card,), trouble)
    assert (readings.gpu_age_s, readings.gpu_awaited_s) == (0.012, 1.5)


@pytest.mark.parametrize("error", [OSError, ValueError, IndexError, NotImplementedError])
def test_a_kernel_that_does_not_answer_is_unknown(tmp_path, monkeypatch, error):
    """Whatever the kernel refuses to tell is None, and nothing is raised."""

    def fail(*arguments, **keywords):
        raise error

    for name in ("cpu_percent", "virtual_memory", "disk_usage", "sensors_temperatures"):
        monkeypatch.setattr(psutil, name, fail)
    monkeypatch.setattr("os.getloadavg", fail)
    sensors = Sensors(tmp_path, FakeGpus())
    assert sensors.read() == Readings()
    time.sleep(CPU_WINDOW_MIN_S)  # the kernel's window: there is no clock to advance
    assert sensors.read() == Readings()


def test_a_home_that_is_gone_has_no_known_space(tmp_path):
    """A home that is not there has unknown space, which is not 0."""
    assert Sensors(tmp_path / "gone", FakeGpus()).read().disk_free_mib is None


def test_the_hottest_processor_sensor_counts(tmp_path, monkeypatch):
    """The processor is as hot as its hottest sensor, whatever the disc says."""

    def heat(label, current):
        return psutil._ntuples.shwtemp(label, current, None, None)

    monkeypatch.setattr(
        psutil,
        "sensors_temperatures",
        lambda: {"nvme": [heat("", 80.0)], "coretemp": [heat("a", 61.0), heat("b", 67.5)]},
    )
    assert Sensors(tmp_path, FakeGpus()).read().cpu_temperature_c == 67.5

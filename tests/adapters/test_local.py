"""What the local runner writes, and what it does not."""

import os
import signal
import time

import msgspec
import pytest
from builders import a_spec

from supervisor.clock import boot_id
from supervisor.runners.local import LocalRunner
from trainers.contract import Spec

SPEC = a_spec()
PATIENCE_S = 30.0


@pytest.fixture
def runner(tmp_path):
    """A runner whose trainers do not outlive the test."""
    runner = LocalRunner(tmp_path, boot_id())
    yield runner
    runner.kill(SPEC.run)


def lived(runner, spec):
    """A trainer is started and killed, and its end is seen."""
    os.kill(runner.start(spec, nice=0).pid, signal.SIGKILL)
    deadline_s = time.monotonic() + PATIENCE_S
    while runner.look(()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_restart_does_not_wait_for_a_disk_that_holds_the_spec(runner, tmp_path):
    """The same spec is left as it is, another one replaces it, and a damaged one is mended."""
    path = tmp_path / SPEC.run / "spec.json"
    lived(runner, SPEC)
    written_ns = path.stat().st_mtime_ns
    lived(runner, SPEC)
    assert path.stat().st_mtime_ns == written_ns
    lived(runner, msgspec.structs.replace(SPEC, mode="medium"))
    assert msgspec.json.decode(path.read_bytes(), type=Spec).mode == "medium"
    path.write_bytes(b"{")
    lived(runner, SPEC)
    assert msgspec.json.decode(path.read_bytes(), type=Spec) == SPEC

"""A program is listened to as a process, at little cost and without being kept waiting."""

import os
import time

import pytest
from programs import PYTHON

from trainers.command import process
from trainers.command.process import Call, Program


@pytest.mark.parametrize("pipe_bytes", [2**12, 2**16, 2**20])
def test_a_program_that_prints_a_lot_hardly_waits_for_us(tmp_path, monkeypatch, pipe_bytes):
    """Also where the system grants no larger pipe, as it does once an account has many."""
    monkeypatch.setattr(process, "PIPE_BYTES", pipe_bytes)
    prints = "import sys\nfor _ in range(50): sys.stdout.write('x' * 19_999 + '\\r')"
    call = Call([PYTHON, "-uc", prints], tmp_path, dict(os.environ))
    program, read, began_s = Program(call, tmp_path / "progress", tmp_path), 0, time.monotonic()
    while program.code is None:
        program.wait(1.0)
        read += sum(map(len, program.printed()))
    read += sum(map(len, program.printed()))
    program.close()
    assert read == 1_000_000
    # Looked at once a second, it would be many times as long.
    assert time.monotonic() - began_s < 10

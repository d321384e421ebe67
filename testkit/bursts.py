"""Writers that are killed, or lose their disk, in the middle of a burst of writes."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

NUMBER_BYTES = 8


@contextlib.contextmanager
def a_burst(
    first: int, write: Callable[[int], None], chance: random.Random, longest_s: float
) -> Iterator[Callable[[], int]]:
    """A process that writes `first`, the number after it, and so on, as fast as it can.

    The block is entered at a random moment of at most `longest_s` after the first write; at its
    end the process is killed. Gives what may be asked at any time: the last number whose write
    has returned so far.
    """
    ear, mouth = os.pipe()
    writer = os.fork()
    if writer == 0:
        try:
            for number in range(first, first + 2**40):
                write(number)
                os.write(mouth, number.to_bytes(NUMBER_BYTES, "big"))
        finally:
            os._exit(1)  # the disk is gone
    os.close(mouth)
    heard = bytearray(os.read(ear, NUMBER_BYTES))
    os.set_blocking(ear, False)
    rest = os.fdopen(ear, "rb", buffering=0)

    def acknowledged() -> int:
        if not rest.closed:
            heard.extend(rest.readall() or b"")
        whole = len(heard) // NUMBER_BYTES * NUMBER_BYTES
        return int.from_bytes(heard[whole - NUMBER_BYTES : whole], "big")

    time.sleep(chance.uniform(0, longest_s))
    try:
        yield acknowledged
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        acknowledged()
        rest.close()

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
    end the process is killed. Gives what may be asked then: the last number whose write returned.
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
    heard = os.read(ear, NUMBER_BYTES)
    time.sleep(chance.uniform(0, longest_s))

    def acknowledged() -> int:
        with os.fdopen(ear, "rb") as rest:
            numbers = heard + rest.read()
        whole = len(numbers) // NUMBER_BYTES * NUMBER_BYTES
        return int.from_bytes(numbers[whole - NUMBER_BYTES : whole], "big")

    try:
        yield acknowledged
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)

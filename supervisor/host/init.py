"""The first process of a container, where that is the supervisor: it waits for everybody's orphans.

A process that outlives its parent belongs to process 1 from then on, which alone can take its
exit code. In a container without an init of its own, each trainer that is killed would leave
its workers as zombies, until no process can be started any more.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def stay_behind() -> int | None:
    """Go on in a child; in process 1 itself wait for it, and for all orphans.

    Returns:
        The exit code of the child, as a shell tells it; None in the child, which goes on.
    """
    child = os.fork()
    if not child:
        return None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code

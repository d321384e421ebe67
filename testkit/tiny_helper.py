"""The smallest helper: it does what it is asked, hangs and crashes included."""

import os
import signal
import sys
import time

import msgspec

from supervisor.helper import serve


class Request(msgspec.Struct, frozen=True):
    """What to do."""

    do: str


class Reply(msgspec.Struct, frozen=True):
    """That it is done, and by whom."""

    done: str
    pid: int


def do(what: str) -> Reply:
    if what == "hang":
        # Deaf to the end of its requests, as a process inside a C call is.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while True:
            signal.pause()
    elif what == "crash":
        os.abort()
    elif what == "print":
        os.write(1, b'{"done":"nothing","pid":0}\nsomething odd\n')
    elif what == "dawdle":
        time.sleep(0.2)
    return Reply(done=what, pid=os.getpid())


def main(at_first: str) -> None:
    """Be the helper, once that is done."""
    served = at_first != "nothing to ask"
    serve(Request, lambda: (do(at_first), (lambda request: do(request.do)) if served else None))


if __name__ == "__main__":
    main(sys.argv[1])

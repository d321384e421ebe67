"""What a home remembers: the memory that its supervisor has saved last, and its archive."""

from __future__ import annotations

from collections.abc import Collection

from state.jobs.records import Job
from state.records import Left, Memory
from state.store import NewerState, Store
from supervisor.host.home import Home
from supervisor.jobs.errors import ClearedAway, Elsewhere


class HomeAway(Exception):
    """The home tells nothing now; the message says why, in one line."""


class Remembered:
    """What one home remembers; any thread may ask.

    Args:
        home: its paths.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._store = Store(home.state)
        self._known: tuple[tuple[object, ...], Memory] | None = None
        """the memory, and by what is seen whether there is another one"""

    def memory(self) -> Memory:
        """What its supervisor has saved last.

        Raises:
            HomeAway: there is none that can be read.
        """
        try:
            status = self.home.state.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._known
            if known is not None and known[0] == seen:
                return known[1]
            memory, _ = self._store.peek()
        except FileNotFoundError:
            raise HomeAway("no supervisor has lived in this home yet") from None
        except (OSError, NewerState) as error:
            raise HomeAway(f"the state of the home cannot be read: {error}") from error
        if memory is None or memory.home is None:
            raise HomeAway("the home does not know yet which one it is")
        self._known = seen, memory
        return memory

    def memory_if_known(self) -> Memory | None:
        """The same; None: there is none that can be read."""
        try:
            return self.memory()
        except HomeAway:
            return None

    @property
    def id(self) -> str | None:
        """By which name it claims jobs; None: it has none yet, or does not tell it."""
        memory = self.memory_if_known()
        return None if memory is None or memory.home is None else memory.home.id

    def missing(self, job: Job, what: str) -> ClearedAway | Elsewhere:
        """Why something is not in this home that a job prints or leaves.

        Args:
            job: as it is now.
            what: it is, such as `files`.
        """
        home = None if job.claim is None else job.claim.home
        is_here = home is not None and home == self.id
        has_begun = job.became.started_at is not None
        if job.ended and has_begun and (is_here or not job.became.kept_bytes):
            return ClearedAway(job.job_id)
        if home is None:
            where = "no home has the job" if job.ended else "no home has the job yet"
        elif not is_here:
            where = f"the home {home} has it"
        elif not has_begun:
            where = "the job has not begun; `supervisor jobs why` tells what it waits for"
        else:
            where = "somebody has removed it"
        return Elsewhere(what, job.job_id, where, home)

    def left(self, memory: Memory, ids: Collection[str]) -> dict[str, Left]:
        """How runs were when they left the queue, by id.

        Raises:
            HomeAway: the archive cannot be read.
        """
        known = {one.run.id: one for one in memory.left if one.run.id in ids}
        others = frozenset(ids) - known.keys()
        if not others:
            return known
        try:
            return {**self._store.archive.find(others), **known}
        except OSError as error:
            raise HomeAway(f"the archive of the home cannot be read: {error}") from error

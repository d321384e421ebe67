"""The GPUs, seen through a process that may hang or crash in the daemon's place.

NVML is a C library. When a GPU fails, its calls may never return, or may end the process that
made them. So the daemon never loads it: ``Gpus`` has a helper ask it, and takes the answer when it
is there. The other side of that conversation is `supervisor.helpers.nvml`.
"""

import math
import time
from collections.abc import Callable, Sequence

import msgspec

from supervisor.core.readings import GpuAnswer, GpuReadings
from supervisor.helper import REST_MAX_S, Helper, HelperFailed
from supervisor.helpers.nvml import Reply, Request
from supervisor.programs import program

COMMAND = tuple(program("supervisor.helpers.nvml"))

# NVML may wake every GPU when it starts, which takes seconds for each; a late start is no hang.
START_TIMEOUT_S = 60.0
# Memory in use and temperatures are others after that. Far more than the deadline, so that an
# answer that comes at all is still of use to the look that it causes.
ANSWER_MAX_S = 30.0

STARTING = "NVML is still starting"


class _Newest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest reading that has come."""

    reply: Reply
    asked_s: float
    told: bool = False
    """whether a look has had it: its Xids are not told twice"""


class Gpus:
    """Reads and limits the GPUs; never raises.

    A look takes what has come, and asks for the next reading: ``read``. Whoever sleeps between the
    looks sleeps on ``handles`` too, for ``due_s`` at most, and looks again once ``take`` says so.
    That look asks for nothing, or looks and answers would chase each other for ever.

    A process that hangs, crashes, talks nonsense or finds NVML broken is ended, and the next one
    starts after the rest of a ``Helper``. A machine without a GPU is asked again once in
    ``REST_MAX_S``.

    To be made in the daemon's main thread, as a ``Helper`` is.

    Args:
        timeout_s: how long an answer may be under way, in seconds. Nobody waits for it but
            ``limit_power`` and ``read_now``.
        monotonic: the clock that the rests are measured with, in seconds.
        command: the NVML process.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._monotonic = monotonic
        self._helper: Helper[Request, Reply] = Helper(
            command,
            reply=Reply,
            name="NVML",
            stuck_in="the driver",
            timeout_s=timeout_s,
            start_timeout_s=START_TIMEOUT_S,
            monotonic=monotonic,
        )
        self._asked_s: float | None = None
        """when the reading was asked for that is under way; None: none is"""
        self._wanted = False
        """whether a look came after that: then the next reading is asked for at once"""
        self._since_s: float | None = None
        """since when looks have been without an answer to what they asked; None: they are not"""
        self._newest: _Newest | None = None
        self._news = False
        """whether there is more to be told than at the look before"""
        self._woke = False
        """whether that has caused the look which comes next"""
        self._resting = Reply()
        """the answer to everything while no process is asked"""
        self._seen = False
        """whether a GPU was ever read: then having none is trouble, not normal"""

    @property
    def handles(self) -> tuple[int, ...]:
        """Readable once ``take`` finds something; none while no answer is under way."""
        return self._helper.handles

    @property
    def due_s(self) -> float:
        """Seconds until the patience ends with what is under way; infinite where nothing is.

        A slow start is looked at in between: a look may have put off what it need not put off for
        ever.
        """
        return self._helper.due_s

    def take(self) -> bool:
        """Take what has come, and return whether that is worth a look. Never waits for an answer.

        Only whoever looks at once may call it: that look asks for no further answer.
        """
        self._take()
        self._woke = self._news
        return self._news

    def read(self) -> GpuAnswer:
        """Return what is known of the GPUs by now, and ask for the next reading.

        Never waits for an answer. To end a process that has failed takes a moment, once in each
        rest.
        """
        self._take()
        # A look that something else has caused wants to know how things are since.
        if not self._woke or self._is_old():
            self._want()
        self._woke = self._news = False
        return self._answer()

    def freshen(self) -> None:
        """Have a reading under way that no look waits for: its answer is worth none, but for Xids.

        No process is started for it: that is left to the looks.
        """
        self._take()
        try:
            if self._helper.is_up and not self._helper.is_busy:
                self._ask()
        except HelperFailed as failed:
            self._rest(Reply(trouble=str(failed)))

    @property
    def is_reading(self) -> bool:
        """Whether a reading is under way."""
        return self._asked_s is not None

    @property
    def newest(self) -> tuple[GpuReadings, ...]:
        """The GPUs as they were read last, for whoever only writes them down; none: unknown."""
        return () if self._newest is None or self._is_old() else self._newest.reply.gpus

    def read_now(self) -> GpuAnswer:
        """Read the GPUs and wait for it up to the deadline: for a command that does only that."""
        self._take()
        self._want()
        try:
            self._listen(self._helper.timeout_s)
            if self._asked_s is not None:
                self._helper.give_up()
        except HelperFailed as failed:
            self._rest(Reply(trouble=str(failed)))
        return GpuAnswer(trouble=STARTING) if self._helper.is_busy else self._answer()

    def limit_power(self, watts: float | None) -> str | None:
        """Set the power limit of every GPU, within what each one allows.

        Waits up to one deadline for what is under way, and up to another one for its own reply:
        the trainers that start next are to find the limit in force.

        Args:
            watts: the limit for each GPU, clamped to its own constraints (the readings tell what
                was set); None gives each GPU its default back.

        Returns:
            None when every GPU has its limit, otherwise the reason why one has not, such as a
            missing permission. The limit is lost in a reboot: it is to be set at every boot.

        Raises:
            ValueError: ``watts`` is not a positive finite number.
        """
        # NaN would travel as null, which is the request for the default.
        if watts is not None and not 0 < watts < math.inf:
            message = f"a power limit must be a positive number of watts, not {watts}"
            raise ValueError(message)
        try:
            reply = self._limit_power(Request(ask="limit_power", watts=watts))
        except HelperFailed as failed:
            self._rest(Reply(trouble=str(failed)))
            reply = self._resting
        if reply.absent and watts is not None:
            return "there is no GPU to limit"
        return reply.trouble

    def close(self) -> None:
        """End the NVML process. Waits a moment for it, and leaves it if it cannot die."""
        self._helper.close()
        self._forget()

    def _is_old(self) -> bool:
        newest = self._newest
        return newest is not None and self._monotonic() - newest.asked_s > ANSWER_MAX_S

    def _answer(self) -> GpuAnswer:
        """Return what is known by now, and take it for told."""
        now_s, newest = self._monotonic(), self._newest
        awaited_s = None if self._since_s is None else now_s - self._since_s
        if newest is None or self._is_old():
            waited_s = now_s - self._helper.started_s
            slow = self._helper.is_starting and waited_s >= self._helper.timeout_s
            # What the process before this one has failed of is the best that is known.
            trouble = STARTING if slow else self._resting.trouble
            return GpuAnswer(trouble=trouble, awaited_s=awaited_s)
        gpus = newest.reply.gpus
        if newest.told:
            gpus = tuple(_without_xids(gpu) for gpu in gpus)
        self._newest = msgspec.structs.replace(newest, told=True)
        return GpuAnswer(
            gpus=gpus,
            trouble=newest.reply.trouble,
            age_s=now_s - newest.asked_s,
            awaited_s=awaited_s,
        )

    def _take(self) -> None:
        """Take what has come, without waiting, and give up what has been silent for too long."""
        try:
            self._listen(0.0)
            if self._helper.due_s <= 0:
                self._helper.give_up()
        except HelperFailed as failed:
            self._rest(Reply(trouble=str(failed)))

    def _want(self) -> None:
        """Have a reading of this moment on its way, unless this is a time of rest."""
        now_s = self._monotonic()
        try:
            if not self._helper.start():
                return
            self._wanted = True
            self._since_s = now_s if self._since_s is None else self._since_s
            if not self._helper.is_busy:
                self._ask()
        except HelperFailed as failed:
            self._rest(Reply(trouble=str(failed)))

    def _listen(self, wait_s: float) -> None:
        """Take what comes within ``wait_s`` seconds, until nothing is under way.

        Raises:
            HelperFailed: the process was of no more use.
        """
        # Real time, whatever clock measures the rests: this waits for a real process.
        until_s = time.monotonic() + wait_s
        while self._helper.is_busy:
            reply = self._helper.receive(until_s - time.monotonic())
            if reply is None:
                return
            self._hear(reply)

    def _hear(self, reply: Reply) -> None:
        """Understand one reply.

        Raises:
            HelperFailed: NVML does not work in that process.
        """
        greeting = self._asked_s is None
        if greeting and reply.absent:
            if self._seen:  # a driver upgrade takes the library away for a while
                self._helper.give_up("the GPUs that were here are gone")
            self._helper.rest(REST_MAX_S)
            self._rest(Reply(absent=True))
            return
        if reply.broken is not None:
            self._helper.give_up(reply.broken)
        if not greeting:
            self._keep(reply)
        if self._wanted:
            self._ask()

    def _keep(self, reading: Reply) -> None:
        """Keep a reading as the newest, with the Xids of one before it that no look has had."""
        assert self._asked_s is not None  # noqa: S101 - only then a reply is a reading
        before = self._newest
        unheard = {} if before is None or before.told else _xids(before.reply)
        gpus = tuple(
            msgspec.structs.replace(gpu, xids=(*unheard[gpu.index], *(gpu.xids or ())))
            if gpu.index in unheard
            else gpu
            for gpu in reading.gpus
        )
        reply = msgspec.structs.replace(reading, gpus=gpus)
        self._newest = _Newest(reply=reply, asked_s=self._asked_s)
        self._asked_s = None
        self._resting = Reply()  # what the process before this one has failed of is over
        self._seen = self._seen or bool(gpus)
        if not self._wanted:
            heard = bool(_xids(reply))
            self._news = self._news or self._since_s is not None or heard
            self._since_s = None

    def _ask(self) -> None:
        """Ask for a reading, while nothing is under way.

        Raises:
            HelperFailed: the process has ended, or talks without having been asked.
        """
        self._helper.ask(Request(ask="read"))
        self._asked_s, self._wanted = self._monotonic(), False

    def _limit_power(self, request: Request) -> Reply:
        """Return the reply to that, once what was under way before is there.

        Raises:
            HelperFailed: the process was of no more use.
        """
        helper = self._helper
        if not helper.start():
            return self._resting
        self._listen(helper.timeout_s)
        if not helper.is_up:
            return self._resting
        if helper.is_starting:
            return Reply(trouble=STARTING)
        if helper.is_busy:
            if helper.due_s > 0:  # a second reading, asked for meanwhile: it has time left
                return Reply(trouble="NVML is still reading")
            helper.give_up()
        helper.ask(request)
        reply = helper.receive(helper.timeout_s)
        if reply is None:
            helper.give_up()
        if reply.broken is not None:
            helper.give_up(reply.broken)
        return reply

    def _rest(self, answer: Reply) -> None:
        """Have ``answer`` answer everything while there is no process to ask."""
        self._forget()
        self._resting, self._news = answer, True

    def _forget(self) -> None:
        """Forget all that a process which is no more owes and has told."""
        self._asked_s, self._wanted = None, False
        self._since_s, self._newest = None, None


def _xids(reply: Reply) -> dict[int, tuple[int, ...]]:
    """Return the Xids that a reading tells, by GPU."""
    return {gpu.index: gpu.xids for gpu in reply.gpus if gpu.xids}


def _without_xids(gpu: GpuReadings) -> GpuReadings:
    """Return that GPU as it is once its Xids are told: none since."""
    return msgspec.structs.replace(gpu, xids=()) if gpu.xids else gpu

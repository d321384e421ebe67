"""What goes into a turn of thinking, and what comes out of it: values, and no thought."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from modes import Ladder
from state.records import Left, Memory, Place, Process, Run
from state.requests import Request
from state.windows import Windows
from supervisor.core import slots
from supervisor.core.events import Event
from supervisor.core.facts import StabilityLimits
from supervisor.core.guard import Verdict
from supervisor.core.moments import Moment
from supervisor.core.readings import Readings
from supervisor.core.reconcile import Freeze, Kill, Start, Stop, Thaw
from supervisor.core.recovery import Observation
from supervisor.core.settings import Settings
from trainers.contract import Spec


class Machine(NamedTuple):
    """What the trainers run on, as far as no reading tells."""

    cores: int
    """of the processor, which all trainers share"""
    parts: Mapping[str, str | None]
    """what may be exchanged, such as the kernel, with its version; None: unknown. What has been
    learnt with one may not hold with another"""
    memory_mib: int | None = None
    """that our control group may use; None: all that there is"""
    gpus: tuple[str, ...] | None = None
    """those that the supervisor was given, by CUDA_VISIBLE_DEVICES; None: all that there are"""
    home: Place | None = None
    """where the home lies; None: nobody has looked"""
    zone: str | None = None
    """of the clock on the wall; None: no calendar is heeded"""


class Rules(NamedTuple):
    """What is in force: the settings, and what follows from them."""

    settings: Settings
    ladder: Ladder
    campaign: tuple[Run, ...]
    """the runs that the settings name, as they stand on the first day"""
    revision: int
    """a checksum of the campaign: another one is another campaign"""

    @property
    def limits(self) -> StabilityLimits:
        """Those of the policy."""
        return self.settings.policy

    @property
    def sharing(self) -> slots.Sharing:
        """How the campaign and what was submitted share the slots."""
        return self.settings.sharing


class PowerLimited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The outcome of limiting the power."""

    watts: float | None
    refused: str | None = None
    """why that limit is not in force"""


class LimitPower(msgspec.Struct, frozen=True, kw_only=True):
    """Limit every GPU to so many watts; None: to its default."""

    watts: float | None


class KeepWarm(msgspec.Struct, frozen=True, kw_only=True):
    """Be ready to start these at once, the likeliest first; none: be ready for none."""

    specs: tuple[Spec, ...]
    memory_max_mib: float
    """what each process that is kept for that may take"""


class BackUp(msgspec.Struct, frozen=True, kw_only=True):
    """Copy the state beside itself, before it is saved over."""

    name: str


class Remove(msgspec.Struct, frozen=True, kw_only=True):
    """Remove the folder of a run that nobody asks for any more, if it is still there."""

    run: str


Action = LimitPower | Start | Stop | Kill | Freeze | Thaw | KeepWarm | Remove


class Started(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The outcome of a start: a trainer has come to life. That one has not, the next look tells."""

    run: str
    process: Process


class Removed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The outcome of removing a folder."""

    run: str
    refused: str | None = None
    """why it is still there, or a part of it; None: nothing of it is"""


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something beside the training went wrong; training goes on."""

    event: Event
    rule: str
    reason: str


Outcome = Started | PowerLimited | Removed | Lost


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A line for the log, from whoever has something to say beside the loop."""

    event: Event
    rule: str
    reason: str
    evidence: dict[str, Any] | None = None


class Trouble(NamedTuple):
    """Something that was found among the requests and is none."""

    text: str
    request: str | None = None
    """the id that whoever put it there waits for an answer to; None where it names none"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that one turn may depend on, beside the memory."""

    moment: Moment
    rules: Rules
    machine: Machine
    reloaded: bool = False
    """other settings are in force than at the turn before"""
    refused: tuple[str, ...] = ()
    """why newer settings are not in force"""
    dated: tuple[str, ...] = ()
    """what of settings that are newly in force is written in an old form"""
    readings: Readings = Readings()
    pressure: Verdict | None = None
    """what the guard wants; None: it is off"""
    windows: Windows | None = None
    """the newest analysis of usage; None: there is none that can be read"""
    no_windows: str | None = None
    """why it cannot be read"""
    observations: dict[str, Observation] | None = None
    """what a look has shown of each run that `watched` names, and of every other of which something
    lives; None: nobody has looked, and this turn takes down what is told beside, and no more"""
    left: dict[str, Left] | None = {}
    """of the runs that `sought` names: how those were that have left the queue; None: that cannot
    be read"""
    kept: tuple[str, ...] = ()
    """names of the folders of runs, where a generation of the campaign is due"""
    requests: tuple[Request, ...] = ()
    more: bool = False
    """more of them wait"""
    troubles: tuple[Trouble, ...] = ()
    """what was found among the requests and is none"""
    said: tuple[Said, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    """of the actions of the turn before, in their order"""
    unsaved: str | None = None
    """why the disk did not take the memory the last time"""
    leaving: Literal["signal", "stop"] | None = None
    """everything is to come to rest, by a signal to the supervisor, or by `stop` where there is
    none: nothing is decided or started, and requests wait"""
    fresh: bool = False
    """the first turn of this process: what limits the machine may have been set by another"""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from what was seen."""

    memory: Memory
    before_save: tuple[BackUp, ...] = ()
    actions: tuple[Action, ...] = ()
    """to be carried out once the memory is saved, in their order; what became of them is told the
    next turn as its outcomes"""
    due_s: float = math.inf
    """seconds until the next turn, if nothing happens before"""

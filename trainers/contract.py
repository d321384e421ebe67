"""The contract between the supervisor and a trainer: the one file that both sides share.

A trainer is a command line and a run folder::

    python -m trainers atari --run RUN_DIR

In comes `spec.json`: what to train and how heavy. Out go `heartbeat.json`
(replaced at least every few seconds of progress), `metrics.jsonl` (a line per
update), `checkpoints/STEP/` (complete or absent), for people perhaps
`preview.png` (what it saw last), and an exit code. SIGTERM asks for a
checkpoint and an exit within the grace; SIGUSR1 asks for a dump of every
thread's stack into the output. While a trainer lives it holds a lock on the
folder, so a second one for the same run cannot start.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import signal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

import msgspec

EXIT_DONE = 0
"""the target is reached; nothing is left to do"""
EXIT_AGAIN = 75
"""stopped or failed, worth another start (EX_TEMPFAIL)"""
EXIT_BAD_SPEC = 78
"""the spec can never work; starting again is pointless (EX_CONFIG)"""

FROM_OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
"""signals that somebody sent, as against those that a crash raises"""

EPISODES = "episodes"
"""the unit of a target that counts no steps: everything else is what a trainer calls its step"""

MARKER = "TRAINING_SUPERVISOR_RUN"
"""environment variable of a trainer and of all its children: the path of the run folder,
by which leftovers are recognised whatever session or group they moved to"""

TRAINERS_DIR = "TRAINING_SUPERVISOR_TRAINERS_DIR"
"""environment variable of a trainer, of its children and of a warm parent: the folder of the
user's own trainers, `trainers_dir` of the settings; unset: there is none"""

HOME = "TRAINING_SUPERVISOR_HOME"
"""environment variable of a check: the home that the run is to be trained in, for the folder that
is checked lies elsewhere; unset: there is none"""

ANY_RUN = "." * 64
"""stands for the name of a run, in a place that any such name fits into, and is none itself"""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""names that become part of a path: letters, digits, '-' and '_'"""

START = "start"
"""stands for the name of a checkpoint: before the first one"""
CHECKPOINT = re.compile(
    rf"{START}|(?:0|[1-9][0-9]{{0,17}})"
    r"|(?:beside|withheld)-(?:0|[1-9][0-9]{0,17})(?:-[1-9][0-9]{0,3})?"
)
"""names of what a run may go on from, as `supervisor checkpoints` lists them"""

SUMS = "SHA256SUMS"
"""the file of a run folder that says which files a run that is done has left: a line each, the
model first, as `sha256sum --check` reads it"""

NOTICES_MAX = 20
"""of one attempt that a heartbeat holds, the newest"""
STOOD_MAX = 100
"""spans of an attempt that are remembered, the newest"""
HEARTBEAT_MAX_BYTES = 65_536
"""none is larger, whatever a trainer says; a larger file is none"""

Positive = Annotated[int, msgspec.Meta(gt=0)]
Name = Annotated[str, msgspec.Meta(pattern=rf"\A{NAME.pattern}\Z")]


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What kind of error it was that has ended an attempt: for programs, beside its sentence."""

    kind: str
    """the name of the error in the API: `ConfigValidationError`, `DataLoadError` or
    `ResourceError`; any other is a newer version's"""
    reason: str
    field: str | None = None
    """which one of what was asked for is not as it must be"""


class BadSpec(Exception):
    """What was asked for can never work; the message says what to change."""

    exit_code = EXIT_BAD_SPEC

    @property
    def failure(self) -> Failure:
        """Its kind, and the message without the words that only name that."""
        return Failure(kind="ConfigValidationError", reason=str(self))


class Refused(Exception):
    """What a person asks of a run's checkpoints cannot be done; nothing has changed."""

    exit_code = 2


class NewerFile(BadSpec):
    """A file or folder that a newer version of this program has written; it is left as it is."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} was written by a newer version ({why}): install that version again, or move "
            "it away; it is left as it is"
        )


class _Versioned(msgspec.Struct, frozen=True):
    """What can be read of a file of any version."""

    version: int = 1


T = TypeVar("T", bound=msgspec.Struct)


def decode(path: Path, content: bytes, kind: type[T]) -> T:
    """The JSON `content` of `path` as a `kind`, whose field `version` has the newest as default.

    Of an older version it is first made one of the newest, where `kind` has an `of_before` for it.
    A field that is unknown here is taken for a newer version's where `kind` forbids such fields.

    Raises:
        NewerFile: this program must neither read nor replace that file.
        MsgspecError: it is no such value; UnicodeDecodeError and RecursionError say the same.
    """
    version, known = msgspec.json.decode(content, type=_Versioned).version, _version_of(kind)
    if version > known:
        raise NewerFile(path, f"version {version}, this one knows {known}")
    try:
        if version < known and (of_before := getattr(kind, "of_before", None)):
            return msgspec.convert(of_before(msgspec.json.decode(content)), kind)
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        # The library tells it in no other way; a test holds it to that.
        if "unknown field" in str(error):
            raise NewerFile(path, str(error)) from error
        raise


@cache
def _version_of(kind: type[msgspec.Struct]) -> int:
    """The newest version of such a file; asked at every look, and the library thinks for long."""
    (known,) = (field for field in msgspec.structs.fields(kind) if field.name == "version")
    return int(known.default)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is to go."""

    unit: Name
    """what is counted: `episodes`, or what the trainer's step is, such as `steps`"""
    count: Positive


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mode gives each run, as far as it decides which way to calculate is quickest."""

    threads: Positive
    load: dict[str, Any] = {}
    """in the words of the trainer, as in a spec"""


class Tuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trainer's probe of the machine found; the trainer alone knows what the words mean."""

    load: dict[str, Any]
    """what it was found under; under anything else it does not hold"""
    machine: dict[str, str]
    """what it was found on; elsewhere it does not hold"""
    choice: dict[str, Any]
    """how to calculate"""
    took_s: dict[str, float]
    """how long each way took"""


class Rewind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where a person wants a run to go on: done once, by whichever attempt comes first."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """by which it is known whether that was done"""
    checkpoint: Annotated[str, msgspec.Meta(pattern=rf"\A(?:{CHECKPOINT.pattern})\Z")]
    """its name"""

    @property
    def step(self) -> int:
        """The step at which the run is then."""
        number = re.search(r"[0-9]+", self.checkpoint)
        return int(number[0]) if number else 0

    @property
    def place(self) -> str:
        """Where that is, in words."""
        return "its start" if self.checkpoint == START else f"checkpoint {self.checkpoint}"


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trainer is asked to do: the content of `spec.json`."""

    version: Literal[2] = 2
    run: Name
    """the run's id, equal to the name of its folder"""
    trainer: Name
    """the trainer that trains it, by its name"""
    name: Name
    """what is trained, for people and plots: the game, the series"""
    mode: Name
    """the mode whose load this is"""
    threads: Positive
    """processor threads that this trainer may use"""
    gpus: tuple[str, ...] | None = None
    """GPUs that it may use, as `CUDA_VISIBLE_DEVICES` names them: by UUID; None: those that its
    environment names"""
    gpus_own: bool = False
    """no other run uses these meanwhile"""
    load: dict[str, Any] = {}
    """what the mode lays upon it: its `Load`, validated by the trainer"""
    target: Target | None = None
    """after how much the run is done; None: the trainer says when it is"""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 1
    checkpoint_interval_s: Annotated[float, msgspec.Meta(gt=0)] = 90.0
    """longest time between two checkpoints, as far as the algorithm's update cycle allows"""
    grace_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """how long it has to save and leave when it is asked to stop, before it is killed"""
    options: dict[str, Any] = {}
    """the trainer's own settings, validated by the trainer"""
    tunings: tuple[Tuning, ...] = ()
    """how to calculate on this machine under which load; where none fits, in the default way"""
    withheld: tuple[int, ...] = ()
    """steps of checkpoints that attempts have died of before their first step: they are kept, and
    not gone on from where there is another"""
    rewind: Rewind | None = None
    """where a person wants it to go on from; the id tells whether that was done"""
    begin_from: Name | None = None
    """id of another run of this home: where this one has no checkpoint yet, it begins with what the
    best of that one has learnt"""

    def up_to(self, unit: str) -> int | None:
        """The target, where it is one in that unit."""
        return self.target.count if self.target is not None and self.target.unit == unit else None

    @staticmethod
    def of_before(old: dict[str, Any]) -> dict[str, Any]:
        """A spec of version 1 as one of this version."""
        steps, episodes = old.pop("target_steps", None), old.pop("target_episodes", None)
        target = {"unit": "steps", "count": steps} if episodes is None else None
        load = {key: old.pop(key) for key in ("n_envs", "batch_size") if key in old}
        old.pop("tuning", None)
        return old | {
            "version": 2,
            "load": load,
            "target": target or {"unit": "episodes", "count": episodes},
        }


Status = Literal["starting", "running", "stopping", "stopped", "done", "failed"]
"""the last three are final: written as the trainer's last act before it exits"""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Something on this machine that a run needs beside what is its own."""

    path: str
    what: str
    """in words, such as `its program`"""
    use: Literal["run", "enter", "read", "write", "named"]
    """`named`: it stands in a word, and who has written it knows whether it is read or written"""
    within: str
    """the folder that whoever shows it should show whole, such as that of a virtual environment"""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A number by which a trainer says how good its run is, and which way is better.

    Checkpoints of a run are compared by it: the best one is that of the best score.
    """

    name: Name
    """what is measured, such as `return_mean` or `rmse`; scores of another name are others"""
    value: float | None
    """None while it is unknown, or not finite"""
    better: Literal["higher", "lower"] = "higher"

    def beats(self, other: Score) -> bool:
        """Whether it is better than another of that name; what is unknown beats nothing."""
        if self.value is None or other.value is None or self.name != other.name:
            return False
        return self.value > other.value if self.better == "higher" else self.value < other.value


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a run: how far it is, and how much training that took."""

    step: int
    """environment steps, over all attempts of the run"""
    trained_s: float
    """time spent on these steps, over all attempts; neither starts nor checkpoints count"""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer last said of itself: the content of `heartbeat.json`.

    Rates, scores and losses are None while unknown, and when they are not
    finite: NaN is no JSON. A new field alone is no new version: older readers
    read over it.
    """

    version: Literal[1] = 1
    run: str
    pid: int
    mode: str
    gpus: tuple[str, ...] | None = None
    """as in its spec"""
    gpus_own: bool = False
    status: Status
    step: int
    """environment steps so far, over all attempts of the run; with a final status other than
    `failed`, those of the newest checkpoint"""
    episodes: int
    """episodes finished so far, over all attempts of the run"""
    written_at: float
    """wall time, seconds since 1970; for people, never for a rule"""
    progress_at_s: float
    """CLOCK_MONOTONIC when the step last moved; comparable within one boot"""
    longest_gap_s: float
    """longest time between two moves of the step in this attempt, after the first; hang
    limits are learnt from it"""
    steps_per_s: float | None = None
    score: Score | None = None
    """how good the run is by now, as its trainer measures that; None: it measures nothing"""
    loss: float | None = None
    checkpoint_step: int | None = None
    """the step of the newest complete checkpoint"""
    checkpoint_at: float | None = None
    """its wall time"""
    checkpoint_write_s: float | None = None
    """how long writing it took"""
    checkpoint_bytes: int | None = None
    """how large it is"""
    began: Mark | None = None
    """where this attempt went on from"""
    reached: Mark | None = None
    """the furthest place of this attempt, whether or not a checkpoint holds it"""
    saved: Mark | None = None
    """the place that the newest complete checkpoint holds"""
    stepping_at_s: float | None = None
    """CLOCK_MONOTONIC at the first new step of this attempt"""
    checkpoints: int | None = None
    """written in this attempt"""
    checkpoint_stall_s: float | None = None
    """for how long training has stood still for them in this attempt"""
    alive_at_s: float | None = None
    """CLOCK_MONOTONIC when the trainer last said that it works on without a step"""
    notices: tuple[str, ...] = ()
    """what a person should hear, oldest first: a damaged checkpoint passed over, a loss that
    is not a number; the supervisor logs each once"""
    notices_before: int = 0
    """older ones of this attempt that there was no room for"""
    returned_at: int | None = None
    """with status `stopped`: nobody had asked it to, it has returned at this step"""
    error: str | None = None
    """with status `failed`: the reason in one line"""
    failure: Failure | None = None
    """with status `failed`: what kind of error that was; None: none that the API has a name for"""
    out_of_memory: bool = False
    """with status `failed`: the reason was memory, of the machine or of the GPU"""
    of_the_machine: bool = False
    """with status `failed`: the reason was the machine as it is now, such as a full disk, or a kill
    from outside of what the trainer had started"""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of one checkpoint."""

    checkpoint: str
    """how it is called: by its step, or with why it lies aside before that"""
    step: int
    episodes: int | None = None
    saved_at: float | None = None
    """wall time, seconds since 1970; None: it does not tell"""
    score: Score | None = None
    mode: str | None = None
    size_bytes: int
    aside: str | None = None
    """why it is not gone on from: `beside`, `withheld` or `damaged`; None: it may be"""
    newest: bool = False
    """the run goes on from it"""
    best: bool = False
    """it is what is evaluated, recorded and exported"""
    whole: bool | None
    """whether it is as it was written, as far as was looked; None: a newer version alone knows"""
    reason: str | None = None
    """why it lies aside, or is not whole"""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of all of them."""

    run: str
    verified: bool
    """every byte was read; otherwise what they say of themselves and the sizes of their files"""
    checkpoints: tuple[Listed, ...]
    """the oldest first, and of one step those that lie aside first"""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """To which checkpoint a run would go back, and what it would leave behind."""

    checkpoint: str
    """its name, or `start`"""
    beside: tuple[str, ...]
    """names of those that are set beside, the oldest first"""


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a checkpoint from elsewhere."""

    run: str
    step: int
    files: int
    """how many it has"""
    size_bytes: int
    score: Score | None
    remarks: tuple[str, ...]
    """what a person should know of it"""


class RowRemark(msgspec.Struct, frozen=True, kw_only=True):
    """What a person should know of rows that can be learnt from."""

    code: str
    """what it is, for programs, such as `gaps`"""
    line: str
    """the same for people"""
    option: str = "data"
    """of the trainer, which it is about"""


class Rows(msgspec.Struct, frozen=True, kw_only=True, tag="rows"):
    """What a run would learn from: what `--rows` prints where all of it is well."""

    told: dict[str, Any]
    """how many there are, from when to when, how they are split, and what is made of them"""
    train_rows: int
    """that are learnt from"""
    rounds: int
    """how often they are gone through"""
    memory_bytes: int
    """about as many are needed at once"""
    remarks: tuple[RowRemark, ...]


class Unfit(msgspec.Struct, frozen=True, kw_only=True, tag="unfit"):
    """Why a run would learn nothing: what `--rows` prints instead."""

    error: str
    """the name of what is raised"""
    line: str
    details: dict[str, Any] = {}


class WarmRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor asks of a warm parent: `python -m trainers NAME --warm RUN_DIR`.

    Each is one packet on the socket that is the parent's stdin, as JSON, and has one answer.
    """

    ask: Literal["load", "fork", "code"]
    """load: once, before all else, what every attempt needs; answered when that is done. fork: a
    trainer; its output file comes with the packet. code: with which one it has ended"""
    specs: tuple[Spec, ...] = ()
    """load: of runs that may follow; what they need is loaded while nothing else is asked"""
    run: str = ""
    """fork: the run's id, which stands for the dots in RUN_DIR"""
    nice: int = 0
    """fork: the trainer's niceness"""
    pid: int = 0
    """code: of a trainer that has ended"""


class WarmReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a warm parent answers."""

    pid: int | None = None
    """of the trainer that was forked"""
    code: int | None = None
    """how the trainer ended: its exit code, or a signal's number, negative"""
    trouble: str | None = None
    """why the parent ends now"""


class Stood(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When all processes of an attempt stood still: the content of `stood.json`.

    The supervisor writes it, for whoever counts time by a clock that went on meanwhile.
    """

    version: Literal[1] = 1
    spans: tuple[tuple[float, float | None], ...] = ()
    """from when to when, by CLOCK_MONOTONIC in seconds; None: they stand still now"""

    @property
    def still(self) -> bool:
        """Whether they do so now."""
        return bool(self.spans) and self.spans[-1][1] is None

    def begun(self, now_s: float) -> Stood:
        """With a span that begins now, where none lasts."""
        if self.still:
            return self
        return Stood(spans=(*self.spans, (now_s, None))[-STOOD_MAX:])

    def ended(self, now_s: float) -> Stood:
        """With the span that lasts, where one does, ended now."""
        if not self.still:
            return self
        return Stood(spans=(*self.spans[:-1], (self.spans[-1][0], now_s)))

    def lasted_s(self, since_s: float, until_s: float) -> float:
        """How long it was from one moment to another, without what lies in these spans."""
        stood_s = sum(
            max(0.0, min(until_s, until_s if ended_s is None else ended_s) - max(since_s, began_s))
            for began_s, ended_s in self.spans
        )
        return max(0.0, until_s - since_s - stood_s)


class RunFolder:
    """The paths within one run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = path / "spec.json"
        self.heartbeat = path / "heartbeat.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"
        self.output = path / "output.log"
        self.preview = path / "preview.png"
        self.stood = path / "stood.json"
        self.sums = path / SUMS
        self.ours = (
            self.spec,
            self.heartbeat,
            self.metrics,
            self.checkpoints,
            self.tensorboard,
            self.output,
            self.preview,
            self.stood,
            self.sums,
        )
        """what may be no link; everything else in the folder is the trainer's own"""


Who = Literal["trainers", "supervisor"]
Level = Literal["info", "warning", "error"]
"""how grave it is what a line of the output says"""
LEVELS: tuple[Level, ...] = get_args(Level)
"""the least grave first"""


class Remark(NamedTuple):
    """A line of ours in the output of a run, between those that its program prints."""

    who: Who
    at: float | None
    """wall time, seconds since 1970; None: it does not say"""
    level: Level
    text: str

    @property
    def line(self) -> str:
        """As it is written: `trainers: 2026-11-28T17:36:14Z warning: ...`."""
        at = ""
        if self.at is not None:
            moment = dt.datetime.fromtimestamp(self.at, dt.UTC)
            at = f"{moment.isoformat(timespec='seconds').replace('+00:00', 'Z')} "
        level = "" if self.level == "info" else f"{self.level}: "
        return f"{self.who}: {at}{level}{self.text}"

    @classmethod
    def of(cls, line: bytes) -> Remark | None:
        """What a line of an output says; None: it is none of ours."""
        found = REMARK.match(line.decode(errors="replace"))
        if found is None:
            return None
        try:
            at = None if found[2] is None else dt.datetime.fromisoformat(found[2]).timestamp()
        except ValueError:  # no such day
            return None
        level = found[3] or "info"
        return cls(msgspec.convert(found[1], Who), at, msgspec.convert(level, Level), found[4])


REMARK = re.compile(
    r"(trainers|supervisor): (?:([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z) )?"
    r"(?:(warning|error): )?(.*)",
    re.DOTALL,
)


def finite(value: float | None) -> float | None:
    """`value`, or None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None

"""What may be asked of the supervisor, through the inbox: a tagged union, one kind each.

The JSON of a request is flat: `kind` says which it is. Fields that a kind does not have are
refused.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from state.records import Asked
from trainers.contract import CHECKPOINT, Name


class _Request(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
):
    """What every request says."""

    id: str
    by: str
    """who asked: the login name, as whoever asked has said it"""
    asked_at: float
    account: str | None = None
    """who asked: the account whose file it is, which nobody can say otherwise"""
    on_behalf: Name | None = None
    """for whom: a tenant, or the name of a token; believed from the home's own account alone"""

    @property
    def kind(self) -> str:
        """Which kind of request it is."""
        return str(self.__struct_config__.tag)

    @property
    def asker(self) -> str:
        """Who asked: what was said, and what is proven where that is another."""
        asker = self.by
        if self.account not in (None, self.by):
            asker = f"{self.by} (account {self.account})"
        return asker if self.on_behalf is None else f"{asker} for {self.on_behalf}"

    @property
    def words(self) -> str:
        """What is asked, in words."""
        return self.kind.replace("_", " ")


class ScaleUp(_Request, frozen=True, tag="scale_up"):
    """One mode up, now."""


class ScaleDown(_Request, frozen=True, tag="scale_down"):
    """One mode down, now."""


class OfAMode(_Request, frozen=True):
    """A request that names a mode."""

    mode: Name

    @property
    def words(self) -> str:
        """What is asked, in words."""
        return f"{self.kind} {self.mode}"


class Pin(OfAMode, frozen=True, tag="pin"):
    """That mode and no other."""


class Unpin(_Request, frozen=True, tag="unpin"):
    """The policy chooses again."""


class Forbid(OfAMode, frozen=True, tag="forbid"):
    """Neither that mode nor a heavier one."""


class Allow(OfAMode, frozen=True, tag="allow"):
    """That mode is no longer forbidden."""


class Pause(_Request, frozen=True, tag="pause"):
    """Nothing trains, until `Resume`."""


class Resume(_Request, frozen=True, tag="resume"):
    """A person's pause is over, and idling."""


class TrainNow(_Request, frozen=True, tag="train_now"):
    """Training in any hour for a while, whatever the quiet hours say."""

    for_s: Annotated[float, msgspec.Meta(gt=0, le=604_800)]
    """for how long, in seconds"""

    @property
    def words(self) -> str:
        """What is asked, in words."""
        lasts = f"{self.for_s / 3600:.3g} h" if self.for_s >= 3600 else f"{self.for_s / 60:.3g} min"
        return f"train now, in any hour, for {lasts}"


class Reset(_Request, frozen=True, tag="reset"):
    """Back to the first day."""


class TryAgain(_Request, frozen=True, tag="retry"):
    """A run that has ended badly, or waits, is tried again, its deaths forgotten."""

    run: Name
    """its id"""


class GoBack(_Request, frozen=True, tag="rewind"):
    """A run goes on from one of its checkpoints, and what is later is kept beside."""

    run: Name
    """its id"""
    checkpoint: Annotated[str, msgspec.Meta(pattern=rf"\A(?:{CHECKPOINT.pattern})\Z")]
    """its name, or `start`"""


class _OfWhatIsAsked(_Request, frozen=True):
    """A request that says what is asked for, as a whole."""

    asked: Asked

    @property
    def run(self) -> str:
        """The id of the run."""
        return self.asked.id


class Submit(_OfWhatIsAsked, frozen=True, tag="submit"):
    """A run joins the queue.

    Asked again with the same token, it is the same run, whatever has become of it since.
    """

    @property
    def words(self) -> str:
        """What is asked, in words."""
        return f"submit {self.run}"


class Amend(_OfWhatIsAsked, frozen=True, tag="amend"):
    """What was asked for is replaced by a newer revision."""

    @property
    def words(self) -> str:
        """What is asked, in words."""
        return f"amend {self.run} to revision {self.asked.revision}"


class _OfWhatWasSubmitted(_Request, frozen=True):
    """A request about a run that was submitted."""

    run: Name
    """its id"""
    token: str | None = None
    """that it was submitted with"""

    @property
    def words(self) -> str:
        """What is asked, in words."""
        return f"{self.kind} {self.run}"


class Withdraw(_OfWhatWasSubmitted, frozen=True, tag="withdraw"):
    """A run leaves the queue, saved, and has come to no end."""


class Cancel(_OfWhatWasSubmitted, frozen=True, tag="cancel"):
    """A run ends, saved, however far it is."""


class JobsWait(_Request, frozen=True, tag="jobs_wait"):
    """For how long jobs have waited that no home has taken, as the dispatcher of this one sees it.

    Nothing is asked but that people are told, where that is too long, or no more.
    """

    waited_s: Annotated[float, msgspec.Meta(ge=0)]
    """the longest of them; 0: none waits"""
    job: Name | None = None
    """the id of that one"""


AboutTheMode = (
    ScaleUp | ScaleDown | Pin | Unpin | Forbid | Allow | Pause | Resume | TrainNow | Reset
)
"""requests that are granted or refused by the goal alone"""
AboutAJob = Submit | Amend | Withdraw | Cancel
"""requests about runs that do not come from the settings; the home's own account answers for
whoever stands behind them"""
AboutARun = TryAgain | GoBack | AboutAJob
"""requests about one run, which may have left the queue"""
OfTheAccount = AboutAJob | JobsWait
"""requests that are believed from the home's own account alone"""
Request = AboutTheMode | AboutARun | JobsWait
"""every request"""


def request(kind: str, **fields: Any) -> Request:
    """The request of that kind; fields that are None are left out.

    Raises:
        msgspec.ValidationError: there is no such kind, or a field is missing or does not fit it.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    asked: Request = msgspec.convert({"kind": kind, **given}, Request)
    return asked

"""What a person asks of the daemon, through its inbox."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from supervisor.commands import Action, Adding
from supervisor.context import Context, Refused
from supervisor.core.moments import AGE, AGE_UNITS_S, stamp, when
from supervisor.errors import SupervisorError
from trainers.contract import NAME

if TYPE_CHECKING:
    from supervisor.ask import Outcome

PLACE = 40
LIFTED_MAX_S = 604_800.0
"""the longest time for which quiet hours are lifted: a week"""


class NoAnswer(SupervisorError):
    """The daemon is up and has not answered a request in time."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            f"the supervisor has not answered within {wait_s:.0f} s; the request waits in the "
            "inbox; look with `supervisor decisions`"
        )


def add(command: Adding) -> None:
    """Add these commands."""
    requests: tuple[tuple[str, str, str], ...] = (
        ("force-scale-up", "scale_up", "go one mode up, now"),
        ("force-scale-down", "scale_down", "go one mode down, now"),
        ("pin", "pin", "go to a mode and stay there until `unpin`"),
        ("unpin", "unpin", "let the policy choose the mode again"),
        ("forbid", "forbid", "neither that mode nor a heavier one, until `allow`"),
        ("allow", "allow", "take back `forbid`"),
        ("pause", "pause", "save and stop every run until `resume`"),
        ("resume", "resume", "train again after `pause`, or at once while idle"),
    )
    for name, kind, text in requests:
        sub = command(name, _request(kind), text)
        if kind in ("pin", "forbid", "allow"):
            sub.add_argument("mode", metavar="MODE")
    command(
        "retry",
        _request("retry"),
        "try a run again that has failed, is in quarantine, or waits after a death",
        "run",
        more="Its deaths are forgotten; it goes on from its newest checkpoint.",
    )
    sub = command(
        "train-now",
        _train_now,
        "train in any hour for a while, whatever the quiet hours say",
        more="It lifts [quiet_hours] and never the guard, and is over by itself.",
    )
    sub.add_argument(
        "--for",
        dest="lasts",
        metavar="AGE",
        default="8h",
        help="how long, such as 90min or 8h (default: 8h)",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub = command(
        "reset",
        _reset,
        "forget all history, pins and pauses",
        more="Checkpoints and a backup of the state are kept.",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")


def _request(kind: str) -> Action:
    def act(context: Context) -> int:
        mode = getattr(context.options, "mode", None)
        if mode is not None and not NAME.fullmatch(mode):  # no file of modes could be named so
            raise Refused(f"{mode!a} is no name of a mode")
        named = getattr(context.options, "run", None)
        run = None if named is None else context.run(named).id
        print(put(context, kind, mode=mode, run=run).reason)
        return 0

    return act


def _train_now(context: Context) -> int:
    now = context.now().wall
    lasts = context.options.lasts
    match = AGE.fullmatch(lasts.strip())
    for_s = float(match[1]) * AGE_UNITS_S[match[2]] if match else 0.0
    if not 0 < for_s <= LIFTED_MAX_S:
        raise Refused(f"{lasts!a} is no time from a moment to a week, such as 90min or 8h")
    until = when(stamp(now + for_s))
    question = f"Train in any hour until {until}, also where it disturbs? [y/N] "
    agreed(context, question, "training may disturb now")
    print(put(context, "train_now", for_s=for_s).reason)
    return 0


def agreed(context: Context, question: str, why: str) -> None:
    """See that a person agrees.

    Raises:
        Refused: they do not, or nobody can be asked.
    """
    if context.options.yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{why}; say --yes where nobody can be asked")
    try:
        answer = input(question)
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")


def put(context: Context, kind: str, **fields: str | float | None) -> Outcome:
    """Ask the daemon for something; what became of it, which is no refusal.

    Args:
        context: of the command.
        kind: what is asked.
        fields: what such a request says beside that; None is left out.

    Raises:
        Refused: it is not granted.
        NoAnswer: the daemon is up, and has not answered in time.
    """
    from supervisor import ask  # noqa: PLC0415 - reading commands stay quick

    # A mistake in the settings must keep nobody from a pause.
    config = context.kept_config
    answer = ask.ask(context.home, config, context.now(), kind, by=context.login, **fields)
    if answer.refused:
        raise Refused(answer.reason)
    if not answer.decided and answer.waited_s:
        raise NoAnswer(answer.waited_s)
    return answer


def _reset(context: Context) -> int:
    question = (
        f"Forget mode, boots, pins, pauses and the queue's progress of {context.home.path}?\n"
        "Checkpoints stay, and a backup of the state is kept. [y/N] "
    )
    agreed(context, question, "reset forgets all history")
    from supervisor import ask  # noqa: PLC0415 - reading commands stay quick

    if context.home.holder() is None:
        print(ask.reset_now(context.home, context.kept_config, context.now()))
        return 0
    return _request("reset")(context)

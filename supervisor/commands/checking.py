"""Whether all is as it should be, and what is quickest here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from modes.toml_file import InvalidFile
from state.store import Store
from supervisor import follow, screen
from supervisor.commands import Adding, build_parser
from supervisor.context import Context, Refused, print_json
from supervisor.core.campaign import Campaign
from supervisor.host.home import SYSTEM_HOME
from supervisor.programs import program, with_trainers

PLACE = 70
TRIAL_NICE = 10
"""hundreds of runs may be asked about beside the training, which goes first"""
INSTANTS = 3
"""of the calendar of the campaign, which are told"""
QUIET_LOOK_S = 0.2
"""how soon to look again whether runs that are paused have saved"""


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "tune",
        _tune,
        "find out which way of calculating is quickest on this machine",
        "json",
        more="Takes effect when a trainer starts next.",
    )
    sub.add_argument("--once", action="store_true", help="only where that was never tried")
    sub = command(
        "trainers", _trainers, "which trainers there are, or what one can be told", "json"
    )
    sub.add_argument(
        "trainer", metavar="NAME", nargs="?", help="with its options; by default all are listed"
    )
    sub = command(
        "check-config",
        _check_config,
        "check settings, modes and the trainers' options",
        "json",
        more="A run that has learnt something is to go on from it. A supervisor does the same with "
        "settings that change, before they are in force.",
    )
    sub.add_argument(
        "--changed",
        action="store_true",
        help="only runs that are asked for otherwise than by the settings in force",
    )
    sub.add_argument(
        "--as-service",
        action="store_true",
        help="also what the service of the machine would not see of their runs; usual for its own",
    )
    command("doctor", _doctor, "check this machine: disk, rights, GPU, games, leftovers", "json")
    command(
        "notify-test",
        _notify_test,
        "send a test to each address of [notify]",
        "json",
        more="Says of each whether it was taken.",
    )
    sub = command(
        "completion",
        _completion,
        "print the completion script of a shell",
        more='For bash: eval "$(supervisor completion bash)"',
    )
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _tune(context: Context) -> int:
    from supervisor.core import queue  # noqa: PLC0415 - as above
    from supervisor.host import tuning  # noqa: PLC0415 - reading commands stay quick
    from supervisor.host.cgroup import cores  # noqa: PLC0415 - as above

    home, config = context.home, context.config
    if context.options.once and (home.tuning.exists() or home.holder() is not None):
        return 0
    _await_quiet(context)
    home.make()
    if context.options.once:
        tuning.keep(home.tuning, {})  # whatever becomes of it, nobody waits for it again
    shares = {
        trainer: queue.shares(config.ladder, trainer, cores())
        for trainer in dict.fromkeys(run.asked.trainer for run in config.settings.queue())
    }
    print("finding out what is quickest on this machine, for 20 s or so", file=sys.stderr)
    kept = {
        trainer: tuning.probe(trainer, given, config.trainers_dir)
        for trainer, given in shares.items()
    }
    tuning.keep(home.tuning, kept)
    if context.options.json:
        print_json(kept)
    else:
        print("\n".join(tuning.described(kept)) or "no trainer has more than one way to calculate")
    return 0


def _await_quiet(context: Context) -> None:
    """Wait until nothing trains, if somebody has asked for that.

    Raises:
        Refused: training goes on.
    """
    from supervisor.host.clock import pause  # noqa: PLC0415 - only here

    patience_s = context.config.settings.recovery.grace_s
    while context.home.holder() is not None:
        memory, _ = Store(context.home.state).peek()
        if memory is None or not memory.running:
            return
        if not memory.goal.paused or patience_s <= 0:
            raise Refused("training would disturb the trials: `supervisor pause` first")
        pause(QUIET_LOOK_S)
        patience_s -= QUIET_LOOK_S


def _trainers(context: Context) -> int:
    """Have the trainers tell of themselves: of these the supervisor knows nothing but names."""
    options = context.options
    command = [*program("trainers.__main__"), "--list", *(["--json"] if options.json else [])]
    if options.trainer is not None:
        command += ["--", options.trainer]
    environment = with_trainers(context.kept_config.trainers_dir)
    return follow.passed_on(command, sys.stdout, sys.stderr, environment)


def _check_config(context: Context) -> int:
    from supervisor import doctor, recipients  # noqa: PLC0415 - reading commands stay quick
    from supervisor.host.install import eyes  # noqa: PLC0415 - as above
    from supervisor.trial import Verdict  # noqa: PLC0415 - as above

    config, home, changed = context.config, context.home, context.options.changed
    if changed:
        os.nice(TRIAL_NICE)
    runs = config.changed_since(home.last_settings) if changed else config.campaign
    # The service itself sees what it sees, when it asks for what has changed.
    as_service = context.options.as_service or (home.path == SYSTEM_HOME and not changed)
    service = eyes.of_service() if as_service else None
    problems, remarks = doctor.check_options(config, home, runs, service)
    held, noted = doctor.check_guard(config, home, by_service=as_service)
    # Who cannot be told is no reason to train otherwise than a person asks.
    mute = () if changed else recipients.troubles(config.settings.notify)
    problems, remarks = (*mute, *held, *problems), (*remarks, *noted)
    if context.options.json:
        print_json(Verdict(problems=problems, notes=(*config.dated, *remarks)))
        return InvalidFile.exit_code if problems else 0
    if problems:
        raise InvalidFile(problems)
    names = ", ".join(config.ladder.names)
    print(f"well: {len(config.campaign)} runs, modes {names}")
    for line in _due(config.settings.campaign, context.now().wall):
        print(line)
    for notice in (*config.dated, *remarks):
        print(f"note: {notice}")
    return 0


def _due(campaign: Campaign, at: float) -> Iterator[str]:
    """When a campaign is due again."""
    from supervisor.core import again  # noqa: PLC0415 - reading commands stay quick
    from supervisor.host.clock import zone_name  # noqa: PLC0415 - as above

    if campaign.again is None:
        return
    zone = zone_name()
    found = again.instants(campaign, zone, at, INSTANTS)
    yield f"due again: {', '.join(again.in_words(one, campaign, zone) for one in found)}"
    yield f"each generation begins {again.BEGINS[campaign.again_from]}"


def _doctor(context: Context) -> int:
    from supervisor import doctor  # noqa: PLC0415 - reading commands stay quick

    findings = doctor.examine(context.home, context.config_or_why, context.now())
    if context.options.json:
        print_json(findings)
    else:
        print(screen.findings(findings))
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _notify_test(context: Context) -> int:
    from supervisor import recipients  # noqa: PLC0415 - reading commands stay quick

    asked = recipients.of(context.kept_config.settings.notify)
    if not asked:
        raise Refused("nobody is told anything: `urls` in [notify] of the settings is empty")
    came = []
    for one in asked:
        result = recipients.outcome_of(one.trial(context.home.path))
        came.append({"recipient": one.name, "well": result.well, "said": result.said})
        if not context.options.json:
            print(f"{one.name} {result.said}", flush=True)
    if context.options.json:
        print_json(came)
    return 0 if all(one["well"] for one in came) else 1


def _completion(context: Context) -> int:
    from supervisor import completion  # noqa: PLC0415 - an extra, and only for this

    print(completion.script(build_parser(), context.options.shell))
    return 0

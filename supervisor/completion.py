"""What a shell offers while a command is typed: commands, options, events, runs, trainers, jobs."""

from __future__ import annotations

import argparse

from supervisor.core.events import LOGGED
from supervisor.core.sought import NOUNS
from supervisor.errors import SupervisorError


def _asked(what: str, field: str) -> dict[str, object]:
    """How each shell finds what a command lists as JSON, which is asked for anew each time.

    Args:
        what: the command, which names the function that asks.
        field: the name of what is offered, in each thing that is listed.
    """
    listed = (
        f"{what} --json 2>/dev/null | "
        rf"""sed -n 's/^ *"{field}": "\([A-Za-z0-9_-]*\)",*$/\1/p'"""
    )
    name = what.replace(" ", "_")
    return {
        "bash": f"_supervisor_{name}",
        "zsh": f"_supervisor_{name}",
        # Between backquotes tcsh runs it, but a slash would end the pattern that it stands in.
        "tcsh": "",
        "preamble": {
            "bash": f"""\
# The {what}, of the home and by the settings that the line names.
_supervisor_{name}() {{
  local word place named=()
  for ((place = 1; place < COMP_CWORD - 1; place++)); do
    word="${{COMP_WORDS[place]}}"
    case "$word" in --home | --config) named+=("$word" "${{COMP_WORDS[place + 1]}}") ;; esac
  done
  compgen -W "$("${{COMP_WORDS[0]}}" "${{named[@]}}" {listed})" -- "$1"
}}
""",
            "zsh": f"""\
# The {what} of the usual home.
_supervisor_{name}() {{
  local -a found
  found=(${{(f)"$(supervisor {listed})"}})
  compadd -a found
}}
""",
        },
    }


ASKED = {
    "run": _asked("runs", "called"),
    "trainer": _asked("trainers", "name"),
    "job": _asked("jobs list", "job_id"),
}
"""argument: who tells what can stand there; of a run its name, or its id where the name would not
do"""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a shell.

    Args:
        parser: the whole command line, to be used for nothing else: it is changed.
        shell: bash, zsh or tcsh.

    Raises:
        SupervisorError: the extra is not installed.
    """
    try:
        import shtab  # noqa: PLC0415 - an extra, and only for this
    except ImportError as error:
        raise SupervisorError(
            "completion needs the extra: pip install 'training-supervisor[completion]'"
        ) from error
    _offer(parser)
    return str(shtab.complete(parser, shell))


def _offer(parser: argparse.ArgumentParser) -> None:
    """Have whatever names an event, a run, a trainer or a job offer those that there are."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _offer(command)
        elif action.dest == "event":
            # Not where words are judged: a choice would be refused with the whole list.
            action.choices = (*NOUNS, *LOGGED)
        elif action.dest in ASKED:
            action.complete = ASKED[action.dest]  # type: ignore[attr-defined]  # shtab looks there

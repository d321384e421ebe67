"""What a shell offers while a command is typed: commands, options, events, and runs."""

from __future__ import annotations

import argparse

from supervisor.core.events import LOGGED
from supervisor.core.sought import NOUNS
from supervisor.errors import SupervisorError

LISTED = (
    "runs --json 2>/dev/null | "
    r"""sed -n 's/^ *"called": "\([A-Za-z0-9_-]*\)",*$/\1/p'"""
)
"""what prints each run on a line of its own, after the name of the command: its name, or its id
where the name would not do"""
RUNS = {
    "bash": "_supervisor_runs",
    "zsh": "_supervisor_runs",
    # Between backquotes tcsh runs it, but a slash would end the pattern that it stands in.
    "tcsh": "",
    "preamble": {
        "bash": f"""\
# The names of the runs, of the home and by the settings that the line names.
_supervisor_runs() {{
  local word place named=()
  for ((place = 1; place < COMP_CWORD - 1; place++)); do
    word="${{COMP_WORDS[place]}}"
    case "$word" in --home | --config) named+=("$word" "${{COMP_WORDS[place + 1]}}") ;; esac
  done
  compgen -W "$("${{COMP_WORDS[0]}}" "${{named[@]}}" {LISTED})" -- "$1"
}}
""",
        "zsh": f"""\
# The names of the runs of the usual home.
_supervisor_runs() {{
  local -a runs
  runs=(${{(f)"$(supervisor {LISTED})"}})
  compadd -a runs
}}
""",
    },
}
"""how each shell finds the runs, which are asked for anew each time"""


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
    """Have every argument that names an event or a run offer those that there are."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _offer(command)
        elif action.dest == "event":
            # Not where words are judged: a choice would be refused with the whole list.
            action.choices = (*NOUNS, *LOGGED)
        elif action.dest == "run":
            action.complete = RUNS  # type: ignore[attr-defined]  # shtab looks there

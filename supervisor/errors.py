"""The one ancestor of what the supervisor tells a person in one line."""

from __future__ import annotations


class SupervisorError(Exception):
    """Something is wrong that a person can understand and mend.

    Each kind is declared where it is raised, builds its whole message itself,
    and sets the exit code of the command that it ends.
    """

    exit_code = 1

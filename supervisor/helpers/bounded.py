"""Becomes another program, so bounded that it disturbs nobody: it reads the data of strangers.

It ends with whoever has started it, goes behind all others, has so much memory and no more, and
writes no file.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import NoReturn

from supervisor.helper import die_with_parent

ADDRESSES_MAX_BYTES = 6 * 2**30
"""of which libraries of tables reserve about twice as much as they use"""
NICE = 19


def main() -> NoReturn:
    """Become the command of our arguments."""
    die_with_parent()
    os.nice(NICE)
    for limit, most in (
        (resource.RLIMIT_AS, ADDRESSES_MAX_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        soft, hard = resource.getrlimit(limit)
        known = [one for one in (most, soft, hard) if one != resource.RLIM_INFINITY]
        resource.setrlimit(limit, (min(known), min(known)))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - as for S603: it is a program that we mean

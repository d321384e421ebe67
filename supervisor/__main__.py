"""`python -m supervisor` is the command `supervisor`."""

import sys

from supervisor.cli import main

sys.exit(main())

"""`python -m supervisor` is the command `supervisor`."""

import sys
from pathlib import Path

# For this one import: behind it, our packages are found wherever they lie.
sys.path.insert(0, str(Path(__file__).parents[1]))
from training_supervisor import main

del sys.path[0]

sys.exit(main())

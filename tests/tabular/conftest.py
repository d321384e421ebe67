"""Small tables, and what learns them."""

import sys
from pathlib import Path

# This folder cannot be a package: it would be called like the one that it tests.
sys.path.append(str(Path(__file__).parent))

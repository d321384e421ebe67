"""What jobs cost the supervisor that knows nothing of them; see `benchmarks/jobs.py`."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs_place import PATIENCE_S, Place, memory_mib, processor_s, wakes

ROOT = Path(__file__).resolve().parent.parent
SETTLED_S = 30.0
"""after which a server has made its store, and its dispatcher looks once a second"""
LIFE = f"""\
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from supervisor.cli import main
code = main(sys.argv[1:])
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
sys.exit(code)
"""


def measured(for_s: float) -> dict[str, dict[str, Any]]:
    """A supervisor that has nothing to do, without a server beside it, and with one."""
    return {name: _one(for_s, serves=name == "beside serve") for name in ("alone", "beside serve")}


def _one(for_s: float, *, serves: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Place(Path(folder)) as place:
        daemon = place.start("run", "--plain", command=[sys.executable, "-c", LIFE])
        if serves:
            place.serve()
        place.until((place.home / "state.json").exists, "it has begun")
        time.sleep(SETTLED_S)
        used_s, woken = processor_s(daemon.pid), wakes(daemon.pid)
        time.sleep(for_s)
        found = {
            **memory_mib(daemon.pid),
            "wakes_per_s": (wakes(daemon.pid) - woken) / for_s,
            "processor_s_per_h": 3600 * (processor_s(daemon.pid) - used_s) / for_s,
        }
        daemon.send_signal(signal.SIGTERM)
        said, _ = daemon.communicate(timeout=PATIENCE_S)
        ours = sys.stdlib_module_names
        return found | {
            "imports": [it for it in json.loads(said.splitlines()[-1]) if it not in ours]
        }


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """All of it for people."""
    told = [
        f"supervisor {name}: {one['rss']:.1f} MiB resident, {one['pss']:.1f} proportional, "
        f"{one['wakes_per_s']:.2f} wake-ups a second, {one['processor_s_per_h']:.1f} s of the "
        "processor an hour"
        for name, one in found.items()
    ]
    alone, beside = (set(one["imports"]) for one in found.values())
    more = ", ".join(sorted(beside - alone)) or "nothing"
    return [*told, f"beside serve it imports {more} more than alone"]

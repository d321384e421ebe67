"""Little programs of users, as files, and settings that put them under supervision."""

import sys
import textwrap

PYTHON = sys.executable

LEARNER = """
import json, os, pathlib, signal, sys, time
count, pause_s, saved = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
begin = 0
if "--resume" in sys.argv:
    begin = json.loads(pathlib.Path(sys.argv[sys.argv.index("--resume") + 1]).read_text())["epoch"]
    print("resumed from", begin)
for epoch in range(begin + 1, count + 1):
    time.sleep(pause_s)
    pathlib.Path(saved.replace("N", str(epoch))).write_text(json.dumps({"epoch": epoch}))
    print(f"epoch {epoch} loss {1 / epoch:.4f}")
"""
"""counts epochs and saves each: `N` in the name of the file is the epoch"""

EPOCHS = {
    "pattern": r"epoch (?P<epoch>\d+) loss (?P<loss>[\d.]+)",
    "score": "loss",
    "better": "lower",
}


def write(path, text, *, mode=0o755):
    """Write a program."""
    path.write_text(textwrap.dedent(text).lstrip())
    path.chmod(mode)
    return path


def learner(folder, count=100_000, pause_s=0.2, saved="ckpt-N.json", **options):
    """Options of a run of the learner, which lies in `folder`."""
    script = write(folder / "learner.py", LEARNER)
    return {
        "command": [PYTHON, str(script), str(count), str(pause_s), saved],
        "resume": ["--resume", "{checkpoint}"],
        "checkpoints": saved.replace("N", "*"),
        "progress": EPOCHS,
        **options,
    }

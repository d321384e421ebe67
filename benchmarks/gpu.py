#!/usr/bin/env python3
"""Whether all of this holds on a box with one NVIDIA card: one command of at most eight minutes.

    python benchmarks/gpu.py                      everything, and a table
    python benchmarks/gpu.py --json --save        for machines, and kept in benchmarks/gpu-results
    python benchmarks/gpu.py --without power      on a card whose settings are not yours to change
    python benchmarks/gpu.py readings memory      these parts alone
    python benchmarks/gpu.py --quick              the same with the least of everything

Each part is a process with a deadline: one that fails or hangs is told with its reason, and the
others go on. Without a card, or with one that is hidden (CUDA_VISIBLE_DEVICES=), what can be done
on the processor is done there. Exit code 0: every part that could run has passed.

    box        what torch sees
    readings   what our helper reads of the card, beside torch and nvidia-smi
    forms      samples learnt from per second in each form of the update, on the card and, as
               forms-cpu, on the processor
    resume     one run left alone, the same again, one that is killed and one that is stopped in
               the middle of an update and both gone on with: the largest difference of their
               weights and of the losses after that. 0 is exact; what two undisturbed runs differ
               by is what the card does by itself
    memory     a trainer that asks for more than there is, and trainers that find the card all but
               full: whether each says that it ran out of memory
    power      the power limit lowered through our helper, and put back; to be refused without
               rights is a result
    fork       trainers forked from a warm parent, one after the other, that train on the card
    shared     two runs at once beside one alone: steps per second of each
    games      light and medium beside stock Stable-Baselines3, and the games without learning,
               which is the most that any learner could reach

It needs no network, Python 3.11 or later, torch 2.6 or later, and of our dependencies msgspec,
nvidia-ml-py and transitions. Parts that need more say what; `pip download` fetches it elsewhere,
for the same Python. Only `games` plays games: the others learn from games of noise, with the real
learner where Stable-Baselines3 is installed, and with the bare network where it is not.
"""

# ruff: noqa: PLC0415 - a box may lack some of what is imported, and each part says what it needs

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent))  # where it is not there already
from gpu_lab import (
    CORES,
    LEARNER,
    LOOK_S,
    MIB,
    Card,
    Failed,
    Place,
    Told,
    Trainers,
    all_but,
    difference,
    end_of,
    in_container,
    missing,
    nvidia_smi,
    rates,
)

RESULTS = Path(__file__).with_name("gpu-results")
MARK = "GPU_BENCHMARK_PLACE"
"""environment variable of everything that is started here: the folder for temporary files"""
WHOLE_S = 480.0
TIDY_S = 10.0
"""for a part that is over its time to put back what it has changed"""
OUTPUT_MAX = 4000
"""letters of what a part that has failed has printed last, for `--json`"""
PLAYER = ("torch", "msgspec", "psutil", "transitions", "ale_py", "PIL")
"""what real games need beside that"""


# The parts


def box(told: Told, _: Place) -> None:
    """What torch sees: the other parts are told of it."""
    told.say("torch", importlib.metadata.version("torch"))
    told.say("card", None)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not any(Path("/dev").glob("nvidia*")) and not Path("/dev/dxg").exists():
        return  # no driver: to import torch would take seconds
    import torch

    told.say("CUDA", torch.version.cuda)
    if not torch.cuda.is_available():
        told.must(hidden, "there is a driver, and torch finds no card that it can use")
        return
    card = torch.cuda.get_device_properties(0)
    told.say("cuDNN", torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    told.say("card", card.name)
    told.say("card_mib", card.total_memory // MIB)
    told.say("uuid", str(getattr(card, "uuid", "")))
    told.say("capability", f"{card.major}.{card.minor}")
    told.say("cards", torch.cuda.device_count())


def readings(told: Told, place: Place) -> None:
    """What our helper reads of the card while it works, beside torch and nvidia-smi."""
    import torch

    held_mib = 256 if place.quick else 2048
    with Card(place) as card:
        before = card.read()
        held = torch.ones(held_mib * MIB, dtype=torch.uint8, device="cuda")
        factors = torch.randn(4096, 4096, device="cuda")
        until_s = time.monotonic() + (2.0 if place.quick else 6.0)
        while time.monotonic() < until_s:
            for _ in range(50):  # queued: the card works while it is read
                torch.mm(factors, factors)
            asked_s = time.monotonic()
            now = card.read()
            told.figure("one reading: ms", 1000 * (time.monotonic() - asked_s))
            smi = nvidia_smi(now.uuid)
            torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    cuda = {"name": torch.cuda.get_device_name(0), "memory.used": (total - free) // MIB}
    for ours, theirs, tolerance in (
        ("name", "name", None),
        ("memory_used_mib", "memory.used", 64),
        ("memory_total_mib", "memory.total", 2),
        ("utilization_percent", "utilization.gpu", math.inf),  # these two change in between
        ("power_w", "power.draw", math.inf),
        ("temperature_c", "temperature.gpu", 5),
        ("power_limit_w", "power.limit", 1),
    ):
        value, other = getattr(now, ours), smi.get(theirs)
        told.say(ours, f"{value}; nvidia-smi {other}; torch {cuda.get(theirs, '-')}")
        if value is None or other is None:
            # Some cards and containers do not tell; but then they tell nobody.
            told.must(value is not None or other is None, f"{ours} is not read: it is {other}")
            continue
        alike = value == other if tolerance is None else abs(value - float(other)) <= tolerance
        told.must(alike, f"{ours} is {value}, and nvidia-smi says {other}")
    # Of a part of a card, torch names the part after the card.
    alike = str(cuda["name"]).startswith(now.name or "?")
    told.must(alike, f"we read the card {now.name}, torch {cuda['name']}")
    told.must(now.utilization_percent != 0, "a card that works is read as idle")
    grown_mib = (now.memory_used_mib or 0) - (before.memory_used_mib or 0)
    told.must(grown_mib >= held_mib, f"{held_mib} MiB more were held, and {grown_mib} MiB read")
    told.say("pids", f"{now.pids}; ours is {os.getpid()}; nvidia-smi {smi.get('pids')}")
    if now.pids is not None and os.getpid() not in now.pids:
        # In a container NVML may give us the pid that we have outside, or none at all.
        told.must(in_container(), f"our pid {os.getpid()} is not among those read: {now.pids}")
    del held


def forms(told: Told, place: Place) -> None:
    """Samples learnt from per second in each form that the tuning tries, with each mode's batch."""
    import torch

    from trainers.attempt import limit_threads

    loads = _loads(place)
    limit_threads(max(threads for threads, _ in loads.values()))
    import gpu_trainer  # noqa: F401 - learns without emulators

    from trainers.atari import forms
    from trainers.atari.ppo import keep_freed_memory

    keep_freed_memory()
    for mode, (threads, batch_size) in loads.items():
        torch.set_num_threads(threads)
        models = {form: forms._model(form, batch_size) for form in forms.FORMS}
        until_s = time.monotonic() + 0.5 * place.seconds / len(loads)
        taken: dict[str, list[float]] = {form.convolutions: [] for form in models}
        rounds = 0
        while rounds < 2 or (time.monotonic() < until_s and not place.quick):
            for form, model in models.items():
                told.must(model.device.type == place.device, f"it learns on {model.device}")
                took_s = forms._cycle_s(model)
                if rounds:  # the first makes memory and kernels ready
                    taken[form.convolutions].append(batch_size / took_s)
            rounds += 1
        for convolutions, values in taken.items():
            told.figure(f"{mode}, {convolutions}: samples/s", *values)
    told.say("machine", forms.machine(model.device))


def resume(told: Told, place: Place) -> None:
    """How far a run that was killed, and one that was stopped, end from one left alone."""
    exact = _resumed(told, place, "", deterministic=False)
    if not exact and place.card_mib:
        _resumed(told, place, ", deterministic", deterministic=True)


def _resumed(told: Told, place: Place, how: str, *, deterministic: bool) -> bool:
    """Live the same run in four ways, and compare; whether all came to the same bits."""
    from trainers import contract

    ends = {"alone": "", "again": "", "killed": "kill", "stopped": "stop"}
    with Trainers(place) as trainers:
        told.say("learner", trainers.learner)
        folders = {
            name: trainers.folder(
                f"{name}-{deterministic}", 4, end_by=end_by, deterministic=deterministic
            )
            for name, end_by in ends.items()
        }
        lives = {name: trainers.start(folder) for name, folder in folders.items()}
        codes = {name: life.wait() for name, life in lives.items()}
        for name, due in {"alone": 0, "again": 0, "killed": -9, "stopped": 75}.items():
            if codes[name] != due:
                raise Failed(f"the run {name} has ended with {codes[name]}: {lives[name].error()}")
        for name in ("killed", "stopped"):
            spec = trainers.spec(folders[name])
            trainers.write(folders[name], spec, {**spec.options, "end_by": ""})
            lives[name] = trainers.start(folders[name])
        for name in ("killed", "stopped"):
            code, beat = lives[name].wait(), lives[name].beat()
            if code != contract.EXIT_DONE or beat is None or beat.began is None:
                raise Failed(f"the run {name} did not go on: {lives[name].error()}")
            told.say(f"{name} goes on from step{how}", beat.began.step)
            told.must(beat.began.step > 0, f"the run {name} began anew")
            for notice in beat.notices:
                told.must("not to the bit" not in notice, notice)
        ended = {name: end_of(folder) for name, folder in folders.items()}
    differences = {name: difference(ended["alone"], other) for name, other in ended.items()}
    for name in ("again", "killed", "stopped"):
        weights, losses = differences[name]
        told.say(f"{name}{how}, largest difference of weights", weights)
        told.say(f"{name}{how}, largest difference of losses", losses)
    by_itself = differences["again"][0]
    for name in ("killed", "stopped"):
        # Where the card does not repeat itself, neither can a run: then ten times that is far.
        far = differences[name][0] > 10 * by_itself
        told.must(
            not far, f"the run {name} differs{how} by {differences[name][0]:g} in its weights"
        )
    return not any(map(any, differences.values()))


def memory(told: Told, place: Place) -> None:
    """Whether trainers that find too little memory say that it was memory."""
    from trainers import contract

    with Trainers(place) as trainers:
        ask_mib = place.card_mib + 1024 if place.card_mib else 2**30
        life = trainers.start(trainers.folder("greedy", 2, ask_mib=ask_mib))
        code, beat = life.wait(), life.beat()
        told.say("asks for more than there is", life.error())
        told.must(code == contract.EXIT_AGAIN, f"it has ended with {code}")
        told.must(beat and beat.status == "failed", "its last heartbeat is none of a failure")
        told.must(beat and beat.out_of_memory, "it does not say that it was memory")
        told.must(not (beat and beat.of_the_machine), "it blames the machine beside")
        for room_mib in (64, 500, 700) if place.card_mib else ():
            with all_but(room_mib):
                life = trainers.start(trainers.folder(f"room-{room_mib}", 2))
                code, beat = life.wait(), life.beat()
            what = f"finds {room_mib} MiB free"
            told.say(what, "trains" if code == contract.EXIT_DONE else life.error())
            told.must(
                code == contract.EXIT_DONE or (beat and beat.out_of_memory),
                f"{what}: ends with {code} and does not say that it was memory: {life.error()}",
            )
        after = trainers.start(trainers.folder("after", 2)).wait()
        told.must(after == contract.EXIT_DONE, f"a run after these has ended with {after}")


def power(told: Told, place: Place) -> None:
    """The power limit lowered by a tenth through our helper, and put back."""
    with Card(place) as card:
        limits_w = {gpu.power_limit_w for gpu in card.read_all()}
        before_w = limits_w.pop()
        if before_w is None or limits_w:
            raise Failed("the cards tell no power limit, or not the same: nothing is asked for")
        told.say("before", f"{before_w:g} W")
        asked_w = round(0.9 * before_w)
        try:
            refused = card.limit(asked_w)
            during_w = card.read().power_limit_w
        finally:
            trouble = card.limit(before_w)
        after_w = card.read().power_limit_w
    told.say("asked for", f"{asked_w} W")
    told.say("came to", f"refused: {refused}" if refused else f"{during_w} W")
    told.say("after", f"{after_w} W")
    lowered = during_w is not None and during_w < before_w
    told.must(lowered != bool(refused), f"the limit is {during_w} W after the answer {refused}")
    told.must(after_w == before_w, f"it was {before_w} W and is {after_w} W: {trouble}")


def fork(told: Told, place: Place) -> None:
    """Trainers forked from a warm parent that train on the card, one after the other."""
    with Trainers(place, warm=True) as trainers:
        told.say("learner", trainers.learner)
        touched = trainers.touched()
        told.must(not touched, f"the warm parent has opened {touched}")
        for turn in range(2 if place.quick else 4):
            forked_s = time.monotonic()
            life = trainers.start(trainers.folder(f"forked-{turn}", 2))
            code, beat = life.wait(), life.beat()
            told.must(code == 0, f"a forked trainer has ended with {code}: {life.error()}")
            if code == 0 and beat and beat.stepping_at_s:
                told.figure("from the fork to the first step: s", beat.stepping_at_s - forked_s)
        touched = trainers.touched()
        told.must(not touched, f"the warm parent has opened {touched} after forks")


def shared(told: Told, place: Place) -> None:
    """Steps per second of one run alone, and of each of two at once."""
    window_s = 0.5 if place.quick else 6.0
    with Trainers(place) as trainers:
        told.say("learner", trainers.learner)
        first = trainers.start(trainers.folder("first", 10**6))
        told.figure("one alone: steps/s", *rates([first], window_s))
        second = trainers.start(trainers.folder("second", 10**6))
        told.figure("each of two: steps/s", *rates([first, second], window_s))
        if place.card_mib and not missing(("pynvml",)):
            with Card(place) as card:
                told.figure("memory of the card with two: MiB", card.read().memory_used_mib or 0)
        for life in (first, second):
            life.send(signal.SIGTERM)
        for life in (first, second):
            told.must(life.wait() == 75, f"a run that shares did not stop well: {life.error()}")


def games(told: Told, place: Place) -> None:
    """Light and medium beside stock, and the games without learning."""
    import atari as beside_stock
    import msgspec

    from modes import load_ladder

    until_s = time.monotonic() + 0.9 * place.seconds
    for kind in ("exact",) if place.quick else ("exact", "raw"):
        n_envs, for_s = (4, 0.5) if place.quick else (32, 4.0)
        taken = beside_stock.environments(kind, n_envs, for_s, CORES)
        told.figure(f"games alone, {kind}: steps/s", sum(rate for _, rate in taken))
    who = {"ours": beside_stock.start_ours}
    if lacking := missing(("cv2",)):
        told.say("stock", f"left out: it needs {lacking}")
    elif not place.quick:
        who["stock"] = beside_stock.start_stock
    modes = [*load_ladder()]
    if place.quick:
        modes = [
            msgspec.structs.replace(
                modes[0], slots=1, load={"atari": {"n_envs": 4, "batch_size": 16}}
            )
        ]
    cycle = 16 if place.quick else 4096 if place.card_mib else 512
    took_s: dict[str, float] = {}
    """by who trained; the heavier mode, which comes next, may take three times that"""
    for turn in range(1 if place.quick else 5):
        for mode in modes:
            for name, start in who.items():
                began_s = time.monotonic()
                if began_s + 3 * took_s.get(name, 0.0) > until_s:
                    if not turn:
                        told.say(f"{mode.name}, {name}", "left out: no time is left for it")
                    continue
                rate, _ = beside_stock.turn(start, mode, cycle)
                took_s[name] = time.monotonic() - began_s
                told.figure(f"{mode.name}, {name}: steps/s", rate)


class Part(NamedTuple):
    """One part, and what it takes."""

    run: Callable[[Told, Place], None]
    budget_s: float
    needs: tuple[str, ...] = ("torch", "msgspec")
    """modules"""
    card: bool = False
    """whether it means nothing without a card"""
    hides_card: bool = False
    """whether it is about the processor, whatever there is"""


PARTS = {
    "box": Part(box, 60, ("torch",)),  # a first import of torch, from a cold disk
    "readings": Part(readings, 30, ("torch", "msgspec", "pynvml"), card=True),
    "forms": Part(forms, 40, ("torch", "msgspec", *LEARNER), card=True),
    "forms-cpu": Part(forms, 40, ("torch", "msgspec", *LEARNER), hides_card=True),
    "resume": Part(resume, 75),
    "memory": Part(memory, 60),
    "power": Part(power, 15, ("torch", "msgspec", "pynvml"), card=True),
    "fork": Part(fork, 30, ("torch", "msgspec", "transitions")),
    "shared": Part(shared, 45),
    "games": Part(games, 95, (*PLAYER, *LEARNER)),
}


def _loads(place: Place) -> dict[str, tuple[int, int]]:
    """Threads and samples per gradient step that each mode lays upon a trainer."""
    from modes import load_ladder

    if place.quick:
        return {"small": (1, 32)}
    return {
        mode.name: (max(1, CORES // mode.slots), mode.load_of("atari")["batch_size"])
        for mode in load_ladder()
    }


# One part after the other


def main() -> None:
    """Run the parts, and print what they found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    parser.add_argument("--without", action="append", choices=PARTS, default=[], metavar="PART")
    parser.add_argument("--quick", action="store_true", help="the least of everything")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--save", action="store_true", help=f"keep it in {RESULTS.name}/")
    options = parser.parse_args()
    if options.quick and options.save:
        parser.error("what is measured with --quick is not worth keeping: leave out one of both")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up, as Ctrl-C does
    names = [name for name in options.parts or PARTS if name not in options.without]
    with tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as folder:
        try:
            found = measure(names, Path(folder), quick=options.quick)
        finally:
            sweep(folder)
    result = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "cores": CORES,
        "quick": options.quick,
        "parts": found,
    }
    print(json.dumps(result, indent=1) if options.json else table(result))
    card = found["box"]["words"].get("card")
    if options.save and card is None:
        print("it is not kept: there is no card that it would be about", file=sys.stderr)
    elif options.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{re.sub('[^A-Za-z0-9]+', '-', card)}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(any(part["verdict"] == "failed" for part in found.values()))


def measure(names: Sequence[str], folder: Path, *, quick: bool) -> dict[str, dict[str, Any]]:
    """What each part has found; the box is always looked at, since the others depend on it."""
    end_s = time.monotonic() + WHOLE_S - TIDY_S
    found: dict[str, dict[str, Any]] = {}
    words: dict[str, Any] = {}
    for name in dict.fromkeys(("box", *names)):
        part = PARTS[name]
        card_mib = 0 if part.hides_card else words.get("card_mib", 0)
        if lacking := missing(part.needs):
            found[name] = _left_out(f"it needs {lacking}")
        elif part.card and not card_mib:
            found[name] = _left_out("it needs a card")
        else:
            # What is quick may be so beside other programs, too.
            seconds = min(part.budget_s * (3 if quick else 1), end_s - time.monotonic())
            place = Place(str(folder), seconds, quick, card_mib, words.get("uuid", ""))
            command = [sys.executable, __file__, "as", "part", name, json.dumps(place)]
            hidden = {"CUDA_VISIBLE_DEVICES": ""} if part.hides_card else {}
            found[name] = watch(command, folder / f"{name}.json", seconds, hidden)
        words = found["box"]["words"]
        print(f"{name}: {found[name]['verdict']} {found[name]['why']}", file=sys.stderr, flush=True)
    return found


def watch(
    command: Sequence[str], told: Path, seconds: float, environment: dict[str, str]
) -> dict[str, Any]:
    """What one part has found, which is a process that writes it to `told` as it goes.

    Whatever it leaves behind is ended.
    """
    began_s = time.monotonic()
    folder, output = told.parent, told.with_suffix(".output")
    environment = os.environ | {MARK: str(folder)} | environment
    with output.open("wb") as screen:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen
        )
    why = ""
    try:
        code = process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        why = f"it was not over within {seconds:.0f} s"
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TIDY_S)
        code = None
    left = sweep(str(folder))
    found: dict[str, Any] = {"figures": {}, "words": {}, "faults": [], "over": False}
    with contextlib.suppress(OSError):
        found = json.loads(told.read_text())
    if not why and (code or not found["over"]):
        lines = output.read_text(errors="replace").strip().splitlines()
        why = f"it has ended with {code}: {lines[-1] if lines else 'it has said nothing'}"
    if left:
        why = "; ".join(filter(None, (why, f"processes cannot be ended: {left}: needs a reboot")))
    faults = "; ".join(filter(None, (why, *found.pop("faults"))))
    found.pop("over")
    took_s = round(time.monotonic() - began_s, 1)
    if not faults:
        return {"verdict": "passed", "why": "", "seconds": took_s, **found}
    last = output.read_text(errors="replace")[-OUTPUT_MAX:]
    return {"verdict": "failed", "why": faults, "seconds": took_s, **found, "output": last}


def _left_out(why: str) -> dict[str, Any]:
    return {"verdict": "left out", "why": why, "seconds": 0.0, "figures": {}, "words": {}}


def sweep(folder: str) -> list[int]:
    """End what a part has left behind, under whatever parent; what a driver holds fast is told."""
    mark = f"{MARK}={folder}\0".encode()
    until_s = time.monotonic() + 5
    while True:
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    left.append(int(entry.name))
                    os.kill(left[-1], signal.SIGKILL)
        if not left or time.monotonic() > until_s:
            return left
        time.sleep(LOOK_S)


def _be_part(name: str, place: str) -> None:
    """Be one part, in a process of its own."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # puts back what it has changed
    here = Place(*json.loads(place))
    told = Told(Path(here.folder) / f"{name}.json")
    try:
        PARTS[name].run(told, here)
    except Failed as failed:
        told.must(holds=False, fault=str(failed))
    told.over()


def table(result: dict[str, Any]) -> str:
    """All of it for people: medians with their spread, then what each part has to say."""
    lines = []
    for name, part in result["parts"].items():
        lines.append(f"{name:10} {part['verdict']:9} {part['seconds']:5.1f} s  {part['why']}")
        for what, values in part["figures"].items():
            lines.append(f"  {what:44} {_spread(values)}")
        lines += [f"  {what:44} {value}" for what, value in part["words"].items()]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    median = statistics.median(values)
    digits = 0 if median >= 100 else 2
    text = f"{median:10.{digits}f}"
    if len(values) > 1:
        text += f"  ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text


if __name__ == "__main__":
    if sys.argv[1:3] == ["as", "part"]:
        _be_part(*sys.argv[3:])
    else:
        main()

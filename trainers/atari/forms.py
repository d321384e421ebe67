"""Which form of PPO's update is the quickest on this machine, found by a short trial of each.

Importing this module imports torch.
"""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import msgspec
import numpy as np
import torch

from trainers.atari.env import AtariGames
from trainers.atari.game import OBSERVATION, Step
from trainers.atari.ppo import N_EPOCHS, Form, Ppo, keep_freed_memory
from trainers.contract import Spec, Tuning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainers.atari.options import Load

TRIAL_S = 16.0
"""of all trials together, at least three of each form"""
MARGIN = 0.97
"""share of the default's time that another form must stay below to be chosen"""
N_GAMES = 32
PROCESSOR_DEVICE = "processor"
"""what the device is called where it is no GPU"""
PROCESSOR = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
"""fields of /proc/cpuinfo that name a processor"""
FORMS = tuple(
    Form(convolutions=layout) for layout in get_args(get_type_hints(Form)["convolutions"])
)


def probe(loads: Sequence[tuple[int, int]]) -> list[Tuning]:
    """Try each form with each load for a while, in turn, so that a disturbance meets all.

    Args:
        loads: threads and samples per gradient step.
    """
    keep_freed_memory()
    return [_probe(*load, TRIAL_S / len(loads)) for load in loads]


def found_for(spec: Spec, load: Load) -> Tuning | None:
    """What was found under the load of a run; None: nothing."""
    under = _under(spec.threads, load.batch_size)
    return next((tuning for tuning in spec.tunings if tuning.load == under), None)


def form_of(tuning: Tuning | None, device: torch.device) -> tuple[Form, str | None]:
    """The form that a tuning chose, or the default and why the choice does not hold here."""
    if tuning is None:
        return Form(), None
    here = machine(device)
    differs = [
        f"{what} {now}, not {tuning.machine.get(what, 'known')}"
        for what, now in here.items()
        if tuning.machine.get(what) != now
    ]
    device_then = tuning.machine.get("device", here["device"])
    if device_then != here["device"] and PROCESSOR_DEVICE in (device_then, here["device"]):
        # A run that is to use another kind of device than trials do: nobody could mend that.
        return Form(), None
    if differs:
        return Form(), f"what `supervisor tune` chose is not for this machine: {'; '.join(differs)}"
    try:
        return msgspec.convert(tuning.choice, Form), None
    except msgspec.ValidationError as error:
        return Form(), f"what `supervisor tune` chose cannot be used: {error}"


def machine(device: torch.device) -> dict[str, str]:
    """What a choice depends on."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    fields = (line.partition(":") for line in first.splitlines())
    told = {name.strip(): value.strip() for name, _, value in fields}
    names = [told[key] for key in PROCESSOR if key in told]
    # Kernels are chosen by what a processor can do, and a virtual one may hide its true name.
    abilities = " ".join(sorted(told.get("flags", told.get("Features", "")).split()))
    return {
        "processor": f"{' '.join(names) or 'unknown'} ({zlib.crc32(abilities.encode()):08x})",
        "torch": str(torch.__version__),
        "device": _name(device),
    }


def _name(device: torch.device) -> str:
    """What calculates: cards of one name may differ in size, and libraries choose by both."""
    if device.type != "cuda":
        return PROCESSOR_DEVICE
    card = torch.cuda.get_device_properties(device)
    tf32 = "with" if torch.backends.cudnn.allow_tf32 else "without"
    return (
        f"{card.name}, {card.multi_processor_count} multiprocessors, "
        f"cuDNN {torch.backends.cudnn.version()} {tf32} TF32"  # type: ignore[no-untyped-call]
    )


def _under(threads: int, batch_size: int) -> dict[str, int]:
    """What the quickest form depends on, beside the machine."""
    return {"threads": threads, "batch_size": batch_size}


def _probe(threads: int, batch_size: int, trial_s: float) -> Tuning:
    torch.set_num_threads(threads)
    models = {form: _model(form, batch_size) for form in FORMS}
    best_s = dict.fromkeys(FORMS, float("inf"))
    rounds, begun_s = 0, time.monotonic()
    while rounds < 3 or time.monotonic() - begun_s < trial_s:
        for form, model in models.items():
            took_s = _cycle_s(model)
            # The first of each makes memory and kernels ready. Of the others the quickest counts:
            # whatever else the machine does can only make them slower.
            if rounds:
                best_s[form] = min(best_s[form], took_s)
        rounds += 1
    default = Form()
    quickest = min(FORMS, key=best_s.__getitem__)
    chosen = quickest if best_s[quickest] < MARGIN * best_s[default] else default
    return Tuning(
        load=_under(threads, batch_size),
        machine=machine(models[default].device),
        choice=msgspec.structs.asdict(chosen),
        took_s={form.convolutions: round(best_s[form], 4) for form in FORMS},
    )


class _Noise:
    """Games of noise without points or ends: an update takes the same time on any pictures."""

    n_games = N_GAMES
    n_actions = 18

    def reset(self) -> NDArray[np.uint8]:
        shape = (N_GAMES, *OBSERVATION)
        return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)

    def send(self, actions: NDArray[np.int64]) -> None:
        """No action changes what comes."""

    def receive(self) -> Step:
        never = np.zeros(N_GAMES, np.bool_)
        return Step(self.reset(), np.zeros(N_GAMES, np.float32), never, never, {}, {})

    def screen(self) -> NDArray[np.uint8]:
        newest: NDArray[np.uint8] = self.reset()[0, -1]
        return newest

    def close(self) -> None:
        """Nothing is held."""


def _model(form: Form, batch_size: int) -> Ppo:
    """A model with a rollout of one minibatch in its buffer."""
    n_steps = max(2, batch_size // N_GAMES)
    games = _Noise()
    model = Ppo(
        AtariGames(games),
        form=form,
        initialise=True,
        n_steps=n_steps,
        batch_size=n_steps * N_GAMES,
        n_epochs=1,
        seed=1,
    )
    zeros = torch.zeros(N_GAMES)
    for _ in range(n_steps):
        model.rollout_buffer.add(
            games.reset(),
            np.zeros((N_GAMES, 1), np.int64),
            np.zeros(N_GAMES, np.float32),
            np.zeros(N_GAMES, np.bool_),
            zeros,
            zeros,
        )
    model.rollout_buffer.compute_returns_and_advantage(zeros, np.ones(N_GAMES, np.bool_))
    return model


def _cycle_s(model: Ppo) -> float:
    """How long a gradient step takes, and its share of the play before."""
    observations = torch.from_numpy(_Noise().reset())
    ((minibatch,),) = ([*epoch] for epoch in model.rollout_buffer.minibatches(model.batch_size, 1))
    begun_s = time.perf_counter()
    with torch.no_grad():
        for _ in range(max(1, model.n_steps // N_EPOCHS)):
            model.policy(observations.to(model.device))
    model.update(minibatch, clip_range=0.1)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun_s

"""A plain loop of torch: on from the newest checkpoint, and `torch.save` every 90 s.

torchrun torch_loop.py FOLDER
"""

import os
import sys
import time
from pathlib import Path

import torch

SAVE_S, TELL_S = 90.0, 1.0

torch.set_num_threads(1)  # the quickest for so small a network
folder = Path(sys.argv[1])
checkpoints = folder / "checkpoints"
checkpoints.mkdir(exist_ok=True)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 1))
optimizer = torch.optim.Adam(model.parameters())
step = 0
newest = max(checkpoints.glob("*.pt"), key=os.path.getmtime, default=None)
if newest is not None:
    held = torch.load(newest)
    model.load_state_dict(held["model"])
    optimizer.load_state_dict(held["optimizer"])
    step = held["step"]
saved_s = told_s = time.monotonic()
with (folder / "steps.log").open("a") as log:
    while True:
        rows = torch.randn(256, 64)
        loss = torch.nn.functional.mse_loss(model(rows), rows.sum(1, keepdim=True).sin())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        now_s = time.monotonic()
        if now_s - told_s >= TELL_S:
            told_s = now_s
            print(step, loss.item(), file=log, flush=True)
        if now_s - saved_s >= SAVE_S:
            saved_s = now_s
            held = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(held, checkpoints / f"{step}.pt")

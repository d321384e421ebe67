"""CartPole by PPO, as the pages of Stable-Baselines3 have it: on from the newest checkpoint.

python cartpole.py FOLDER STEPS_BETWEEN_CHECKPOINTS
"""

import os
import sys
from pathlib import Path

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

torch.set_num_threads(1)  # the quickest for so small a network
folder, save_steps = Path(sys.argv[1]), int(sys.argv[2])
checkpoints = folder / "checkpoints"
env = make_vec_env("CartPole-v1")
newest = max(checkpoints.glob("*.zip"), key=os.path.getmtime, default=None)
if newest is None:
    model = PPO("MlpPolicy", env, device="cpu")
else:
    model = PPO.load(newest, env, device="cpu")
model.set_logger(configure(str(folder), ["csv"]))
model.learn(10**9, CheckpointCallback(save_steps, str(checkpoints)), reset_num_timesteps=False)

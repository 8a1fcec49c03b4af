"""Environments: two small hard ones, and what turns any Gymnasium environment into batches for an agent.

Importing this package registers `bayesrl/DeepSea-v0` and `bayesrl/RiverSwim-v0`.
"""

import gymnasium as gym

from bayesrl.envs.check import EnvError, check
from bayesrl.envs.deep_sea import DeepSea, DeepSeaVector
from bayesrl.envs.make import make
from bayesrl.envs.river_swim import RiverSwim
from bayesrl.envs.single import single
from bayesrl.envs.spaces import Layout, flatten, layout
from bayesrl.envs.state import capture, restore
from bayesrl.envs.workers import WorkerError, describe_dead_worker

__all__ = [
    "DeepSea", "DeepSeaVector", "EnvError", "Layout", "RiverSwim", "WorkerError", "capture", "check",
    "describe_dead_worker", "flatten", "layout", "make", "restore", "single",
]  # fmt: skip

if "bayesrl/DeepSea-v0" not in gym.registry:
    gym.register(
        "bayesrl/DeepSea-v0",
        entry_point="bayesrl.envs.deep_sea:DeepSea",
        vector_entry_point="bayesrl.envs.deep_sea:DeepSeaVector",
    )
if "bayesrl/RiverSwim-v0" not in gym.registry:
    gym.register("bayesrl/RiverSwim-v0", entry_point="bayesrl.envs.river_swim:RiverSwim", max_episode_steps=120)

"""Environments: small hard ones, and what turns any Gymnasium environment into batches for an agent.

Importing this package registers the ids in `OURS`, such as `bayesrl/DeepSea-v0`.
"""

import gymnasium as gym

from bayesrl.envs.checker.check import check
from bayesrl.envs.errors import EnvError
from bayesrl.envs.spaces import ObservationLayout, flatten, observation_layout
from bayesrl.envs.state import load_state, save_state
from bayesrl.envs.tasks.bandits import LinearBandit, LinearBanditVector, LogisticBandit, LogisticBanditVector
from bayesrl.envs.tasks.catch import Catch
from bayesrl.envs.tasks.deep_sea import DeepSea, DeepSeaVector
from bayesrl.envs.tasks.memory import Memory
from bayesrl.envs.tasks.noisy_features import NoisyFeatures
from bayesrl.envs.tasks.river_swim import RiverSwim
from bayesrl.envs.tasks.tensor_classic import (
    TensorAcrobot,
    TensorCartPole,
    TensorContinuousMountainCar,
    TensorMountainCar,
    TensorPendulum,
)
from bayesrl.envs.tasks.tensor_continuous import (
    CartPoleSwingUp,
    ContinuousCartPole,
    NoisyPendulum,
    SparseCartPoleSwingUp,
    SparsePendulum,
)
from bayesrl.envs.tasks.tensor_tabular import TensorDeepSea, TensorRiverSwim
from bayesrl.envs.tasks.wheel import Wheel, WheelVector
from bayesrl.envs.vector.adapters import Numpy, Single
from bayesrl.envs.vector.make import make
from bayesrl.envs.vector.noise import normal
from bayesrl.envs.vector.single import single
from bayesrl.envs.vector.tensor_env import DEVICE, TensorEnv
from bayesrl.envs.vector.worker import WorkerError
from bayesrl.envs.vector.workers import Workers
from bayesrl.envs.wrappers import FrameStack, ScaleReward, Wrapped

__all__ = [
    "DEVICE", "OURS", "CartPoleSwingUp", "Catch", "ContinuousCartPole", "DeepSea", "DeepSeaVector", "EnvError",
    "FrameStack", "LinearBandit", "LinearBanditVector", "LogisticBandit", "LogisticBanditVector", "Memory",
    "NoisyFeatures", "NoisyPendulum", "Numpy", "ObservationLayout", "RiverSwim", "ScaleReward", "Single",
    "SparseCartPoleSwingUp", "SparsePendulum", "TensorAcrobot", "TensorCartPole", "TensorContinuousMountainCar",
    "TensorDeepSea", "TensorEnv", "TensorMountainCar", "TensorPendulum", "TensorRiverSwim", "Wheel", "WheelVector",
    "WorkerError", "Workers", "Wrapped", "check", "flatten", "load_state", "make", "normal", "observation_layout",
    "save_state", "single",
]  # fmt: skip

# id: a class "module:Name" or None, its native vector version or None, steps until truncation or None
OURS = {
    "bayesrl/Atari-v0": ("atari:Atari", None, None),
    "bayesrl/CartPoleSwingUp-v0": (None, "tensor_continuous:CartPoleSwingUp", None),
    "bayesrl/Catch-v0": ("catch:Catch", None, None),
    "bayesrl/ContinuousCartPole-v0": (None, "tensor_continuous:ContinuousCartPole", None),
    "bayesrl/DeepSea-v0": ("deep_sea:DeepSea", "deep_sea:DeepSeaVector", None),
    "bayesrl/LinearBandit-v0": ("bandits:LinearBandit", "bandits:LinearBanditVector", None),
    "bayesrl/LogisticBandit-v0": ("bandits:LogisticBandit", "bandits:LogisticBanditVector", None),
    "bayesrl/Memory-v0": ("memory:Memory", None, None),
    "bayesrl/NoisyCartPole-v0": ("noisy_features:noisy_cartpole", None, 500),
    "bayesrl/NoisyPendulum-v0": (None, "tensor_continuous:NoisyPendulum", None),
    "bayesrl/RiverSwim-v0": ("river_swim:RiverSwim", None, 120),
    "bayesrl/SparseCartPoleSwingUp-v0": (None, "tensor_continuous:SparseCartPoleSwingUp", None),
    "bayesrl/SparsePendulum-v0": (None, "tensor_continuous:SparsePendulum", None),
    "bayesrl/Wheel-v0": ("wheel:Wheel", "wheel:WheelVector", None),
}

# id: its version in tensors, chosen by `make(vectorization="device")`; limits come from the registration
DEVICE |= {
    "Acrobot-v1": TensorAcrobot,
    "CartPole-v0": TensorCartPole,
    "CartPole-v1": TensorCartPole,
    "MountainCar-v0": TensorMountainCar,
    "MountainCarContinuous-v0": TensorContinuousMountainCar,
    "Pendulum-v1": TensorPendulum,
    "bayesrl/DeepSea-v0": TensorDeepSea,
    "bayesrl/RiverSwim-v0": TensorRiverSwim,
}

for _id, (_one, _vector, _limit) in OURS.items():
    if _id not in gym.registry:
        gym.register(
            _id,
            entry_point=None if _one is None else f"bayesrl.envs.tasks.{_one}",
            vector_entry_point=None if _vector is None else f"bayesrl.envs.tasks.{_vector}",
            max_episode_steps=_limit,
        )

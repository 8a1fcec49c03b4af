"""Environments in tensors beside Gymnasium's vector CartPole: `python tests/benchmarks/stepping.py [device] [sizes]`.

Transitions with random actions for each second of one core, or on a GPU for each second; the reset steps of
Gymnasium's, which are no transitions, are not counted. One thread; rounds are interleaved, so that a machine that slows
down slows them all; medians over rounds, and of each round's ratio to Gymnasium's with as many environments.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch

from bayesrl.envs import DeepSeaVector, TensorCartPole, TensorDeepSea, TensorEnv
from bayesrl.training.device_vector_env import DeviceVectorEnvAdapter
from bayesrl.training.vector_env import VectorEnvAdapter

ROUNDS, STEPS, SIZES = 21, 60, (64, 256, 1024, 8192, 65536)
BASE = "Gymnasium's vector CartPole"
Step = Callable[[int], float]  # the i-th step -> a share of it that is transitions


def arrays(env: gym.vector.VectorEnv, actions: list[np.ndarray]) -> Step:
    env.reset(seed=0)

    def step(i: int) -> float:
        env.step(actions[i])
        return 1.0

    return step


def late(env: gym.vector.VectorEnv, actions: list[np.ndarray]) -> Step:
    """With resets in the step after an end: those are left out."""
    env.reset(seed=0)
    done = np.zeros(env.num_envs, dtype=bool)

    def step(i: int) -> float:
        nonlocal done
        share = 1 - done.mean()
        _, _, terminated, truncated, _ = env.step(actions[i])
        done = terminated | truncated
        return float(share)

    return step


def tensors(env: TensorEnv, actions: list[torch.Tensor], captured: bool) -> Step:
    env.reset(seed=0)
    if captured:
        env.capture()
        env.reset(seed=0)

    def step(i: int) -> float:
        env.step(actions[i])
        return 1.0

    return step


def rollout(envs: VectorEnvAdapter, actions: list[torch.Tensor], captured: bool) -> Step:
    """As training steps it: agents' observations, transitions, tallies of episodes."""
    envs.reset(seed=0)
    if captured and isinstance(envs, DeviceVectorEnvAdapter):
        envs.capture()

    def step(i: int) -> float:
        envs.step(actions[i])
        return 1.0

    return step


def main(device: str = "cpu", *sizes: str) -> None:
    torch.set_num_threads(1)
    on_gpu = torch.device(device).type == "cuda"
    wait, clock = (torch.cuda.synchronize, time.perf_counter) if on_gpu else (lambda: None, time.process_time)
    print(f"{'environments':>12} | {'what':46} | transitions/s | ratio")
    for E in map(int, sizes or SIZES):
        rng = np.random.default_rng(0)
        host = [rng.integers(0, 2, E) for _ in range(STEPS)]
        given = [torch.from_numpy(action).to(device) for action in host]
        native = gym.make_vec("CartPole-v1", E, "vector_entry_point")
        beside = gym.make_vec("CartPole-v1", E, "vector_entry_point")
        steps: dict[str, Step] = {
            BASE: late(native, host),
            "CartPole in tensors, captured": tensors(TensorCartPole(E, device=device), given, True),
            "CartPole in tensors, eager": tensors(TensorCartPole(E, device=device), given, False),
            "DeepSea-10 in tensors, captured": tensors(TensorDeepSea(E, device=device), given, True),
            "DeepSea-10 in tensors, eager": tensors(TensorDeepSea(E, device=device), given, False),
            "DeepSea-10 in arrays": arrays(DeepSeaVector(E), host),
            "Gymnasium's vector CartPole, rollout": rollout(VectorEnvAdapter(beside, 0.99, device), given, False),
            "CartPole in tensors, rollout, captured": rollout(
                DeviceVectorEnvAdapter(TensorCartPole(E, device=device), 0.99), given, True
            ),
            "DeepSea-10 in tensors, rollout, captured": rollout(
                DeviceVectorEnvAdapter(TensorDeepSea(E, device=device), 0.99), given, True
            ),
        }
        count = max(6, min(STEPS, STEPS * 1024 // E))
        for step in steps.values():
            for i in range(3):
                step(i)
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                wait()
                begin, made = clock(), 0.0
                for i in range(count):
                    made += step(i)
                wait()
                rates[name].append(E * made / (clock() - begin))
        for name, values in rates.items():
            ratio = statistics.median(value / base for value, base in zip(values, rates[BASE], strict=True))
            print(f"{E:12,} | {name:46} | {statistics.median(values):13,.0f} | {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

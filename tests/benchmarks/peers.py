"""Plain deep Q-learning to compare with: by hand in torch, in the manner of CleanRL, and Stable-Baselines3's.

All of MLP 128-128, batch 128 and Adam. Stable-Baselines3 comes with `pip install -e ".[bench]"`.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from bayesrl.compilation.capture import CapturedGraph
from bayesrl.optim import Adam

if find_spec("stable_baselines3") is None:
    sys.exit('got no stable_baselines3, wanted it to compare with: pip install -e ".[bench]"')


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))


class Plain(nn.Module):
    """Double DQN by hand, as single files write it: 1,000 transitions, a Polyak target.

    Arguments:
        optimizer: parameters -> torch optimizer; torch's own cannot be captured on a CPU.
    """

    def __init__(self, optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam) -> None:
        super().__init__()
        self.q = network()
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.optimizer = optimizer(list(self.q.parameters()), lr=5e-4)
        self.obs, self.after = torch.randn(1000, 4), torch.randn(1000, 4)
        self.action, self.reward = torch.randint(2, (1000, 1)), torch.randn(1000)
        self.going = (torch.rand(1000) > 0.05).float()

    def update(self, index: Tensor) -> Tensor:
        """Of the transitions `index` [B]; returns the loss, 0-d."""
        with torch.no_grad():
            best = self.q(self.after[index]).argmax(1, keepdim=True)
            value = self.target(self.after[index]).gather(1, best)[:, 0]
            y = self.reward[index] + 0.99 * self.going[index] * value
        loss = nn.functional.mse_loss(self.q(self.obs[index]).gather(1, self.action[index])[:, 0], y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.q.parameters(), strict=True):
                old.lerp_(new, 0.01)
        return loss.detach()

    def get_extra_state(self) -> dict:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict) -> None:
        self.optimizer.load_state_dict(state)


def plain() -> Callable[[], Any]:
    peer = Plain()
    return lambda: peer.update(torch.randint(1000, (128,)))


def plain_compiled() -> Callable[[], Any]:
    """The same update compiled as ours are."""
    peer = Plain(Adam)
    call = CapturedGraph(peer.update, peer, torch.zeros(128, dtype=torch.int64))
    call.compile()
    return lambda: call(torch.randint(1000, (128,)))


def stable_baselines3(num_envs: int = 1) -> Any:
    """Its DQN on CartPole-v1, one update for each transition."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    settings: dict[str, Any] = {"train_freq": 1, "gradient_steps": -1, "batch_size": 128, "learning_starts": 500}
    settings |= {"tau": 0.01, "target_update_interval": 1, "learning_rate": 5e-4, "buffer_size": 100_000}
    policy = {"net_arch": [128, 128]}
    return DQN("MlpPolicy", make_vec_env("CartPole-v1", num_envs), policy_kwargs=policy, device="cpu", **settings)


def cleanrl() -> Iterator[int]:
    """A DQN on CartPole-v1 in the manner of CleanRL's single file, one update each transition; a step at each next."""
    from stable_baselines3.common.buffers import ReplayBuffer  # which that file uses a copy of

    envs = gym.vector.SyncVectorEnv(
        [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))],
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    q = network()
    target = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), lr=5e-4)
    memory = ReplayBuffer(100_000, envs.single_observation_space, envs.single_action_space, "cpu")
    obs, _ = envs.reset(seed=0)
    step = 0
    while True:
        epsilon = max(1 - step / 5000 * 0.95, 0.05)
        if np.random.rand() < epsilon:
            action = np.array([envs.single_action_space.sample()])
        else:
            action = q(torch.tensor(obs)).argmax(1).numpy()
        after, reward, terminated, truncated, infos = envs.step(action)
        final = after.copy()
        for i in np.flatnonzero(terminated | truncated):
            final[i] = infos["final_obs"][i]
        memory.add(obs, final, action, reward, terminated, [{}])
        obs, step = after, step + 1
        if step > 500:
            data = memory.sample(128)
            with torch.no_grad():
                best = target(data.next_observations).max(1).values
                y = data.rewards.flatten() + 0.99 * best * (1 - data.dones.flatten())
            loss = nn.functional.mse_loss(q(data.observations).gather(1, data.actions)[:, 0], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for old, new in zip(target.parameters(), q.parameters(), strict=True):
                old.data.copy_(0.01 * new.data + 0.99 * old.data)
        yield step


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int, repeat: int) -> dict[str, list[float]]:
    """CPU seconds of a call in each round; a machine that slows down slows them all."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(repeat):
                call()
            seconds[name].append((time.process_time() - begin) / repeat)
    return seconds


def ratio(values: list[float], base: list[float]) -> float:
    """Median over rounds of the ratio to what is compared with."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))

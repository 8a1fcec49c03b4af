"""Replay memory: the last transitions as tensors on the device, in the order they happened.

Layout [T, E, ...], time before environment, so that the n-step windows of an environment lie one row under another and
a sample is a handful of gathers with constant shapes. Observations keep the environment's dtype.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bayesrl.agent import EnvSpec, Transition


class Sample(NamedTuple):
    """A batch of n-step transitions.

    Attributes:
        obs, action: [B, *shape] and [B], the start of the window.
        reward: sum of gamma^i r_i over the window, [B]; the window ends at most n steps on, or with the episode.
        discount: gamma^k for a window of k steps, 0 where it ends in termination, [B].
        next_obs, next_mask: at the window's end, [B, *shape], and [B, A] or None.
        weight: 0 for rows that are no transitions, [B].
        tags: what the posterior stored with each transition, [B, K].
        size: number of transitions in memory, 0-d float.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    next_mask: Tensor | None
    weight: Tensor
    tags: Tensor
    size: Tensor


class Replay(nn.Module):
    """The last `capacity` transitions of E environments.

    Arguments:
        spec: of the environments.
        tags: K, width of what the posterior stores with a transition, and its dtype.
        capacity: in transitions.
        n_step: length of a window.
        discount: gamma.
        device: where the memory lives.

    Raises:
        MemoryError: the memory does not fit; says how much it needs and how much there is.
    """

    def __init__(
        self, spec: EnvSpec, tags: Tensor, capacity: int, n_step: int, discount: float, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        if n_step < 1 or not 0 <= discount <= 1:
            raise ValueError(f"got n_step={n_step}, discount={discount}, wanted n_step >= 1 and a discount in [0, 1]")
        E = spec.num_envs
        self.T = math.ceil(capacity / E)
        if self.T < n_step + 1:
            raise ValueError(
                f"got a replay capacity of {capacity} transitions for {E} environments and {n_step}-step windows, "
                f"wanted at least {(n_step + 1) * E}: raise agent.capacity"
            )
        self.E, self.n_step, self.discount = E, n_step, discount
        columns = {
            "obs": (spec.shape, spec.dtype),
            "next_obs": (spec.shape, spec.dtype),
            "action": ((), torch.int64),
            "reward": ((), torch.float32),
            "terminated": ((), torch.bool),
            "done": ((), torch.bool),
            "valid": ((), torch.bool),
            "tags": (tuple(tags.shape[1:]), tags.dtype),
        }
        if spec.masked:
            columns["next_mask"] = ((spec.actions,), torch.bool)
        need = sum(self.T * E * math.prod(shape) * dtype.itemsize for shape, dtype in columns.values())
        if need > (free := free_memory(device)):
            raise MemoryError(
                f"got a replay of {capacity:,} transitions that needs {need / 2**30:.1f} GiB, wanted at most the "
                f"{free / 2**30:.1f} GiB free on {device}: lower agent.capacity to {int(0.8 * free / need * capacity):,}"
            )
        self.columns = {k: torch.zeros(self.T, E, *shape, dtype=dt, device=device) for k, (shape, dt) in columns.items()}
        self.rows = 0  # ever written
        self.register_buffer("size", torch.zeros((), device=device))  # valid transitions in memory

    def add(self, transition: Transition, tags: Tensor) -> None:
        """Store one step of every environment, over the oldest one when full."""
        i = self.rows % self.T
        self.size += transition.valid.sum() - self.columns["valid"][i].sum()
        for name, column in self.columns.items():
            if name == "tags":
                column[i] = tags
            elif name == "done":
                column[i] = transition.terminated | transition.truncated
            else:
                column[i] = getattr(transition, name)
        self.rows += 1

    def __len__(self) -> int:
        """Windows that can be sampled, counting rows that are no transitions."""
        return max(0, min(self.rows, self.T) - self.n_step + 1) * self.E

    def index(self, batch_size: int) -> Tensor:
        """Uniformly random windows, [B] int64 into the memory, from torch's global generator."""
        rows = min(self.rows, self.T) - self.n_step + 1
        device = self.size.device
        t = (self.rows - self.n_step - torch.randint(rows, (batch_size,), device=device)) % self.T
        return t * self.E + torch.randint(self.E, (batch_size,), device=device)

    def gather(self, index: Tensor) -> Sample:
        """The windows that start at `index` [B]: a pure tensor function of constant shapes."""
        flat = {name: column.view(self.T * self.E, *column.shape[2:]) for name, column in self.columns.items()}
        last, alive = index, torch.ones_like(index, dtype=torch.bool)
        weight = flat["valid"][index]
        reward = torch.zeros(len(index), device=index.device)
        discount = torch.ones_like(reward)
        for k in range(self.n_step):
            now = (index + k * self.E) % (self.T * self.E)
            weight = weight & (flat["valid"][now] | ~alive)
            last = torch.where(alive, now, last)
            reward = reward + torch.where(alive, discount * flat["reward"][now], 0.0)
            discount = torch.where(alive, discount * self.discount, discount)
            alive = alive & ~flat["done"][now]
        return Sample(
            obs=flat["obs"][index],
            action=flat["action"][index],
            reward=reward,
            discount=torch.where(flat["terminated"][last], 0.0, discount),
            next_obs=flat["next_obs"][last],
            next_mask=flat["next_mask"][last] if "next_mask" in flat else None,
            weight=weight.to(reward.dtype),
            tags=flat["tags"][index],
            size=self.size.clamp(min=1),
        )

    def rows_since(self, row: int) -> dict[str, Tensor]:
        """Columns [rows, E, ...] of what was written from `row` on and is still in memory, oldest first."""
        t = torch.arange(max(row, self.rows - self.T), self.rows) % self.T
        return {name: column[t.to(column.device)].cpu() for name, column in self.columns.items()}

    def restore(self, columns: dict[str, Tensor], rows: int) -> None:
        """Put back what `rows_since` gave: the newest rows of a memory that has seen `rows` of them."""
        count = len(columns["reward"])
        t = torch.arange(rows - count, rows) % self.T
        for name, column in self.columns.items():
            column[t.to(column.device)] = columns[name].to(column.device)
        self.rows = rows
        self.size.copy_(self.columns["valid"].sum())


def free_memory(device: torch.device | str) -> float:
    """Bytes that can be allocated on a device; infinite where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}) else math.inf
        return pages * 4096

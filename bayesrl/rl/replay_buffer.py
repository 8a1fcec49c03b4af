"""Replay buffer: the last transitions as tensors on the device, in order of time.

The layout is [T, E, ...], time before environment, so that successive steps of an environment lie in successive rows:
the n steps of a target, and the W observations of a window. A sample takes a few gathers of constant shapes.
Observations keep the environment's dtype. Shapes: T rows, E environments, B batch, A actions, K tags.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bayesrl.rl.observation_windows import append, window
from bayesrl.rl.types import EnvSpec, Transition

SCALARS = ("reward", "terminated", "done", "valid")


class Sample(NamedTuple):
    """A batch of n-step transitions.

    Attributes:
        obs: the observations at the first of the n steps, [B, *shape].
        action: the actions there, [B] int64, or [B, A] where continuous.
        reward: the sum of gamma^i r_i over the steps, which stop at the end of the episode, [B].
        discount: gamma^k for k steps, 0 where they end in termination, [B].
        next_obs: the observations after the steps, [B, *shape].
        next_mask: the actions allowed there, [B, A] bool, or None.
        weight: 0 for rows that are no transitions, else 1, [B].
        tags: the posterior's entries for each transition, [B, K].
        size: the number of steps in the buffer, those of weight 0 included, 0-d float.

    With a history above 1, obs and next_obs are windows [B, W, 1 + prod(shape)].
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


class ReplayBuffer(nn.Module):
    """The last `capacity` transitions of E environments.

    Arguments:
        spec: the properties of the environments.
        tags: an example [1, K] of the posterior's entries for a transition, flags or float32 numbers.
        capacity: the number of transitions, rounded up to a multiple of E.
        n_step: the number of rewards summed before bootstrapping.
        discount: gamma, the discount factor.
        device: the device of the tensors.
        history: W, the number of observations of an input; with more than 1, inputs are windows.

    Raises:
        ValueError: a number is out of its range, or the capacity is too small for n_step and history.
        MemoryError: the buffer needs more memory than is free.
    """

    size: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        tags: Tensor,
        capacity: int,
        n_step: int,
        discount: float,
        device: torch.device | str = "cpu",
        history: int = 1,
    ) -> None:
        super().__init__()
        if n_step < 1 or not 0 <= discount <= 1:
            raise ValueError(f"got n_step={n_step}, discount={discount}, wanted n_step >= 1 and a discount in [0, 1]")
        E = spec.num_envs
        self.T = math.ceil(capacity / E)
        if n_step + history > self.T:
            raise ValueError(
                f"got a replay capacity of {capacity} transitions for {E} environments, {n_step} steps and a history "
                f"of {history}, wanted at least {(n_step + history) * E}: raise agent.capacity"
            )
        self.E, self.n_step, self.discount, self.history = E, n_step, discount, history
        shapes = {"obs": (spec.shape, spec.dtype), "next_obs": (spec.shape, spec.dtype)}
        if spec.masked:
            shapes["next_mask"] = ((spec.actions,), torch.bool)
        # Scalars of a transition lie side by side, to be written at once and gathered at once; float32 holds actions
        # and flags exactly.
        self.continuous = spec.bounds is not None
        first = len(SCALARS) + (spec.actions if self.continuous else 1)  # column of the tags
        shapes["scalars"] = ((first + tags.shape[1],), torch.float32)
        need = sum(self.T * E * math.prod(shape) * dtype.itemsize for shape, dtype in shapes.values())
        if need > (free := free_memory(device)):
            raise MemoryError(
                f"got a replay of {capacity:,} transitions that needs {need / 2**30:.1f} GiB, wanted at most the "
                f"{free / 2**30:.1f} GiB free on {device}: lower agent.capacity to {int(0.8 * free / need * capacity)}"
            )
        stored = {k: torch.zeros(self.T, E, *shape, dtype=dtype, device=device) for k, (shape, dtype) in shapes.items()}
        self.scalars, self.tags, self.first = stored.pop("scalars"), tags.dtype, first
        named = {name: self.scalars[..., i] for i, name in enumerate(SCALARS)}
        action = self.scalars[..., len(SCALARS) : first] if self.continuous else self.scalars[..., len(SCALARS)]
        named |= {"action": action, "tags": self.scalars[..., first:]}
        self.columns = stored | named  # [T, E, ...] by name
        self.rows = 0  # written so far
        # Filled in place at every step, because a compiled update reads this tensor.
        self.register_buffer("size", torch.zeros((), device=device))

    def add(self, transition: Transition, tags: Tensor) -> None:
        """Store one step of every environment with its tags [E, K]; a full buffer overwrites the oldest step."""
        i = self.rows % self.T
        _, action, reward, terminated, truncated, _, valid, _ = transition
        numbers = [reward, terminated.float(), (terminated | truncated).float(), valid.float()]
        numbers += [] if self.continuous else [action.float()]
        scalars = [torch.stack(numbers, -1)] + [action] * self.continuous
        scalars += [tags.float()] * (tags.shape[1] > 0)
        self.scalars[i] = torch.cat(scalars, -1) if len(scalars) > 1 else scalars[0]
        self.columns["obs"][i] = transition.obs
        self.columns["next_obs"][i] = transition.next_obs
        if "next_mask" in self.columns:
            assert transition.next_mask is not None  # the environments are masked
            self.columns["next_mask"][i] = transition.next_mask
        self.rows += 1
        self.size.fill_(min(self.rows, self.T) * self.E)

    @property
    def oldest(self) -> int:
        """The first row that can be sampled: one whose whole window is still stored."""
        return self.rows - self.T + self.history - 1 if self.rows >= self.T else 0

    def __len__(self) -> int:
        """Return the number of steps that can be sampled, including rows that are no transitions."""
        return max(0, self.rows - self.oldest - self.n_step + 1) * self.E

    def index(self, batch_size: int) -> Tensor:
        """Return the positions of uniformly random steps, [B] int64, drawn from torch's global generator."""
        first = self.oldest * self.E
        return (first + torch.randint(len(self), (batch_size,), device=self.size.device)) % (self.T * self.E)

    def gather(self, index: Tensor) -> Sample:
        """Return the n-step transitions from the positions `index` [B] on; a pure function of constant shapes."""
        flat = {
            name: self.columns[name].flatten(0, 1) for name in ("obs", "next_obs", "next_mask") if name in self.columns
        }
        steps = torch.arange(self.n_step, device=index.device)[:, None]
        window = index + steps * self.E  # [n_step, B]
        window = torch.where(window < self.T * self.E, window, window - self.T * self.E)
        scalars = self.scalars.flatten(0, 1)[window]
        rewards, terminated, done, valid = scalars[..., : len(SCALARS)].unbind(-1)
        action = scalars[0, :, len(SCALARS) : self.first]
        last, weight, reward = index, valid[0], rewards[0]
        discount, alive = torch.full_like(reward, self.discount), 1 - done[0]
        end = terminated[0]
        for k in range(1, self.n_step):
            on = alive > 0
            last = torch.where(on, window[k], last)
            weight = torch.where(on, weight * valid[k], weight)
            reward = reward + discount * alive * rewards[k]
            discount = torch.where(on, discount * self.discount, discount)
            end = torch.where(on, terminated[k], end)
            alive = alive * (1 - done[k])
        obs, next_obs = flat["obs"][index], flat["next_obs"][last]
        if self.history > 1:
            on = torch.zeros_like(index, dtype=torch.bool)
            obs, next_obs = self.window(index), append(self.window(last), next_obs, on, self.history)
        return Sample(
            obs=obs,
            action=action if self.continuous else action[:, 0].long(),
            reward=reward,
            discount=discount * (1 - end),
            next_obs=next_obs,
            next_mask=flat["next_mask"][last] if "next_mask" in flat else None,
            weight=weight,
            tags=scalars[0, :, self.first :].to(self.tags),
            size=self.size,
        )

    def window(self, index: Tensor) -> Tensor:
        """Return the windows that end at the positions `index` [B], [B, W, 1 + prod(shape)].

        A window goes back at most to the start of its episode: the row before it ended an episode or is no transition.
        """
        back = torch.arange(self.history - 1, -1, -1, device=index.device) * self.E
        rows = (index[:, None] - back) % (self.T * self.E)
        *_, done, valid = self.scalars.flatten(0, 1)[rows[:, :-1]][..., : len(SCALARS)].unbind(-1)
        going = (valid * (1 - done)).flip(1).cumprod(1).flip(1)
        real = torch.cat([going, torch.ones_like(going[:, :1])], 1)
        return window(self.columns["obs"].flatten(0, 1)[rows], real)

    def rows_since(self, row: int) -> dict[str, Tensor]:
        """Return the columns [rows, E, ...] of the rows from `row` on that are still stored, oldest first."""
        t = torch.arange(max(row, self.rows - self.T), self.rows) % self.T
        return {name: column[t.to(column.device)].cpu() for name, column in self.columns.items()}

    def restore(self, columns: dict[str, Tensor], rows: int) -> None:
        """Restore the columns that `rows_since` returned, as the newest of `rows` rows written."""
        count = len(columns["reward"])
        t = torch.arange(rows - count, rows) % self.T
        for name, column in self.columns.items():
            column[t.to(column.device)] = columns[name].to(column.device)
        self.rows = rows
        self.size.fill_(min(rows, self.T) * self.E)


def free_memory(device: torch.device | str) -> float:
    """Return how many bytes can be allocated on a device; infinity where the system does not say."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pages = os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}) else math.inf
        return pages * 4096

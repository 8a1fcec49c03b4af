"""Environments written in tensors behind the contract of all: what a step needs and makes stays on the device.

Shapes: E environments, A actions (or numbers of a continuous one).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bayesrl.envs.errors import EnvError
from bayesrl.envs.vector.tensor_env import TensorEnv, compiled
from bayesrl.rl.types import Transition
from bayesrl.training.vector_env import Episode, VectorEnvAdapter


class DeviceVectorEnvAdapter(VectorEnvAdapter):
    """A `TensorEnv` behind the same contract: what a step needs and makes stays on the device.

    `finished`, `ended`, `returns` and `lengths` are read from the device when they are asked for. Numbers that are not
    finite are found at once on a CPU and within `WATCH` steps elsewhere, where every look waits for the device.

    Arguments:
        env: in tensors.
        discount: of the episodes' discounted returns.
        reported: number of environments, the first ones, whose episodes `finished` lists, because thousands may end in
            one step; always the same, so that the choice does not depend on how an episode went. None for all.
    """

    WATCH = 100
    env: TensorEnv

    def __init__(self, env: TensorEnv, discount: float = 1.0, reported: int | None = None) -> None:
        self.reported = env.num_envs if reported is None else min(reported, env.num_envs)
        super().__init__(env, discount, env.device)
        self._transition: Callable = self.transition

    def _prepare(self) -> None:
        E, device = self.env.num_envs, self.device
        self._watch = 1 if device.type == "cpu" else self.WATCH
        self._valid = torch.ones(E, dtype=torch.bool, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._fault = torch.zeros(E, dtype=torch.bool, device=device)
        self._sums = self._nothing()
        self._record: Tensor | None = None
        self.transitions = E
        self._read: list[Episode] | None = []

    @property
    def finished(self) -> list[Episode]:
        if self._read is None:
            assert self._record is not None  # the step that took away the one has left the other
            record = self._record.cpu().numpy()
            rows = np.flatnonzero(record[0])
            self._read = [
                Episode(i, ret, discounted, int(length), bool(cut))
                for i, ret, discounted, length, cut in zip(rows.tolist(), *record[1:, rows].tolist(), strict=True)
            ]
        return self._read

    @property
    def began(self) -> list[int]:
        return self.start.nonzero()[:, 0].tolist()

    @property
    def ended(self) -> int:
        return int(self._count)

    @property
    def returns(self) -> np.ndarray:
        return self._sums[0].cpu().numpy()

    @property
    def lengths(self) -> np.ndarray:
        return self.env.clock.cpu().numpy()

    def capture(self) -> None:
        """Compile a step, bookkeeping included, into one call; after the first `reset`."""
        env, action = self.env, self.actions.blank(self.env.num_envs, self.device)
        _, *noise = env.blank()
        self._transition = compiled(
            self.transition, *env.state, env.clock, action, *noise, self._sums, self._count, self._fault
        )

    @torch.no_grad()
    def reset(self, seed: int | None = None) -> None:
        self.env.reset(seed=seed)
        self.obs, self.mask = self.env.features(self.env.state), self.env.allowed(self.env.state)
        if self.steps == 0:
            self._spec = self._spec._replace(masked=self.mask is not None)
        self.start, self._sums, self._read = torch.ones_like(self._valid), self._nothing(), []
        self._fault = self._odd(self.obs)
        self._check_fault()

    def send(self, action: Tensor) -> None:
        self._action = action

    @torch.no_grad()
    def receive(self) -> Transition:
        env, action, before = self.env, self._action, self.obs
        taken = action.contiguous()
        out = self._transition(*env.state, env.clock, taken, *env.draw(), self._sums, self._count, self._fault)
        n = len(env.state)
        env.state, env.clock = tuple(out[:n]), out[n]
        (
            self.obs, next_obs, reward, terminated, truncated, self.start, self._sums, self._count, self._fault,
            self._record, *masks,
        ) = out[n + 1 :]  # fmt: skip
        self.mask, next_mask = masks or (None, None)
        self._read = None
        self.steps += 1
        if self.steps % self._watch == 0:
            self._check_fault()
        return Transition(before, action, reward, terminated, truncated, next_obs, self._valid, next_mask)

    def transition(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Make a step and its bookkeeping: a pure function of the environment's tensors, the action and the tallies."""
        *state, clock, action, fresh, noise, tally, count, fault = given
        env = self.env
        made = env.advance(tuple(state), clock, self.actions(action), fresh, noise)
        obs, next_obs, done = env.features(made.state), env.features(made.next_state), made.done
        ret, discounted, weight = tally
        ret, discounted = ret + made.reward, discounted + weight * made.reward
        record = torch.stack((done, ret, discounted, clock + 1, made.truncated & ~made.terminated))
        tally = torch.where(done, self._nothing(), torch.stack((ret, discounted, weight * self.discount)))
        fault = fault | self._odd(made.reward[:, None]) | self._odd(next_obs) | self._odd(obs)
        masks = (mask for s in (made.state, made.next_state) if (mask := env.allowed(s)) is not None)
        return (
            *made.state, made.clock, obs, next_obs, made.reward, made.terminated, made.truncated, done, tally,
            count + done.sum(), fault, record[:, : self.reported], *masks,
        )  # fmt: skip

    def _nothing(self) -> Tensor:
        """Return the tally of an episode that begins: undiscounted, discounted and next discount, [3, E]."""
        tally = torch.zeros(3, self.env.num_envs, dtype=torch.float64, device=self.device)
        tally[2] = 1
        return tally

    def _odd(self, x: Tensor) -> Tensor:
        """Which environments have numbers that are not finite: [E, *] -> [E]."""
        return ~x.isfinite().flatten(1).all(1) if x.is_floating_point() else torch.zeros_like(self._valid)

    def _check_fault(self) -> None:
        if self._fault.any():
            i = int(self._fault.nonzero()[0])
            raise EnvError(
                f"got a number that is not finite in the observation or reward of environment {i} by step "
                f"{self.steps}, wanted finite numbers: mend the environment's dynamics, or clip what it returns"
            )

    def state(self, env: dict | None) -> dict:
        return {
            "env": env, "steps": self.steps, "obs": self.obs.cpu(), "start": self.start.cpu(),
            "mask": None if self.mask is None else self.mask.cpu(), "sums": self._sums.cpu(),
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        self.steps, mask = state["steps"], state["mask"]
        self.obs, self.start = state["obs"].to(self.device), state["start"].to(self.device)
        self.mask = None if mask is None else mask.to(self.device)
        self._sums, self._read = state["sums"].to(self.device), []

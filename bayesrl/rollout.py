"""Rollout: environments of any autoreset mode, on the host or a device, and the loop that acts, observes and learns.

Shapes: E environments, A actions (or numbers of a continuous one). Steps count transitions: a step in which an
environment was only reset is not one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array
from torch import Tensor

from bayesrl.agent import Agent, EnvSpec, Transition
from bayesrl.envs.actions import actions
from bayesrl.envs.check import EnvError
from bayesrl.envs.spaces import flatten, layout
from bayesrl.envs.tensor_env import TensorEnv, compiled
from bayesrl.envs.workers import Workers


class Episode(NamedTuple):
    """A finished episode.

    Attributes:
        env: index of its environment.
        ret: undiscounted sum of rewards.
        discounted: discounted sum of rewards from its start.
        length: in transitions.
        truncated: cut, rather than ended in the world.
    """

    env: int
    ret: float
    discounted: float
    length: int
    truncated: bool


class Environments:
    """A `gymnasium.vector.VectorEnv` as tensors on a device, one contract for SAME_STEP, NEXT_STEP and DISABLED.

    Attributes:
        spec: what an agent must know.
        obs: current observations, [E, *shape].
        start: whether `obs` begins an episode, [E] bool.
        mask: actions allowed now, [E, A] bool, or None.
        finished: episodes that the last step ended.
        made: transitions that the last step made, those of environments that were only reset left out.
        broken: what is to be told of environments that were replaced; whoever tells it clears it.
        ended: how many there have been.
        returns, lengths: of the episodes that are going on, undiscounted, [E].

    Raises:
        EnvError: an action space without an agent; an observation or reward that is not finite: names environment,
            step and index.
    """

    def __init__(self, env: gym.vector.VectorEnv, discount: float = 1.0, device: torch.device | str = "cpu") -> None:
        try:
            self.actions = actions(env.single_action_space)
        except ValueError as error:
            raise EnvError(f"action_space: {error}") from error
        self.env, self.discount, self.device = env, discount, torch.device(device)
        self.mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        shape, dtype, categories = layout(env.single_observation_space)
        count, bounds = self.actions.count, self.actions.bounds
        self._spec = EnvSpec(shape, getattr(torch, dtype), count, env.num_envs, categories, False, bounds)
        self.steps = self.made = 0
        self.broken: list[str] = []
        self._prepare()

    def _prepare(self) -> None:
        self._ended, self._finished = 0, list[Episode]()
        self._returns = np.zeros((3, self.env.num_envs))  # undiscounted, discounted, next discount
        self._lengths = np.zeros(self.env.num_envs, dtype=np.int64)
        self._stage = [Staging(self.device) for _ in range(2)]

    @property
    def finished(self) -> list[Episode]:
        return self._finished

    @property
    def ended(self) -> int:
        return self._ended

    @property
    def returns(self) -> np.ndarray:
        return self._returns[0]

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int | None = None) -> None:
        """Begin a new episode everywhere."""
        obs, infos = self.env.reset(seed=seed)
        self.broken += infos.get("broken", {}).values()
        if self.steps == 0:
            self._spec = self._spec._replace(masked="action_mask" in infos and self._spec.bounds is None)
        everywhere = np.ones(self.env.num_envs, dtype=bool)
        flat = self._flat(obs)
        self._check(flat)
        self._begin(everywhere)
        self._set(self._stage[0](flat), self._tensor(everywhere), self._mask(infos), ~everywhere)

    def step(self, action: Tensor) -> Transition:
        """Take actions [E], or [E, A]; afterwards `obs`, `start`, `mask` and `finished` are those of the next step."""
        self.send(action)
        return self.receive()

    def send(self, action: Tensor) -> None:
        """Begin a step, which goes on by itself where environments run in workers, until `receive`."""
        self._action, self._taken = action, self.actions(action.cpu()).numpy()
        if isinstance(self.env, Workers):
            self.env.step_async(self._taken)

    def receive(self) -> Transition:
        """End the step that `send` began; its result is that of `step`."""
        before, action, was_done, env = self.obs, self._action, self._done, self.env
        obs, reward, terminated, truncated, infos = (
            env.step_wait() if isinstance(env, Workers) else env.step(self._taken)
        )
        self.steps += 1
        flat, mask = self._flat(obs), self._mask(infos)
        done = terminated | truncated
        ended = bool(done.any())
        late = self.mode is AutoresetMode.NEXT_STEP
        valid, start = (~was_done, was_done) if late else (np.ones_like(done), done)
        if why := infos.get("broken"):  # as if only reset, so that no window of steps reaches over it
            broken = np.isin(np.arange(len(done)), list(why))
            valid, start = valid & ~broken, start | broken
            self.broken += why.values()
        self.made = int(valid.sum())
        true_next, next_mask = flat, mask
        if ended and self.mode is AutoresetMode.SAME_STEP:
            true_next, next_mask = self._final(flat, mask, infos, done)
        elif ended and not late:
            obs, infos = self.env.reset(options={"reset_mask": done.copy()})
            flat, new = self._flat(obs), self._mask(infos)
            mask = None if mask is None or new is None else np.where(done[:, None], new, mask)
        self._check(flat, reward)
        if true_next is not flat:
            self._check(true_next)
        self._tally(reward, done & valid, truncated & ~terminated, valid, start)
        # One transfer for all flags; the next observation is sent twice only where an episode ended.
        flags = self._tensor(np.array((terminated & valid, truncated & valid, valid, start)))
        now = self._stage[0](flat)
        allowed = None if mask is None else self._tensor(mask)
        transition = Transition(
            obs=before,
            action=action,
            reward=self._tensor(reward.astype(np.float32)),
            terminated=flags[0],
            truncated=flags[1],
            next_obs=now if true_next is flat else self._stage[1](true_next),
            valid=flags[2],
            next_mask=allowed if next_mask is None or next_mask is mask else self._tensor(next_mask),
        )
        self._set(now, flags[3], allowed, done if late else np.zeros_like(done))
        return transition

    # --- inside ------------------------------------------------------------------------------------------------

    def _set(self, obs: Tensor, start: Tensor, mask: Tensor | np.ndarray | None, done: np.ndarray) -> None:
        self.obs, self.start, self._done = obs, start, done
        self.mask = self._tensor(mask) if isinstance(mask, np.ndarray) else mask

    def _flat(self, obs: Any) -> np.ndarray:
        return flatten(self.env.single_observation_space, obs)

    def _mask(self, infos: dict) -> np.ndarray | None:
        if not self._spec.masked:
            return None
        if "action_mask" not in infos:
            raise EnvError(
                f'got no info["action_mask"] at step {self.steps}, wanted one at every step, as the first reset gave: '
                "return it from both reset and step"
            )
        return np.asarray(infos["action_mask"]).astype(bool).reshape(self.env.num_envs, -1)

    def _final(self, flat: np.ndarray, mask: np.ndarray | None, infos: dict, done: np.ndarray) -> tuple:
        rows = np.flatnonzero(done)
        space = self.env.single_observation_space
        empty = create_empty_array(space, len(rows))
        assert empty is not None  # None only for kinds of spaces that `layout` refuses
        out = concatenate(space, [infos["final_obs"][i] for i in rows], empty)
        true_next = flat.copy()
        true_next[rows] = flatten(space, out)
        if mask is not None and "action_mask" in (final := infos.get("final_info", {})):
            mask = np.where(done[:, None], np.asarray(final["action_mask"]).astype(bool), mask)
        return true_next, mask

    def _check(self, obs: np.ndarray, reward: np.ndarray | None = None) -> None:
        if obs.dtype == np.float32 and not np.isfinite(obs).all():
            i, *where = (int(k) for k in np.argwhere(~np.isfinite(obs))[0])
            raise EnvError(
                f"got the observation {obs[(i, *where)]} at index {where} from environment {i} at step {self.steps}, "
                "wanted finite numbers: mend the environment's step, or clip what it returns"
            )
        if reward is not None and not np.isfinite(reward).all():
            i = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise EnvError(
                f"got the reward {reward[i]} from environment {i} at step {self.steps}, "
                "wanted a finite number: mend the environment's step, or clip what it returns"
            )

    def _tally(
        self, reward: np.ndarray, ended: np.ndarray, cut: np.ndarray, valid: np.ndarray, start: np.ndarray
    ) -> None:
        gain = reward * valid
        self._returns[0] += gain
        self._returns[1] += gain * self._returns[2]
        self._returns[2] *= self.discount
        self._lengths += valid
        self._finished = [
            Episode(int(i), float(self._returns[0, i]), float(self._returns[1, i]), int(self._lengths[i]), bool(cut[i]))
            for i in np.flatnonzero(ended)
        ]
        self._ended += len(self._finished)
        if self._finished or start.any():
            self._begin(start | ended)

    def _begin(self, where: np.ndarray) -> None:
        self._returns[:, where] = [[0.0], [0.0], [1.0]]
        self._lengths[where] = 0

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Of an array that nobody writes again."""
        return torch.from_numpy(array).to(self.device)

    def state(self, env: dict | None) -> dict:
        """Everything beside the agent that the next step depends on; `env` is the captured environment's own."""
        return {
            "env": env, "steps": self.steps, "obs": self.obs.cpu(), "start": self.start.cpu(),
            "done": self._done.tolist(),
            "mask": None if self.mask is None else self.mask.cpu(),
            "returns": self._returns.tolist(), "lengths": self.lengths.tolist(),
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Put back what `state` gave; the environment itself has been restored."""
        self.steps = state["steps"]
        self._returns, self._lengths = np.array(state["returns"]), np.array(state["lengths"], dtype=np.int64)
        obs, start, mask = state["obs"].to(self.device), state["start"].to(self.device), state["mask"]
        self._set(obs, start, None if mask is None else mask.to(self.device), np.array(state["done"]))


class DeviceEnvironments(Environments):
    """A `TensorEnv` behind the same contract: what a step needs and makes stays on the device.

    `finished`, `ended`, `returns` and `lengths` are read from the device when they are asked for. Numbers that are not
    finite are found at once on a CPU and within `WATCH` steps elsewhere, where every look waits for the device.

    Arguments:
        env: in tensors.
        discount: of the episodes' discounted returns.
        told: environments whose episodes `finished` tells, the first ones, because thousands may end in one step; the
            same ones always, so that what is told does not depend on how it went. None for all.
    """

    WATCH = 100
    env: TensorEnv

    def __init__(self, env: TensorEnv, discount: float = 1.0, told: int | None = None) -> None:
        self.told = env.num_envs if told is None else min(told, env.num_envs)
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
        self.made = E
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
        """A step and its bookkeeping, a pure function of the tensors of the environment, the action and the tallies."""
        *state, clock, action, fresh, noise, tally, count, fault = given
        env = self.env
        made = env.advance(tuple(state), clock, self.actions(action), fresh, noise)
        obs, next_obs, done = env.features(made.state), env.features(made.after), made.done
        ret, discounted, weight = tally
        ret, discounted = ret + made.reward, discounted + weight * made.reward
        record = torch.stack((done, ret, discounted, clock + 1, made.truncated & ~made.terminated))
        tally = torch.where(done, self._nothing(), torch.stack((ret, discounted, weight * self.discount)))
        fault = fault | self._odd(made.reward[:, None]) | self._odd(next_obs) | self._odd(obs)
        masks = (mask for s in (made.state, made.after) if (mask := env.allowed(s)) is not None)
        return (
            *made.state, made.clock, obs, next_obs, made.reward, made.terminated, made.truncated, done, tally,
            count + done.sum(), fault, record[:, : self.told], *masks,
        )  # fmt: skip

    def _nothing(self) -> Tensor:
        """The tally of an episode that begins: undiscounted, discounted and next discount, [3, E]."""
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


class Staging:
    """Host arrays to the device: pinned and non-blocking on a GPU, a plain copy on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pinned: Tensor | None = None

    def __call__(self, array: np.ndarray) -> Tensor:
        if self.device.type != "cuda":
            return torch.from_numpy(array).to(self.device)
        if self.pinned is None:
            self.pinned = torch.empty(array.shape, dtype=torch.from_numpy(array).dtype).pin_memory()
            self.copied = torch.cuda.Event()
        else:
            self.copied.synchronize()  # the last copy out of this buffer must be over before it is written again
        self.pinned.numpy()[...] = array
        out = self.pinned.to(self.device, non_blocking=True)
        self.copied.record()
        return out


class Clock:
    """Seconds spent by part: env, act, learn, log."""

    def __init__(self) -> None:
        self.seconds = {"env": 0.0, "act": 0.0, "learn": 0.0, "log": 0.0}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begin


class Rollout:
    """Act, step, observe, learn: `replay_ratio` updates for each transition.

    Where learning overlaps stepping, the updates that a step owes are made while the next one is under way, so that
    what acts is older by those of one step, `replay_ratio` E. The order of acts, updates and observations is fixed:
    equal seeds still give equal runs.

    Arguments:
        agent: acts and learns.
        envs: steps.
        replay_ratio: updates per transition; below 1, one update every 1 / replay_ratio transitions.
        overlap: learn while the environments step, which only those in workers can do; None where they can and a
            step is measured to take longer than an update, decided once after TIMED steps with updates.
    """

    WARM, TIMED = 3, 20  # steps with updates that are not measured, and that are

    def __init__(
        self, agent: Agent, envs: Environments, replay_ratio: float = 1.0, overlap: bool | None = None
    ) -> None:
        if not 0 <= replay_ratio < math.inf:
            raise ValueError(f"got replay_ratio={replay_ratio}, wanted updates per transition, 0 or more")
        self.agent, self.envs, self.replay_ratio = agent, envs, replay_ratio
        self.overlap = overlap if isinstance(envs.env, Workers) else False
        self.transitions = self.updates = self.episodes = 0
        self.owed = 0.0
        self.info: dict[str, Tensor] = {}
        self.clock = Clock()
        self.times: list[tuple[float, float]] = []  # seconds of a step and of an update, while it is not decided

    def step(self) -> int:
        """One step of every environment, and the updates owed; returns how many transitions it made."""
        clock, envs = self.clock, self.envs
        env, updates = clock.seconds["env"], self.updates
        with clock("act"):
            action = self.agent.act(envs.obs, envs.start, envs.mask)
        with clock("env"):
            envs.send(action)
        if self.overlap:
            self._learn()
        with clock("env"):
            transition = envs.receive()
        with clock("learn"):
            self.agent.observe(transition)
            self.transitions += envs.made
            if self.agent.ready():
                self.owed += envs.made * self.replay_ratio
        if not self.overlap:
            learn = clock.seconds["learn"]
            self._learn()
            if self.overlap is None and self.updates > updates:
                self._decide(clock.seconds["env"] - env, (clock.seconds["learn"] - learn) / (self.updates - updates))
        return envs.made

    def _learn(self) -> None:
        with self.clock("learn"):
            while self.owed >= 1:
                self.info = self.agent.learn()
                self.updates += 1
                self.owed -= 1

    def _decide(self, step: float, update: float) -> None:
        self.times.append((step, update))
        if len(self.times) == self.WARM + self.TIMED:
            step, update = (median(seconds) for seconds in zip(*self.times[self.WARM :], strict=True))
            self.overlap = step > update

    @property
    def episodes(self) -> int:
        """That have ended."""
        return self.envs.ended - self._before

    @episodes.setter
    def episodes(self, count: int) -> None:
        self._before = self.envs.ended - count

    def state(self) -> dict:
        """The counters."""
        return {k: getattr(self, k) for k in ("transitions", "episodes", "updates", "owed")} | {
            "overlap": self.overlap,
            "seconds": dict(self.clock.seconds),
        }

    def restore(self, state: dict) -> None:
        """Put back what `state` gave."""
        for k in ("transitions", "episodes", "updates", "owed"):
            setattr(self, k, state[k])
        self.overlap = state.get("overlap", self.overlap)
        self.clock.seconds = dict(state["seconds"])

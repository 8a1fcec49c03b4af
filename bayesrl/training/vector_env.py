"""Environments of any autoreset mode as tensors on a device: one contract, Gymnasium's vector environments below it.

Shapes: E environments, A actions (or numbers of a continuous one). Steps count transitions: a step in which an
environment was only reset is not one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array
from torch import Tensor

from bayesrl.envs.actions import actions
from bayesrl.envs.errors import EnvError
from bayesrl.envs.spaces import flatten, observation_layout
from bayesrl.envs.vector.workers import Workers
from bayesrl.rl.types import EnvSpec, Transition


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


class VectorEnvAdapter:
    """A `gymnasium.vector.VectorEnv` as tensors on a device, one contract for SAME_STEP, NEXT_STEP and DISABLED.

    Attributes:
        spec: what an agent must know.
        obs: current observations, [E, *shape].
        start: whether `obs` begins an episode, [E] bool.
        began: the environments where it does, on the host.
        mask: actions allowed now, [E, A] bool, or None.
        finished: episodes that the last step ended.
        transitions: number that the last step made; environments that were only reset make none.
        failures: one line for each environment that was replaced; whoever reports them clears the list.
        replaced: indices of environments that were replaced in the last step, whose episode broke off.
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
        shape, dtype, categories = observation_layout(env.single_observation_space)
        count, bounds = self.actions.count, self.actions.bounds
        self._spec = EnvSpec(shape, getattr(torch, dtype), count, env.num_envs, categories, False, bounds)
        self.steps = self.transitions = 0
        self.failures: list[str] = []
        self.replaced: list[int] = []
        self._prepare()

    def _prepare(self) -> None:
        self._ended, self._finished, self._began = 0, list[Episode](), list[int]()
        self._returns = np.zeros((3, self.env.num_envs))  # undiscounted, discounted, next discount
        self._lengths = np.zeros(self.env.num_envs, dtype=np.int64)
        self._stage = [Staging(self.device) for _ in range(2)]

    @property
    def finished(self) -> list[Episode]:
        return self._finished

    @property
    def began(self) -> list[int]:
        return self._began

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
        self.failures += infos.get("broken", {}).values()
        if self.steps == 0:
            self._spec = self._spec._replace(masked="action_mask" in infos and self._spec.bounds is None)
        everywhere = np.ones(self.env.num_envs, dtype=bool)
        flat = self._flat(obs)
        self._check(flat)
        self._begin(everywhere)
        self._began = [*range(self.env.num_envs)]
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
        self.replaced = [*(why := infos.get("broken", {}))]
        if why:  # as if only reset, so that no window of steps reaches over it
            broken = np.isin(np.arange(len(done)), self.replaced)
            valid, start = valid & ~broken, start | broken
            self.failures += why.values()
        self.transitions = int(valid.sum())
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
        assert empty is not None  # None only for kinds of spaces that `observation_layout` refuses
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
        self._began = np.flatnonzero(start).tolist()
        if self._finished or self._began:
            self._begin(start | ended)

    def _begin(self, where: np.ndarray) -> None:
        self._returns[:, where] = [[0.0], [0.0], [1.0]]
        self._lengths[where] = 0

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Return the tensor of an array that nobody writes again."""
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
        self._began = state["start"].nonzero()[:, 0].tolist()
        self._set(obs, start, None if mask is None else mask.to(self.device), np.array(state["done"]))


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

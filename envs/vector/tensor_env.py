"""Environments in batched torch: thousands of them on a device, which no step leaves.

A subclass says what happens to states; `TensorEnv` adds time limits, resets in the step that ends an episode
(SAME_STEP), random numbers and Gymnasium's vector interface:

    s'   = dynamics(s, a, u)                                     u ~ U[0, 1)^k, fresh at every step
    s''  = initial(u0) where terminated or truncated, else s'    u0 ~ U[0, 1)^k0, fresh at every reset

A step is `advance`, a pure function of tensors of constant shapes: no branch on data and nothing that the host reads,
so that it can be compiled into one call. Actions are not checked, because a check would wait for the device.

Shapes: E environments, A actions; * is what one observation, action or variable of a state has.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor

from bayesrl.envs.errors import EnvError
from bayesrl.envs.spaces import OneHot, observation_layout

State = tuple[Tensor, ...]  # the variables of E environments, [E, *] each

# id: its version in tensors, a class or "module:Name"; others may add theirs
DEVICE: dict[str, Any] = {}

BLOCK = 2**16  # random numbers drawn at once


class Advance(NamedTuple):
    """The result of one step.

    Attributes:
        after: the state that the step led to, the last one of an episode that ended.
        state, clock: to go on from, begun anew where an episode ended.
        reward: [E] float32.
        terminated, truncated, done: [E] bool; done is either.
    """

    after: State
    state: State
    clock: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    done: Tensor


class TensorEnv(VectorEnv):
    """E environments whose states, observations, actions and rewards are tensors on one device.

    A subclass has the attributes of the first group, of its class or set before `super().__init__`, and says `initial`,
    `dynamics` and `observe`. `infos["final_obs"]` is the true next observation of every environment, [E, *], at every
    step; where no episode ended (`infos["_final_obs"]`), it is the observation itself.

    Arguments:
        num_envs: E.
        max_episode_steps: in place of the class's own.
        device: of every tensor.

    Attributes:
        single_observation_space: Box, Discrete, MultiDiscrete or MultiBinary.
        single_action_space: of one environment; `dynamics` gets [E, *] of its dtype.
        max_episode_steps: an episode is truncated then; None for never.
        min_episode_steps: no episode ends sooner. Random numbers for resets are drawn only so often.
        reset_noise, step_noise: random numbers that `initial` and `dynamics` are given, uniform on [0, 1).

        state: of the environments, now.
        clock: steps since the episode began, [E] int32.
        generator: source of all randomness.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    max_episode_steps: int | None = None
    min_episode_steps = 1
    reset_noise = step_noise = 0

    state: State = ()
    clock: Tensor

    def __init__(
        self, num_envs: int = 1, max_episode_steps: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        limit = self.max_episode_steps if max_episode_steps is None else max_episode_steps
        if num_envs < 1 or (limit is not None and limit < 1):
            raise EnvError(f"got num_envs={num_envs}, max_episode_steps={limit}, wanted at least 1 of each")
        self.num_envs, self.max_episode_steps, self.device = num_envs, limit, torch.device(device)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generator = torch.Generator(self.device)
        self.generator.seed()
        every = min(self.min_episode_steps, limit or self.min_episode_steps)
        self._noise = Noise(self, self.reset_noise, every), Noise(self, self.step_noise, 1)
        assert self.action_space.shape is not None and self.action_space.dtype is not None
        self._actions = self.action_space.shape, torch.from_numpy(np.zeros(0, self.action_space.dtype)).dtype
        self._compiled: Callable = self._step

    # --- what a subclass says ------------------------------------------------------------------------------------

    @abstractmethod
    def initial(self, noise: Tensor) -> State:
        """First states, from random numbers [E, reset_noise]."""

    @abstractmethod
    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """Next states, rewards [E] and whether the episode ended in the world, [E] bool.

        From actions [E, *] and random numbers [E, step_noise].
        """

    @abstractmethod
    def observe(self, state: State) -> Tensor:
        """Observations [E, *], as the observation space has them."""

    def allowed(self, state: State) -> Tensor | None:
        """The actions allowed, [E, A] bool, told as `infos["action_mask"]`; None where all always are."""

    def features(self, state: State) -> Tensor:
        """Observations as an agent sees them, laid out as `bayesrl.envs.observation_layout` says; [E, *]."""
        return flat(self.single_observation_space, self.observe(state))

    # --- stepping ------------------------------------------------------------------------------------------------

    def draw(self) -> tuple[Tensor, Tensor]:
        """Random numbers for the next step: [E, reset_noise] and [E, step_noise]."""
        fresh, noise = self._noise
        return fresh(), noise()

    def advance(self, state: State, clock: Tensor, action: Tensor, fresh: Tensor, noise: Tensor) -> Advance:
        """One step, resets included: a pure function of tensors; `fresh` and `noise` are what `draw` gives."""
        after, reward, terminated = self.dynamics(state, action, noise)
        clock, limit = clock + 1, self.max_episode_steps
        truncated = torch.zeros_like(terminated) if limit is None else clock >= limit
        done = terminated | truncated
        begun = tuple(
            torch.where(done.view(-1, *(1,) * (old.dim() - 1)), new, old).contiguous()
            for new, old in zip(self.initial(fresh), after, strict=True)
        )
        return Advance(after, begun, torch.where(done, 0, clock), reward.float(), terminated, truncated, done)

    @torch.no_grad()
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Tensor, dict]:
        for source in self._noise:
            source.left = 0
        if seed is not None:
            self.generator.manual_seed(seed)
            for source in self._noise:
                source.rows = []
        fresh, _ = self.draw()
        begun = self.initial(fresh)
        if not self.state:
            self._verify(begun)
        self.state = tuple(s.clone(memory_format=torch.contiguous_format) for s in begun)
        self.clock = torch.zeros(self.num_envs, dtype=torch.int32, device=self.device)
        mask = self.allowed(self.state)
        return self.observe(self.state), {} if mask is None else {"action_mask": mask}

    @torch.no_grad()
    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict]:
        shape, dtype = self._actions
        action = torch.as_tensor(actions, dtype=dtype, device=self.device).contiguous()
        if action.shape != shape or not self.state:
            got = f"actions of shape {[*action.shape]}" if self.state else "a step before the first reset"
            raise EnvError(f"got {got}, wanted actions {[*shape]} after reset(): give one to each environment")
        out = self._compiled(*self.state, self.clock, action, *self.draw())
        n = len(self.state)
        self.state, self.clock = tuple(out[:n]), out[n]
        obs, reward, terminated, truncated, done, final_obs, *masks = out[n + 1 :]
        infos: dict[str, Any] = {"final_obs": final_obs, "_final_obs": done}
        if masks:
            infos |= {"action_mask": masks[0], "final_info": {"action_mask": masks[1]}, "_final_info": done}
        return obs, reward, terminated, truncated, infos

    def capture(self) -> None:
        """Compile a step into one call, which takes some seconds once: needs a C++ compiler, or Triton on a GPU."""
        if not self.state:
            self.reset()
        self._compiled = compiled(self._step, *self.state, self.clock, *self.blank())

    def blank(self) -> tuple[Tensor, Tensor, Tensor]:
        """Zeros in the shapes of an action and of what `draw` gives."""
        shape, dtype = self._actions
        fresh, noise = self._noise
        return torch.zeros(shape, dtype=dtype, device=self.device), fresh.zeros(), noise.zeros()

    def _step(self, *given: Tensor) -> tuple[Tensor, ...]:
        *state, clock, action, fresh, noise = given
        made = self.advance(tuple(state), clock, action, fresh, noise)
        masks = (mask for s in (made.state, made.after) if (mask := self.allowed(s)) is not None)
        return (
            *made.state, made.clock, self.observe(made.state), made.reward, made.terminated, made.truncated, made.done,
            self.observe(made.after), *masks,
        )  # fmt: skip

    def _verify(self, state: State) -> None:
        """Refuse tensors of a wrong shape or dtype, which torch would stretch until they fit."""
        space = self.single_observation_space
        if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
            raise EnvError(
                f"got the observation space {space}, wanted Box, Discrete, MultiDiscrete or MultiBinary: put several "
                "parts side by side in one Box"
            )
        assert space.dtype is not None and space.shape is not None
        for i, old in enumerate(state):
            self._expect(f"initial state[{i}]", old, old.shape[1:], old.dtype)
        action, _, noise = self.blank()
        after, reward, terminated = self.dynamics(state, action, noise)
        if len(after) != len(state):
            raise EnvError(f"dynamics: got a state of {len(after)} tensors, wanted the {len(state)} that initial gives")
        for i, (new, old) in enumerate(zip(after, state, strict=True)):
            self._expect(f"dynamics state[{i}]", new, old.shape[1:], old.dtype)
        self._expect("dynamics reward", reward, (), reward.dtype)
        self._expect("dynamics terminated", terminated, (), torch.bool)
        self._expect("observe", self.observe(state), space.shape, torch.from_numpy(np.zeros(0, space.dtype)).dtype)

    def _expect(self, where: str, got: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        wanted = (self.num_envs, *shape)
        if got.shape != wanted or got.dtype != dtype or got.device.type != self.device.type:
            raise EnvError(
                f"{where}: got {[*got.shape]} {got.dtype} on {got.device}, wanted {[*wanted]} {dtype} on "
                f"{self.device}; each of the {self.num_envs} environments has a row"
            )

    # --- saving --------------------------------------------------------------------------------------------------

    def get_state(self) -> dict:
        """Everything that the next steps depend on, in numpy arrays."""
        return {
            "state": [s.cpu().numpy() for s in self.state], "clock": self.clock.cpu().numpy(),
            "generator": self.generator.get_state().numpy(), "device": self.device.type,
            "noise": [noise.get_state() for noise in self._noise],
        }  # fmt: skip

    def set_state(self, state: dict) -> None:
        """Put back what `get_state` gave; what is drawn afterwards is the same only on the same kind of device."""
        self.state = tuple(torch.as_tensor(s, device=self.device) for s in state["state"])
        self.clock = torch.as_tensor(state["clock"], device=self.device)
        bits = torch.from_numpy(state["generator"])
        if state["device"] == self.device.type:
            self.generator.set_state(bits)
        else:
            self.generator.manual_seed(int(bits.sum()))
        for noise, saved in zip(self._noise, state["noise"], strict=True):
            noise.set_state(saved)


class Noise:
    """Uniform random numbers [E, k], drawn in blocks, each row of which serves so many calls.

    Arguments:
        env: whose generator they come from.
        width: k.
        every: calls that are given the same row.
    """

    def __init__(self, env: TensorEnv, width: int, every: int) -> None:
        self.env, self.width, self.every = env, width, every
        self.rows: list[Tensor] = []  # the last one is in use
        self.left = 0

    def __call__(self) -> Tensor:
        if self.left == 0:
            del self.rows[-1:]
            if not self.rows:
                E, k = self.env.num_envs, self.width
                rows = max(1, min(256, BLOCK // max(1, E * k)))
                block = torch.rand(rows, E, k, generator=self.env.generator, device=self.env.device)
                self.rows = list(block.unbind())
            self.left = self.every
        self.left -= 1
        return self.rows[-1]

    def zeros(self) -> Tensor:
        """[E, k] zeros."""
        return torch.zeros(self.env.num_envs, self.width, device=self.env.device)

    def get_state(self) -> dict:
        rows = torch.stack(self.rows) if self.rows else self.zeros()[:0]
        return {"rows": rows.cpu().numpy(), "left": self.left}

    def set_state(self, state: dict) -> None:
        self.rows, self.left = list(torch.as_tensor(state["rows"], device=self.env.device).unbind()), state["left"]


def compiled(function: Callable, *example: Tensor) -> Callable:
    """A pure function of tensors as one call for these shapes; as it is, with a warning, where there is no compiler.

    By Inductor itself, because the guards of `torch.compile` take longer than a step of a few hundred environments.
    """
    from torch._inductor import compile as inductor  # slow to import
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own, which say nothing of the environment
            call = inductor(make_fx(function)(*example), list(example))
            call(*example)
    except Exception as error:
        warnings.warn(f"going on without capture: {type(error).__name__}: {str(error)[:300]}", stacklevel=2)
        return function
    return call


def normal(noise: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones on [0, 1), within 5.4 standard deviations."""
    return torch.special.ndtri(noise.clamp(min=2.0**-25))


def flat(space: gym.Space, obs: Tensor) -> Tensor:
    """Flatten as `bayesrl.envs.flatten` does, in tensors: [E, *] -> [E, *observation_layout(space).shape]."""
    shape, dtype, categories = observation_layout(space)
    match space:
        case Discrete():
            return obs[:, None] - int(space.start)
        case MultiDiscrete():
            offsets = np.cumsum(space.nvec) - space.nvec.ravel() - space.start.ravel()
            return obs.flatten(1) + torch.as_tensor(offsets, device=obs.device)
        case OneHot():
            ones = obs.flatten(1)
            return torch.where((ones > 0).any(1), ones.argmax(1), categories)[:, None]
    return obs.view(len(obs), *shape).to(getattr(torch, dtype))


# --- other forms -----------------------------------------------------------------------------------------------------


class Numpy(VectorWrapper):
    """A `TensorEnv` that gives and takes numpy arrays, for code that is written for them."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        return _numpy(self.env.reset(seed=seed, options=options))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict]:
        return _numpy(self.env.step(actions))


class Single(gym.Env):
    """One environment of a `TensorEnv`, as an ordinary one: numpy arrays, and a reset after every episode.

    Arguments:
        env: of one environment.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: TensorEnv) -> None:
        self.env = env
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        obs, infos = self.env.reset(seed=seed, options=options)
        return _numpy((obs[0], {name: value[0] for name, value in infos.items()}))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        _, reward, terminated, truncated, infos = self.env.step(np.asarray(action)[None])
        info = {"action_mask": infos["final_info"]["action_mask"][0]} if "final_info" in infos else {}
        obs, info = _numpy((infos["final_obs"][0], info))
        return obs, float(reward), bool(terminated), bool(truncated), info


def _numpy(value: Any) -> Any:
    match value:
        case Tensor():
            return value.cpu().numpy()
        case tuple():
            return tuple(map(_numpy, value))
        case dict():
            return {key: _numpy(part) for key, part in value.items()}
    return value

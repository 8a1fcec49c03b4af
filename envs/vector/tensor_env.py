"""Environments written in batched PyTorch: thousands of them step on one device without a transfer to the host.

A subclass defines how states change; `TensorEnv` adds time limits, resets in the step that ends an episode (SAME_STEP),
random numbers and Gymnasium's vector interface:

    s'   = dynamics(s, a, u)                                     u ~ U[0, 1)^k, fresh at every step
    s''  = initial(u0) where terminated or truncated, else s'    u0 ~ U[0, 1)^k0, fresh at every reset

`advance` makes a step. It is a pure function of tensors of constant shapes, without a branch on data or a read by the
host, so that it can be compiled into one call. Actions are not checked, because a check would wait for the device.

Shapes: E environments, A actions; * is the shape of one observation, action or variable of a state.
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
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from bayesrl.envs.errors import EnvError
from bayesrl.envs.spaces import OneHot, observation_layout
from bayesrl.envs.vector.noise import Noise

State = tuple[Tensor, ...]  # the variables of E environments, [E, *] each

# Versions in tensors by id, each a class or "module:Name"; other packages may add theirs.
DEVICE: dict[str, Any] = {}


class Advance(NamedTuple):
    """The result of one step.

    Attributes:
        next_state: the state that the step led to, which is the last one of an episode that ended.
        state, clock: those to continue from, of a new episode where one ended.
        reward: [E] float32.
        terminated, truncated, done: [E] bool; done is either.
    """

    next_state: State
    state: State
    clock: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    done: Tensor


class TensorEnv(VectorEnv):
    """E environments whose states, observations, actions and rewards are tensors on one device.

    A subclass sets the attributes of the first group, in its class or before `super().__init__`, and implements
    `initial`, `dynamics` and `observe`. At every step `infos["final_obs"]` is the true next observation of every
    environment, [E, *]; where no episode ended (`infos["_final_obs"]`), it is the observation itself.

    Arguments:
        num_envs: E.
        max_episode_steps: steps until truncation, in place of the class's own.
        device: device of every tensor.

    Attributes:
        single_observation_space: Box, Discrete, MultiDiscrete or MultiBinary.
        single_action_space: space of one environment; `dynamics` receives actions [E, *] of its dtype.
        max_episode_steps: steps after which an episode is truncated; None for never.
        min_episode_steps: least length of an episode. Random numbers for resets are drawn only this often.
        reset_noise, step_noise: count of random numbers, uniform on [0, 1), that `initial` and `dynamics` receive.

        state: current state of the environments.
        clock: steps since the episode began, [E] int32.
        generator: source of all random numbers.

    Raises:
        EnvError: num_envs or max_episode_steps is below 1.
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
        self._reset_noise = Noise(num_envs, self.reset_noise, every, self.generator)
        self._step_noise = Noise(num_envs, self.step_noise, 1, self.generator)
        assert self.action_space.shape is not None and self.action_space.dtype is not None
        self._actions = self.action_space.shape, torch.from_numpy(np.zeros(0, self.action_space.dtype)).dtype
        self._compiled: Callable = self._step

    # --- what a subclass implements --------------------------------------------------------------------------------

    @abstractmethod
    def initial(self, noise: Tensor) -> State:
        """Return the first states, from random numbers [E, reset_noise]."""

    @abstractmethod
    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """Return the next states, the rewards [E], and whether the episode terminated, [E] bool.

        Arguments:
            state: tensors [E, *].
            action: [E, *].
            noise: random numbers [E, step_noise], uniform on [0, 1).
        """

    @abstractmethod
    def observe(self, state: State) -> Tensor:
        """Return the observations [E, *], with shape and dtype of the observation space."""

    def allowed(self, state: State) -> Tensor | None:
        """Return the allowed actions [E, A] bool, for `infos["action_mask"]`, or None where all are always allowed."""

    def features(self, state: State) -> Tensor:
        """Return the observations as an agent receives them, [E, *]: see `bayesrl.envs.observation_layout`."""
        return flatten_tensor(self.single_observation_space, self.observe(state))

    # --- stepping ------------------------------------------------------------------------------------------------

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the random numbers of the next step, [E, reset_noise] and [E, step_noise]."""
        return self._reset_noise(), self._step_noise()

    def advance(self, state: State, clock: Tensor, action: Tensor, reset_noise: Tensor, step_noise: Tensor) -> Advance:
        """Return the result of one step, resets included: a pure function of tensors.

        Arguments:
            state, clock, action: of the E environments.
            reset_noise, step_noise: what `draw` returned.
        """
        next_state, reward, terminated = self.dynamics(state, action, step_noise)
        clock, limit = clock + 1, self.max_episode_steps
        truncated = torch.zeros_like(terminated) if limit is None else clock >= limit
        done = terminated | truncated
        continued = tuple(
            torch.where(done.view(-1, *(1,) * (old.dim() - 1)), new, old).contiguous()
            for new, old in zip(self.initial(reset_noise), next_state, strict=True)
        )
        clock = torch.where(done, 0, clock)
        return Advance(next_state, continued, clock, reward.float(), terminated, truncated, done)

    @torch.no_grad()
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Tensor, dict]:
        if seed is not None:
            self.generator.manual_seed(seed)
        for source in (self._reset_noise, self._step_noise):
            source.restart(reseeded=seed is not None)
        reset_noise, _ = self.draw()
        first = self.initial(reset_noise)
        if not self.state:
            self._verify(first)
        self.state = tuple(s.clone(memory_format=torch.contiguous_format) for s in first)
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
        """Compile `step` into one call, which takes some seconds and needs a C++ compiler, or Triton on a GPU."""
        if not self.state:
            self.reset()
        self._compiled = compiled(self._step, *self.state, self.clock, *self.blank())

    def blank(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return zeros in the shapes of an action and of what `draw` returns."""
        shape, dtype = self._actions
        action = torch.zeros(shape, dtype=dtype, device=self.device)
        return action, self._reset_noise.zeros(), self._step_noise.zeros()

    def _step(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        *state, clock, action, reset_noise, step_noise = tensors
        out = self.advance(tuple(state), clock, action, reset_noise, step_noise)
        masks = (mask for s in (out.state, out.next_state) if (mask := self.allowed(s)) is not None)
        return (
            *out.state, out.clock, self.observe(out.state), out.reward, out.terminated, out.truncated, out.done,
            self.observe(out.next_state), *masks,
        )  # fmt: skip

    def _verify(self, state: State) -> None:
        """Raise EnvError at tensors of a wrong shape or dtype, which torch would broadcast silently."""
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
        next_state, reward, terminated = self.dynamics(state, action, noise)
        if len(next_state) != len(state):
            raise EnvError(
                f"dynamics: got a state of {len(next_state)} tensors, wanted the {len(state)} that initial gives"
            )
        for i, (new, old) in enumerate(zip(next_state, state, strict=True)):
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
        """Return everything that the next steps depend on, as NumPy arrays."""
        return {
            "state": [s.cpu().numpy() for s in self.state], "clock": self.clock.cpu().numpy(),
            "generator": self.generator.get_state().numpy(), "device": self.device.type,
            "noise": [self._reset_noise.get_state(), self._step_noise.get_state()],
        }  # fmt: skip

    def set_state(self, state: dict) -> None:
        """Load what `get_state` returned; later random numbers are the same only on a device of the same type."""
        self.state = tuple(torch.as_tensor(s, device=self.device) for s in state["state"])
        self.clock = torch.as_tensor(state["clock"], device=self.device)
        bits = torch.from_numpy(state["generator"])
        if state["device"] == self.device.type:
            self.generator.set_state(bits)
        else:
            self.generator.manual_seed(int(bits.sum()))
        for noise, saved in zip((self._reset_noise, self._step_noise), state["noise"], strict=True):
            noise.set_state(saved)


def compiled(function: Callable, *example: Tensor) -> Callable:
    """Return a pure function of tensors compiled for the shapes of `example`, or as it is, with a warning.

    Inductor is called directly, because the guards of `torch.compile` take longer than a step of some hundred
    environments. The warning says why the function could not be compiled, such as a missing compiler.
    """
    from torch._inductor import compile as inductor  # slow to import
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler itself, which do not concern the environment
            call = inductor(make_fx(function)(*example), list(example))
            call(*example)
    except Exception as error:
        warnings.warn(f"going on without capture: {type(error).__name__}: {str(error)[:300]}", stacklevel=2)
        return function
    return call


def flatten_tensor(space: gym.Space, obs: Tensor) -> Tensor:
    """Return what `bayesrl.envs.flatten` returns, in tensors: [E, *] -> [E, *observation_layout(space).shape]."""
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

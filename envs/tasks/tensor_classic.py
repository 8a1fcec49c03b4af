"""Gymnasium's classic control tasks in tensors: its constants, equations, rewards and limits, states in float32.

CartPole (Barto, Sutton & Anderson, Neuronlike Adaptive Elements, 1983), MountainCar (Moore, Efficient Memory-Based
Learning for Robot Control, 1990), Acrobot (Sutton, Generalization in Reinforcement Learning, 1996) and Pendulum. They
differ from Gymnasium's in the random numbers of a seed, in rounding (Gymnasium keeps float64 between steps), and, from
its native vector CartPole, in that an episode begins anew in the step that ends one instead of in the next.

Shapes: E environments; a variable of a state is [E].
"""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import Tensor

from bayesrl.envs.vector.tensor_env import State, TensorEnv


def box(*high: float) -> Box:
    """Return a Box of float32 from -high to high."""
    return Box(-np.array(high, np.float32), np.array(high, np.float32))


class TensorCartPole(TensorEnv):
    """Balance a pole on a cart that is pushed left (0) or right (1); +1 a step.

    Arguments:
        num_envs, max_episode_steps, device: as TensorEnv's.
        sutton_barto_reward: -1 at the fall and 0 before.
    """

    GRAVITY, CART, POLE, HALF_LENGTH, FORCE, STEP = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    EDGE, FALL = 2.4, 12 * 2 * math.pi / 360

    single_observation_space = box(2 * EDGE, np.inf, 2 * FALL, np.inf)
    single_action_space = Discrete(2)
    max_episode_steps, min_episode_steps = 500, 8
    reset_noise = 4

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        sutton_barto_reward: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(num_envs, max_episode_steps, device)
        self.sutton_barto_reward = sutton_barto_reward

    def initial(self, noise: Tensor) -> State:
        return (noise * 0.1 - 0.05).unbind(1)

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        x, speed, angle, spin = state
        mass, moment = self.CART + self.POLE, self.POLE * self.HALF_LENGTH
        cos, sin = angle.cos(), angle.sin()
        push = (action * (2 * self.FORCE) - self.FORCE + moment * spin.square() * sin) / mass
        bend = (self.GRAVITY * sin - cos * push) / (self.HALF_LENGTH * (4 / 3 - self.POLE * cos.square() / mass))
        pull = push - moment * bend * cos / mass
        after = x + self.STEP * speed, speed + self.STEP * pull, angle + self.STEP * spin, spin + self.STEP * bend
        fallen = (after[0].abs() > self.EDGE) | (after[2].abs() > self.FALL)
        return after, -fallen.float() if self.sutton_barto_reward else torch.ones_like(x), fallen

    def observe(self, state: State) -> Tensor:
        return torch.stack(state, 1)


class TensorAcrobot(TensorEnv):
    """Swing the free end of two links above the bar by a torque of -1, 0 or 1 (0, 1, 2) between them; -1 a step."""

    STEP, GRAVITY = 0.2, 9.8  # masses, lengths and moments of inertia are 1, centers of mass in the middle
    FASTEST = 4 * math.pi, 9 * math.pi

    single_observation_space = box(1, 1, 1, 1, *FASTEST)
    single_action_space = Discrete(3)
    max_episode_steps, min_episode_steps = 500, 5
    reset_noise = 4

    def initial(self, noise: Tensor) -> State:
        return (noise * 0.2 - 0.1).unbind(1)

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        torque, h = action - 1.0, self.STEP
        k1 = self.derivative(state, torque)
        k2 = self.derivative([s + h / 2 * k for s, k in zip(state, k1, strict=True)], torque)
        k3 = self.derivative([s + h / 2 * k for s, k in zip(state, k2, strict=True)], torque)
        k4 = self.derivative([s + h * k for s, k in zip(state, k3, strict=True)], torque)
        first, second, spin, bend = (
            s + h / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)
        )
        first, second = (x - 2 * math.pi * ((x - math.pi) / (2 * math.pi)).ceil() for x in (first, second))
        spin, bend = (v.clamp(-most, most) for v, most in zip((spin, bend), self.FASTEST, strict=True))
        reached = -first.cos() - (second + first).cos() > 1
        return (first, second, spin, bend), reached.float() - 1, reached

    def derivative(self, state: State | list[Tensor], torque: Tensor) -> tuple[Tensor, ...]:
        """The equations of motion in Sutton and Barto's book, with m = l = I = 1 and centers of mass at 1/2."""
        first, second, spin, bend = state
        cos, sin = second.cos(), second.sin()
        d1, d2 = 3.5 + cos, 1.25 + 0.5 * cos
        phi2 = 0.5 * self.GRAVITY * (first + second).sin()
        phi1 = -0.5 * bend.square() * sin - bend * spin * sin + 1.5 * self.GRAVITY * first.sin() + phi2
        swing = (torque + d2 / d1 * phi1 - 0.5 * spin.square() * sin - phi2) / (1.25 - d2.square() / d1)
        return spin, bend, -(d2 * swing + phi1) / d1, swing

    def observe(self, state: State) -> Tensor:
        first, second, spin, bend = state
        return torch.stack((first.cos(), first.sin(), second.cos(), second.sin(), spin, bend), 1)


class TensorMountainCar(TensorEnv):
    """Drive an underpowered car up a hill: left (0), coast (1) or right (2); -1 a step.

    Arguments:
        num_envs, max_episode_steps, device: as TensorEnv's.
        goal_velocity: least velocity at the flag.
    """

    LEFT, RIGHT, FASTEST, FLAG, FORCE, GRAVITY = -1.2, 0.6, 0.07, 0.5, 0.001, 0.0025

    single_observation_space = Box(np.array([LEFT, -FASTEST], np.float32), np.array([RIGHT, FASTEST], np.float32))
    single_action_space: Space = Discrete(3)
    max_episode_steps, min_episode_steps = 200, 13
    reset_noise = 1

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        goal_velocity: float = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(num_envs, max_episode_steps, device)
        self.goal_velocity = goal_velocity

    def initial(self, noise: Tensor) -> State:
        return noise[:, 0] * 0.2 - 0.6, torch.zeros_like(noise[:, 0])

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        position, speed = state
        speed = speed + (action - 1).to(speed) * self.FORCE - (3 * position).cos() * self.GRAVITY
        speed = speed.clamp(-self.FASTEST, self.FASTEST)
        position = (position + speed).clamp(self.LEFT, self.RIGHT)
        speed = torch.where((position <= self.LEFT) & (speed < 0), 0, speed)
        there = (position >= self.FLAG) & (speed >= self.goal_velocity)
        return (position, speed), -torch.ones_like(position), there

    def observe(self, state: State) -> Tensor:
        return torch.stack(state, 1)


class TensorContinuousMountainCar(TensorMountainCar):
    """The same hill for an engine of any force in [-1, 1]: +100 at the flag, -0.1 times the force's square a step.

    Arguments:
        num_envs, max_episode_steps, goal_velocity, device: as TensorMountainCar's.
    """

    FLAG, FORCE = 0.45, 0.0015

    single_action_space = box(1)
    max_episode_steps = 999

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        push = action[:, 0].clamp(-1, 1)
        after, _, there = super().dynamics(state, push + 1, noise)
        return after, 100 * there - 0.1 * action[:, 0].square(), there


class TensorPendulum(TensorEnv):
    """Swing a pendulum up and hold it there, by a torque in [-2, 2]: actions [E, 1] float32.

    Arguments:
        num_envs, max_episode_steps, device: as TensorEnv's.
        g: acceleration of gravity.
    """

    FASTEST, STRONGEST, STEP = 8.0, 2.0, 0.05  # mass and length are 1

    single_observation_space = box(1, 1, FASTEST)
    single_action_space = box(STRONGEST)
    max_episode_steps, min_episode_steps = 200, 200
    reset_noise = 2

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        g: float = 10.0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(num_envs, max_episode_steps, device)
        self.g = g

    def initial(self, noise: Tensor) -> State:
        return (2 * noise[:, 0] - 1) * math.pi, 2 * noise[:, 1] - 1

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        angle, spin = state
        torque = action[:, 0].clamp(-self.STRONGEST, self.STRONGEST)
        upright = (angle + math.pi).remainder(2 * math.pi) - math.pi
        cost = upright.square() + 0.1 * spin.square() + 0.001 * torque.square()
        spin = spin + (1.5 * self.g * angle.sin() + 3 * torque) * self.STEP
        spin = spin.clamp(-self.FASTEST, self.FASTEST)
        return (angle + spin * self.STEP, spin), -cost, torch.zeros_like(angle, dtype=torch.bool)

    def observe(self, state: State) -> Tensor:
        angle, spin = state
        return torch.stack((angle.cos(), angle.sin(), spin), 1)
